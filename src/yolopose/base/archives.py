"""Archives from strangers, unpacked so that nothing leaves the folder and nothing fills the disk."""

from __future__ import annotations

import os
import re
import stat
import tempfile
import zipfile
from pathlib import Path, PurePosixPath

from yolopose.base.errors import DataError, OutputError
from yolopose.base.files import make_folder, output_error

_RATIO = 200  # times that a large member may grow; images and labels stay far below
_LARGE = 50 << 20
_FILES = 2_000_000
_DRIVE = re.compile(r"^[A-Za-z]:")


def unzip(archive: str | Path, folder: str | Path, limit: int) -> Path:
    """Unpack a zip archive into a new folder, whole or not at all.

    An archive whose only top entry is a folder gives the content of that folder.

    Args:
        archive: the zip file.
        folder: the folder to make; it must not be there.
        limit: most bytes that its files may have together.

    Returns:
        `folder`.

    Raises:
        DataError: it is no zip file or damaged; a name in it leads out of the folder; it holds links, is encrypted or
            unpacks to more than `limit`. Nothing is left of it.
        OutputError: the folder is there already, or cannot be written.
    """
    archive, folder = Path(archive), Path(folder)
    if folder.exists():
        raise OutputError(f"{archive} is not unpacked: {folder} is there already. Move or remove it first.")
    make_folder(folder.parent)
    try:
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as name:
            work = Path(name) / "content"
            work.mkdir()
            with zipfile.ZipFile(archive) as opened:
                _extract(archive, opened, work, limit)
            tops = list(work.iterdir())
            os.replace(tops[0] if len(tops) == 1 and tops[0].is_dir() else work, folder)
    except (zipfile.BadZipFile, NotImplementedError, EOFError, RuntimeError) as error:
        raise DataError(f"{archive} is no sound zip archive ({error}). Fetch it again.") from error
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise output_error(folder, error) from error
    return folder


def _extract(archive: Path, opened: zipfile.ZipFile, work: Path, limit: int) -> None:
    members = opened.infolist()
    size = sum(member.file_size for member in members)
    if len(members) > _FILES or size > limit:
        raise DataError(
            f"{archive} is not unpacked: it holds {len(members)} files of {size / 1e6:.0f} MB, more than the "
            f"{limit / 1e6:.0f} MB (or {_FILES} files) that are accepted."
        )
    for member in members:  # all are looked at before the first is written
        _check(archive, member)
    left = limit
    for member in members:
        target = work.joinpath(*_parts(member))
        if member.is_dir():
            target.mkdir(parents=True, exist_ok=True)
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        left -= _copy(archive, opened, member, target, left)


def _check(archive: Path, member: zipfile.ZipInfo) -> None:
    name, kind = member.filename, stat.S_IFMT(member.external_attr >> 16)
    path = PurePosixPath(name.replace("\\", "/"))
    reason = ""
    if path.is_absolute() or _DRIVE.match(name) or ".." in path.parts or "\0" in name:
        reason = f"the name {name!r} leads out of the folder"
    elif kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        reason = f"{name!r} is a link or a device"
    elif member.flag_bits & 1:
        reason = "it is encrypted"
    elif member.file_size > _LARGE and member.file_size > _RATIO * max(member.compress_size, 1):
        reason = f"{name!r} would grow {member.file_size // max(member.compress_size, 1)} times"
    if reason:
        raise DataError(f"{archive} is not unpacked: {reason}. No data set needs that; get it from a place you trust.")


def _parts(member: zipfile.ZipInfo) -> tuple[str, ...]:
    return tuple(part for part in PurePosixPath(member.filename.replace("\\", "/")).parts if part != ".")


def _copy(archive: Path, opened: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path, left: int) -> int:
    """Write one file; returns its size. What an archive says of itself is not believed."""
    done = 0
    with opened.open(member) as source, target.open("xb") as file:
        while block := source.read(1 << 20):
            done += len(block)
            if done > min(left, member.file_size):
                raise DataError(f"{archive} is not unpacked: {member.filename!r} is larger than it says.")
            file.write(block)
    return done
