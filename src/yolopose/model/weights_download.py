"""Download weights once, and verify the files of earlier downloads."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from yolopose import zoo
from yolopose.base.download import (
    DownloadSpec,
    checksum_file,
    download,
    file_name_from_url,
    git_blob_id,
    read_record,
    url_digest,
    verify_checksum,
)
from yolopose.base.log import LOGGER
from yolopose.base.settings import load_settings

_MAX_BYTES = 2_000_000_000  # the largest public pose weights have 150 MB


def verified(path: Path) -> Path:
    """Return a file of the weights folder after comparing it with the checksum of its download, if it has one.

    Raises:
        DownloadError: the file has changed since.
    """
    verify_checksum(path)
    return path


def public_weights(name: str, url: str) -> Path:
    """Return the public weights of this name.

    The weights folder may hold a file of this name from another source. It is used only if its record names the
    publisher's address, or if it has no record, which means that the user put it there.
    """
    target = Path(load_settings().weights_dir) / name
    record = read_record(target)
    if target.exists():
        if record is None or record.is_of(zoo.public_weights_source(name) or url):
            return verified(target)
        if not record.source and git_blob_id(target) == zoo.observed_blob_id(name):
            return target
        LOGGER.warning(
            f"{target} is not known to come from {zoo.public_weights_source(name)}, so it is downloaded again. (Remove "
            f"{checksum_file(target)} to keep the file as your own.)"
        )
    spec = DownloadSpec(
        url=url,
        title=f"the weights {name}",
        max_bytes=_MAX_BYTES,
        license=zoo.public_weights_license(),
        manual_hint=f"put it into {target.parent} or into the current folder.",
        source=zoo.public_weights_source(name) or url,
    )
    return download(spec, target, partial(_check_public_weights, name))


def weights_from_url(url: str) -> Path:
    """Return the file at an address. Each address has a folder, so that equal file names do not collide."""
    name = file_name_from_url(url, "weights.pt")
    target = Path(load_settings().weights_dir) / "urls" / url_digest(url) / name
    if target.exists():
        return verified(target)
    spec = DownloadSpec(
        url=url,
        title=f"the weights {name}",
        max_bytes=_MAX_BYTES,
        manual_hint="open it by its path.",
    )
    return download(spec, target, partial(_check_weights, name))


def _check_weights(name: str, path: Path) -> None:
    """Reject a download that the restricted reader cannot read."""
    if name.endswith((".pt", ".pth", ".safetensors")):
        from yolopose.weights import read_checkpoint

        read_checkpoint(path)


def _check_public_weights(name: str, path: Path) -> None:
    _check_weights(name, path)
    observed = zoo.observed_blob_id(name)
    if observed and git_blob_id(path) != observed:
        LOGGER.warning(
            f"{name} differs from the file observed when this version was released (git id {observed}): the publisher "
            "may have changed it."
        )
