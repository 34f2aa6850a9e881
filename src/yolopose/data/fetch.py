"""Download the archives of a data set and unpack them; scripts are never executed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from yolopose import zoo
from yolopose.base.archives import unzip
from yolopose.base.download import DownloadSpec, download, file_name_from_url, sha256, url_digest
from yolopose.base.errors import DownloadError
from yolopose.base.log import LOGGER
from yolopose.base.settings import load_settings

MAX_AUTOMATIC_BYTES = 1_000_000_000
"""Size up to which archives are downloaded without `download=True`."""

_MAX_BYTES = 200_000_000_000
_MAX_EXPANSION = 4  # how much larger the files of an archive of images and labels may be together
# The official COCO archives, so that the size is known before the download starts.
_KNOWN_SIZES = {"train2017.zip": 19_300_000_000, "val2017.zip": 815_000_000, "test2017.zip": 6_650_000_000}
_SPLITS = ("train", "val", "test")


def fetch_data(
    root: Path,
    urls: Sequence[str],
    *,
    large: bool | None,
    splits: Sequence[str] | None,
    checksums: Mapping[str, str] | None = None,
) -> None:
    """Download the missing parts of a data set.

    The first archive is the data set itself and becomes `root`; the others contain images and become
    `root/images/NAME`, as for COCO.

    Args:
        root: folder of the data set.
        urls: URLs of zip archives.
        large: True downloads archives of any size, None those of up to 1 GB.
        splits: splits that are needed; image archives named after others (`train2017.zip`) are skipped. None: all.
        checksums: SHA-256 that an archive must have, by its file name.

    Raises:
        DownloadError: an archive cannot be downloaded, is too large or has another SHA-256.
        DataError: it cannot be unpacked.
        OutputError: the disk is full, or a folder cannot be written.
    """
    for index, url in enumerate(urls):
        name = file_name_from_url(url, "data.zip")
        folder = root / "images" / Path(name).stem if index else root
        split = next((split for split in _SPLITS if name.startswith(split)), None)
        is_needed = index == 0 or splits is None or split is None or split in splits
        if is_needed and not folder.exists():
            _fetch_archive(zoo.mirror_url(url), name, folder, large, (checksums or {}).get(name, ""))


def _fetch_archive(url: str, name: str, folder: Path, large: bool | None, checksum: str) -> None:
    size = _KNOWN_SIZES.get(name)
    advice = "Set download=True to download it nevertheless, or copy the data there yourself."
    if size and size > MAX_AUTOMATIC_BYTES and not large:
        raise DownloadError(f"The data set needs {url}, which has {size / 1e9:.0f} GB. {advice}")
    # archives of the same name from different addresses must not be mixed up when a download is resumed
    archive = Path(load_settings().datasets_dir) / "downloads" / f"{url_digest(url)}-{name}"
    spec = DownloadSpec(
        url=url,
        title=f"the data set archive {name}",
        max_bytes=_MAX_BYTES if large else MAX_AUTOMATIC_BYTES,
        manual_hint=f"unpack it to {folder}.",
    )

    def check(file: Path) -> None:
        digest = sha256(file)
        if checksum and digest != checksum:
            file.unlink()
            raise DownloadError(
                f"{url} was downloaded, but is another file than the data YAML expects: its SHA-256 is {digest}, not "
                f"{checksum} (`download_sha256`). It was removed. If the publisher has replaced the archive, check it "
                "and update the YAML."
            )

    try:
        download(spec, archive, check)
    except DownloadError as error:
        raise DownloadError(f"{error} {advice}" if "more than the" in str(error) else str(error)) from error
    LOGGER.info(f"Unpacking {name} to {folder}.")
    unzip(archive, folder, _MAX_EXPANSION * archive.stat().st_size + 100_000_000)
    archive.unlink()
