"""Local files of foreign models: of the current or the weights folder, or downloaded and unpacked once."""

from __future__ import annotations

import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from yolopose.base.archives import open_zip, read_zip_member
from yolopose.base.errors import DataError, DownloadError, NotFoundError, WeightsError
from yolopose.base.files import make_folder, remove, write_bytes, write_text
from yolopose.base.settings import load_settings
from yolopose.foreign.bundle import bundle, packed_graphs
from yolopose.foreign.table import ForeignModel

_MAX_BYTES = 2_000_000_000
_MAX_MEMBER = 1_500_000_000


def foreign_file(row: ForeignModel) -> Path:
    """Return the local file of a model; it is downloaded if neither the current nor the weights folder has it.

    Raises:
        NotFoundError: no graph of the model is published.
        DownloadError: it cannot be downloaded, or the file differs from the one that the table describes.
    """
    from yolopose.base.download import verify_checksum  # loads the HTTP client

    name = f"{row.name}{row.suffix}"
    if Path(name).exists():
        return Path(name)
    target = Path(load_settings().weights_dir) / name
    if target.exists():
        verify_checksum(target)
        return target
    if not row.url:
        raise NotFoundError(
            f"{row.name} has no published graph that yolopose could download. {row.convert}, and save the ONNX file as "
            f"{name} in the current folder or in {target.parent}, or open it by its path. Project: {row.source}"
        )
    _download(row, target)
    return target


def _download(row: ForeignModel, target: Path) -> None:
    """Download the file of a row, and unpack it if it is an archive."""
    from yolopose.base.download import DownloadSpec, checksum_file, download, sha256

    file = row.url.rsplit("/", 1)[-1]
    spec = DownloadSpec(
        url=row.url,
        title=f"the weights {row.name}",
        max_bytes=_MAX_BYTES,
        license=f"{row.license}; training data: {row.data}",
        manual_hint=f"open it by its path, or put its graph into {target.parent} as {target.name}.",
    )
    if not row.member:
        download(spec, target, _checksum_check(row))
        return
    archive = make_folder(target.parent) / file
    download(spec, archive, _checksum_check(row))
    try:
        write_bytes(target, _unpack(row, archive))
        write_text(checksum_file(target), f"{sha256(target)}  {target.name}\n# {row.url}\n")
    finally:
        remove(archive)
        remove(checksum_file(archive))


def _checksum_check(row: ForeignModel) -> Callable[[Path], None]:
    from yolopose.base.download import sha256

    def check(path: Path) -> None:
        if row.sha256 and sha256(path) != row.sha256:
            raise DownloadError(
                f"The file at {row.url} differs from the one that the maintainers of yolopose have seen (SHA-256 "
                f"{row.sha256}), and was removed. Its publisher may have changed it: get it from {row.source} and open "
                "it by its path."
            )

    return check


def _unpack(row: ForeignModel, archive: Path) -> bytes:
    """Return the content of the local file: a graph, or a bundle of two."""
    graph = read_member(archive, row.member)
    if not row.detector:
        return graph
    detectors = packed_graphs(read_member(archive, row.detector))
    # the package of hands holds a full and a lite detector, in this order
    return bundle(graph, detectors[-1] if "lite" in row.member else detectors[0])


def read_member(archive: Path, name: str) -> bytes:
    """Return a file of a zip or tar archive by its name without folders; nothing is extracted to disk.

    Raises:
        WeightsError: the archive is damaged or does not contain the file.
    """
    try:
        if zipfile.is_zipfile(archive):
            with open_zip(archive) as opened:
                entry = next(item for item in opened.infolist() if PurePosixPath(item.filename).name == name)
                return read_zip_member(archive, opened, entry, _MAX_MEMBER)
        with tarfile.open(archive) as opened:
            return _read_tar_member(opened, name)
    except StopIteration:
        raise WeightsError(f"{archive} does not contain {name}. Download it again, or update yolopose.") from None
    except (DataError, tarfile.TarError, OSError, EOFError, RuntimeError, ValueError, zlib.error) as error:
        raise WeightsError(f"{archive} is damaged ({error}). Download it again.") from error


def _read_tar_member(archive: tarfile.TarFile, name: str) -> bytes:
    """Return a file of a tar archive; what is skipped counts, since it is decompressed too."""
    total = 0
    for item in archive:
        total += item.size
        if total > _MAX_MEMBER:
            raise tarfile.ReadError(f"it holds more than {_MAX_MEMBER} bytes in front of {name}")
        if item.isfile() and PurePosixPath(item.name).name == name:
            stream = archive.extractfile(item)
            return b"" if stream is None else stream.read(_MAX_MEMBER)
    raise StopIteration
