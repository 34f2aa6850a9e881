"""Files that are either whole or not there: written beside their target, synced, then renamed."""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from yolopose.base.errors import OutputError
from yolopose.base.log import LOGGER

_REASONS = {
    errno.ENOSPC: "the disk is full; free some space and run it again",
    errno.EDQUOT: "your disk quota is used up; free some space and run it again",
    errno.EROFS: "the disk is read-only; choose another folder (`project=…`)",
    errno.EACCES: "you have no right to write there; choose another folder (`project=…`) or change its rights",
    errno.EPERM: "you have no right to write there; choose another folder (`project=…`) or change its rights",
    errno.ENOTDIR: "a file stands where a folder is needed; choose another folder (`project=…`)",
    errno.EEXIST: "a file stands where a folder is needed; choose another folder (`project=…`)",
    errno.EISDIR: "a folder stands where the file should go; remove it or choose another name",
    errno.ENAMETOOLONG: "the name is too long for this file system; choose a shorter one",
}

# names that `atomic_path` gives; mkstemp adds eight letters, digits and underlines
_TEMPORARY = re.compile(r"\..+-[a-z0-9_]{8}(\.\w+)?")


def output_error(path: str | Path, error: OSError) -> OutputError:
    """Turn an `OSError` met while writing `path` into one paragraph that says how to mend it."""
    reason = _REASONS.get(error.errno or 0, f"{error.strerror or error}")
    return OutputError(f"Cannot write {path}: {reason}. Files that were already there are unchanged.")


def make_folder(path: str | Path) -> Path:
    """Make a folder and its parents.

    Raises:
        OutputError: it cannot be made.
    """
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(path, error) from error
    return path


@contextmanager
def atomic_path(target: str | Path, *, sync: bool = True) -> Generator[Path, None, None]:
    """Return a temporary path beside `target`; when the block ends well, it is synced and renamed onto it.

    On any error the temporary file is removed and an older `target` stands as it was. The temporary
    name keeps the suffix, since image and video writers choose their format by it.

    Args:
        target: the file.
        sync: whether to wait until the disk holds it. Costs milliseconds, which the thousands of small files of a
            prediction run cannot afford: False leaves them to the system, so that only a power cut could lose them.

    Raises:
        OutputError: the disk is full or read-only, or rights are missing.
    """
    target = Path(target)
    make_folder(target.parent)
    try:
        handle, name = tempfile.mkstemp(prefix=f".{target.stem[:40]}-", suffix=target.suffix, dir=target.parent)
    except OSError as error:
        raise output_error(target, error) from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        if sync:
            _sync(temporary)
        # mkstemp makes files private; a result has the rights that an ordinary new file would have
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, target)
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise output_error(target, error) from error
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


@contextmanager
def atomic_folder(target: str | Path, *, sync: bool = True) -> Generator[Path, None, None]:
    """Return an empty folder of the name of `target` in a hidden one beside it; moved there when the block ends well.

    Its files are synced before. A folder that stood there is replaced whole, and only when the new one is complete;
    on any error the new one is removed and the older one stands as it was.

    Args:
        target: the folder.
        sync: whether to wait until the disk holds its files; False for tens of thousands that can be had again.

    Raises:
        OutputError: the disk is full or read-only, rights are missing, or a file stands at `target`.
    """
    target = Path(target)
    make_folder(target.parent)
    try:
        workshop = Path(tempfile.mkdtemp(prefix=".", suffix=".part", dir=target.parent))
    except OSError as error:
        raise output_error(target, error) from error
    temporary = workshop / target.name
    try:
        temporary.mkdir()
        yield temporary
        for path in temporary.rglob("*") if sync else ():
            if path.is_file():
                _sync(path)
        _replace_folder(temporary, target, workshop / "older")
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise output_error(target, error) from error
    finally:
        shutil.rmtree(workshop, ignore_errors=True)


def _replace_folder(new: Path, target: Path, aside: Path) -> None:
    """Rename `new` to `target`; a folder cannot be renamed onto another, so the older one steps aside first."""
    if not target.is_dir():
        os.rename(new, target)
        return
    os.rename(target, aside)
    try:
        os.rename(new, target)
    except OSError:
        os.rename(aside, target)
        raise


@contextmanager
def exclusive_access(target: Path, reason: str) -> Generator[bool, None, None]:
    """Hold a lock that belongs to `target` among processes, in a hidden file beside it.

    Args:
        target: the file; its folder must exist.
        reason: why another process may hold the lock, for the log line printed while waiting.

    Yields:
        Whether another process held the lock before.

    Raises:
        OutputError: the lock file cannot be written.
    """
    from filelock import FileLock, Timeout  # costs some 30 ms to import

    lock = FileLock(target.with_name(f".{target.name}.lock"))
    waited = False
    try:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            LOGGER.info(f"Waiting: {reason}.")
            waited = True
            lock.acquire()
    except OSError as error:
        raise output_error(target, error) from error
    try:
        yield waited
    finally:
        lock.release()


def write_bytes(target: str | Path, data: bytes, *, sync: bool = True) -> None:
    """Write `data` to `target`, whole or not at all; for `sync` see `atomic_path`.

    Raises:
        OutputError: the file cannot be written.
    """
    with atomic_path(target, sync=sync) as temporary:
        temporary.write_bytes(data)


def write_text(target: str | Path, text: str, *, sync: bool = True) -> None:
    """Write UTF-8 `text` to `target`, whole or not at all; for `sync` see `atomic_path`.

    Raises:
        OutputError: the file cannot be written.
    """
    write_bytes(target, text.encode("utf-8"), sync=sync)


def remove(path: str | Path) -> None:
    """Remove a file that is there.

    Raises:
        OutputError: rights are missing.
    """
    try:
        Path(path).unlink(missing_ok=True)
    except OSError as error:
        raise output_error(path, error) from error


def remove_unfinished(folder: str | Path) -> None:
    """Remove what a killed process left of files that it was writing; nobody else may be writing there.

    Raises:
        OutputError: rights are missing.
    """
    for path in Path(folder).glob(".*-*"):
        if _TEMPORARY.fullmatch(path.name) and path.is_file():
            remove(path)


def make_run_folder(parent: str | Path, name: str, exist_ok: bool = False) -> Path:
    """Make `parent/name`, or `name2`, `name3`, … when that is taken; two processes never get the same.

    Raises:
        OutputError: the folder cannot be made.
    """
    parent = make_folder(parent)
    if exist_ok:
        return make_folder(parent / name)
    number = 1
    while True:
        folder = parent / (name if number == 1 else f"{name}{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            number += 1
        except OSError as error:
            raise output_error(folder, error) from error
        else:
            return folder


def _sync(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
