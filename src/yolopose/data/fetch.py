"""Data sets that a YAML says where to get: archives fetched and unpacked, scripts never run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from yolopose import zoo
from yolopose.base.archives import unzip
from yolopose.base.download import DownloadSpec, download
from yolopose.base.errors import DownloadError
from yolopose.base.log import LOGGER
from yolopose.base.settings import load_settings

FREE = 1_000_000_000
"""Bytes of an archive that are fetched without being asked twice."""

_LIMIT = 200_000_000_000
_UNPACKED = 4  # times that an archive of images and labels may grow
_SIZES = {"train2017.zip": 19_300_000_000, "val2017.zip": 815_000_000, "test2017.zip": 6_650_000_000}
_NAMES = ("train", "val", "test")


def fetch_data(root: Path, urls: Sequence[str], *, large: bool | None, splits: Sequence[str] | None) -> None:
    """Fetch what is missing of a data set.

    The first archive is the data set itself and becomes `root`; each further one holds images and becomes
    `root/images/NAME` (COCO's own layout).

    Args:
        root: folder of the data set.
        urls: addresses of zip archives.
        large: True fetches archives of any size, None those of up to 1 GB.
        splits: splits that are wanted; further archives named after others (`train2017.zip`) are left. None: all.

    Raises:
        DownloadError: an archive cannot be fetched, or is larger than that.
        DataError: it cannot be unpacked.
        OutputError: the disk is full, or a folder cannot be written.
    """
    for number, url in enumerate(urls):
        name = urlsplit(url).path.rsplit("/", 1)[-1]
        folder = root / "images" / Path(name).stem if number else root
        split = next((split for split in _NAMES if name.startswith(split)), None)
        if folder.exists() or (number and splits is not None and split is not None and split not in splits):
            continue
        _fetch_one(zoo.mirror_url(url), name, folder, large)


def _fetch_one(url: str, name: str, folder: Path, large: bool | None) -> None:
    size = _SIZES.get(name)
    asked = "Give download=True to fetch it all the same, or put the data there yourself."
    if size and size > FREE and not large:
        raise DownloadError(f"The data set needs {url}, which is {size / 1e9:.0f} GB. {asked}")
    archive = Path(load_settings().datasets_dir) / "downloads" / name
    wanted = DownloadSpec(
        url=url,
        title=f"the data set archive {name}",
        max_bytes=_LIMIT if large else FREE,
        manual_hint=f"unpack it to {folder}.",
    )
    try:
        download(wanted, archive)
    except DownloadError as error:
        raise DownloadError(f"{error} {asked}" if "more than the" in str(error) else str(error)) from error
    LOGGER.info(f"Unpacking {name} to {folder}.")
    unzip(archive, folder, _UNPACKED * archive.stat().st_size + 100_000_000)
    archive.unlink()
