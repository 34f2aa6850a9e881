"""Extract zip archives safely: no path outside the folder, no links, no decompression bombs."""

from __future__ import annotations

import os
import re
import stat
import tempfile
import zipfile
from pathlib import Path, PurePosixPath

from yolopose.base.errors import DataError, OutputError
from yolopose.base.files import make_folder, output_error

_MAX_RATIO = 200  # of uncompressed to compressed size; images and labels have much smaller ones
_RATIO_MIN_BYTES = 50 << 20  # smaller members may have any ratio
_MAX_FILES = 2_000_000
_DRIVE = re.compile(r"^[A-Za-z]:")


def unzip(archive: str | Path, folder: str | Path, limit: int) -> Path:
    """Extract a zip archive into a new folder, completely or not at all.

    If the only top-level entry of the archive is a folder, its content is extracted.

    Args:
        archive: the zip file.
        folder: the folder to create.
        limit: largest total size of the extracted files, bytes.

    Returns:
        `folder`.

    Raises:
        DataError: it is not a zip file, damaged, encrypted or larger than `limit`, or has links or paths outside the
            folder; nothing is extracted then.
        OutputError: the folder already exists, or cannot be written.
    """
    archive, folder = Path(archive), Path(folder)
    if folder.exists():
        raise OutputError(f"{archive} cannot be extracted: {folder} already exists. Move or remove it first.")
    make_folder(folder.parent)
    try:
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as name:
            work = Path(name) / "content"
            work.mkdir()
            with zipfile.ZipFile(archive) as opened:
                _extract(archive, opened, work, limit)
            entries = list(work.iterdir())
            os.replace(entries[0] if len(entries) == 1 and entries[0].is_dir() else work, folder)
    except (zipfile.BadZipFile, NotImplementedError, EOFError, RuntimeError) as error:
        raise DataError(f"{archive} is not a valid zip archive ({error}). Download it again.") from error
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise output_error(folder, error) from error
    return folder


def _extract(archive: Path, opened: zipfile.ZipFile, work: Path, limit: int) -> None:
    members = opened.infolist()
    size = sum(member.file_size for member in members)
    if len(members) > _MAX_FILES or size > limit:
        raise DataError(
            f"{archive} is refused: it has {len(members)} files of {size / 1e6:.0f} MB, more than the limit of "
            f"{limit / 1e6:.0f} MB or {_MAX_FILES} files."
        )
    for member in members:  # check all before writing the first
        _check(archive, member)
    remaining = limit
    for member in members:
        target = work.joinpath(*_parts(member))
        if member.is_dir():
            target.mkdir(parents=True, exist_ok=True)
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        remaining -= _copy(archive, opened, member, target, remaining)


def _check(archive: Path, member: zipfile.ZipInfo) -> None:
    name, kind = member.filename, stat.S_IFMT(member.external_attr >> 16)
    path = PurePosixPath(name.replace("\\", "/"))
    reason = ""
    if path.is_absolute() or _DRIVE.match(name) or ".." in path.parts or "\0" in name:
        reason = f"the path {name!r} is outside the folder"
    elif kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        reason = f"{name!r} is a link or a device"
    elif member.flag_bits & 1:
        reason = "it is encrypted"
    elif member.file_size > _RATIO_MIN_BYTES and member.file_size > _MAX_RATIO * max(member.compress_size, 1):
        reason = f"{name!r} would grow {member.file_size // max(member.compress_size, 1)}-fold"
    if reason:
        raise DataError(f"{archive} is refused: {reason}. No data set needs that; get it from a source you trust.")


def _parts(member: zipfile.ZipInfo) -> tuple[str, ...]:
    return tuple(part for part in PurePosixPath(member.filename.replace("\\", "/")).parts if part != ".")


def _copy(archive: Path, opened: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path, remaining: int) -> int:
    """Write one file and return its size; the size stated in the archive is not trusted."""
    count = 0
    with opened.open(member) as source, target.open("xb") as file:
        while block := source.read(1 << 20):
            count += len(block)
            if count > min(remaining, member.file_size):
                raise DataError(f"{archive} is refused: {member.filename!r} is larger than stated.")
            file.write(block)
    return count
