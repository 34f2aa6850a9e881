"""Read zip archives safely: no path outside the folder, no links, no decompression bombs.

What an archive states about itself is not trusted: bytes are counted while they are decompressed. Only stored and
deflated files are read, since Python decompresses a block of the other methods whole, before its size is known.
"""

from __future__ import annotations

import os
import re
import stat
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from yolopose.base.errors import DataError, OutputError
from yolopose.base.files import make_folder, open_regular, output_error
from yolopose.base.text import short_text

_MAX_RATIO = 200  # of uncompressed to compressed size; images and labels have much smaller ones
_RATIO_MIN_BYTES = 50 << 20  # smaller members may have any ratio
_MAX_FILES = 1_000_000
_MAX_DIRECTORY_BYTES = 128 << 20  # the list of the files; an entry takes about ten times as much memory
_MAX_ARCHIVE_BYTES = 1 << 40
_BLOCK = 1 << 20
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
# what Python's zip reader may raise for a damaged archive
_ZIP_ERRORS = (zipfile.BadZipFile, NotImplementedError, EOFError, RuntimeError, ValueError, OverflowError, struct.error,
               zlib.error, UnicodeError)  # fmt: skip
_END = b"PK\5\6"
_END_BYTES = 22 + 65_535  # of the end record with its longest comment
_TEST_GROWTH = 4
_ENCRYPTED = 0x1
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
            with open_zip(archive) as opened:
                _extract(archive, opened, work, limit)
            entries = list(work.iterdir())
            os.replace(entries[0] if len(entries) == 1 and entries[0].is_dir() else work, folder)
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise output_error(folder, error) from error
    return folder


@contextmanager
def open_zip(archive: Path) -> Generator[zipfile.ZipFile, None, None]:
    """Open a zip archive, whose list of files is bounded; errors of the zip reader in the block become ours.

    Raises:
        DataError: it is not a zip archive, is damaged, or lists too many files.
        OSError: it cannot be read, or is not a regular file.
    """
    handle, size = open_regular(archive, _MAX_ARCHIVE_BYTES)
    with os.fdopen(handle, "rb") as file:
        try:
            _check_directory_size(archive, file, size)
            with zipfile.ZipFile(file) as opened:
                yield opened
        except DataError:
            raise
        except _ZIP_ERRORS as error:
            raise DataError(
                f"{archive} is not a valid zip archive ({short_text(str(error))}). Download it again."
            ) from error


def read_zip_member(archive: Path, opened: zipfile.ZipFile, member: zipfile.ZipInfo, limit: int) -> bytes:
    """Return the content of a file in an archive.

    Args:
        archive: the archive, for messages.
        opened: the same, opened by `open_zip`.
        member: the file.
        limit: largest content, bytes.

    Raises:
        DataError: it is larger, or cannot be read.
    """
    return b"".join(_blocks(archive, opened, member, limit))


def test_zip(archive: Path) -> None:
    """Check structure and checksums of an archive; of one that would grow far beyond its size only the structure.

    Raises:
        DataError: it is damaged, or not a zip archive.
    """
    limit = _TEST_GROWTH * archive.stat().st_size + _RATIO_MIN_BYTES
    with open_zip(archive) as opened:
        members = opened.infolist()
        if sum(member.file_size for member in members) > limit:  # `unzip` refuses it
            return
        for member in members:
            for block in _blocks(archive, opened, member, limit) if not member.flag_bits & _ENCRYPTED else ():
                limit -= len(block)


test_zip.__test__ = False  # type: ignore[attr-defined]  # pytest takes it for a test otherwise


def _check_directory_size(archive: Path, file: BinaryIO, size: int) -> None:
    """Refuse a list of files that would fill the memory, before the zip reader loads it."""
    file.seek(max(0, size - _END_BYTES))
    tail = file.read(_END_BYTES)
    position = tail.rfind(_END)
    if position < 0 or position + 20 > len(tail):
        return  # the zip reader explains it
    (directory,) = struct.unpack_from("<I", tail, position + 12)
    if directory == 0xFFFFFFFF:  # a zip64 archive: the list lies between its start and the end records
        start = tail.rfind(b"PK\6\6", 0, position)
        directory = struct.unpack_from("<Q", tail, start + 40)[0] if 0 <= start <= len(tail) - 48 else 0
    if directory > _MAX_DIRECTORY_BYTES:
        raise DataError(
            f"{archive} is refused: the list of its files has {directory} bytes, more than the limit of "
            f"{_MAX_DIRECTORY_BYTES}. Divide it into several archives."
        )


def _blocks(archive: Path, opened: zipfile.ZipFile, member: zipfile.ZipInfo, limit: int) -> Iterator[bytes]:
    """Yield the content of a file; the size stated in the archive is not trusted."""
    if member.compress_type not in _METHODS:
        raise DataError(
            f"{archive} is refused: {short_text(member.filename)} is compressed with method {member.compress_type}. "
            "Only stored and deflated files are read, as every zip program writes by default: pack it again."
        )
    count = 0
    with opened.open(member) as source:
        while block := source.read(_BLOCK):
            count += len(block)
            if count > min(limit, member.file_size):
                raise DataError(
                    f"{archive} is refused: {short_text(member.filename)} is larger than stated, or than the limit of "
                    f"{limit} bytes."
                )
            yield block


def _extract(archive: Path, opened: zipfile.ZipFile, work: Path, limit: int) -> None:
    members = opened.infolist()
    size = sum(max(member.file_size, 0) for member in members)
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
    elif not _parts(member):
        reason = f"{name!r} is not the name of a file"
    elif member.flag_bits & _ENCRYPTED:
        reason = "it is encrypted"
    elif member.file_size > _RATIO_MIN_BYTES and member.file_size > _MAX_RATIO * max(member.compress_size, 1):
        reason = f"{name!r} would grow {member.file_size // max(member.compress_size, 1)}-fold"
    if reason:
        reason = short_text(reason)
        raise DataError(f"{archive} is refused: {reason}. No data set needs that; get it from a source you trust.")


def _parts(member: zipfile.ZipInfo) -> tuple[str, ...]:
    return tuple(part for part in PurePosixPath(member.filename.replace("\\", "/")).parts if part != ".")


def _copy(archive: Path, opened: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path, remaining: int) -> int:
    """Write one file and return its size."""
    count = 0
    with target.open("xb") as file:
        for block in _blocks(archive, opened, member, remaining):
            count += len(block)
            file.write(block)
    return count
