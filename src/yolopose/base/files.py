"""Atomic files and folders: written beside their target, synced, then renamed. Locks and run folders."""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Generator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from yolopose.base.errors import OutputError
from yolopose.base.log import LOGGER

_REASONS = {
    errno.ENOSPC: "the disk is full; free some space and run it again",
    errno.EDQUOT: "your disk quota is used up; free some space and run it again",
    errno.EROFS: "the disk is read-only; choose another folder (`project=…`)",
    errno.EACCES: "permission denied; choose another folder (`project=…`) or change its permissions",
    errno.EPERM: "permission denied; choose another folder (`project=…`) or change its permissions",
    errno.ENOTDIR: "a part of the path is a file, not a folder; choose another folder (`project=…`)",
    errno.EEXIST: "a part of the path is a file, not a folder; choose another folder (`project=…`)",
    errno.EISDIR: "there is a folder of this name; remove it or choose another name",
    errno.ENAMETOOLONG: "the name is too long for this file system; choose a shorter one",
}

# temporary names of `atomic_path`; mkstemp adds eight letters, digits or underscores
_TEMPORARY = re.compile(r"\..+-[a-z0-9_]{8}(\.\w+)?")


_OPEN_FLAGS = os.O_RDONLY | sum(getattr(os, name, 0) for name in ("O_BINARY", "O_CLOEXEC", "O_NOCTTY", "O_NONBLOCK"))
_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def expand_user(path: str | Path) -> Path:
    """Return a path with `~` replaced by the home folder; unchanged without a home folder, or for unknown users.

    `Path.expanduser` raises a `RuntimeError` there.
    """
    return Path(os.path.expanduser(path))


def read_regular(path: str | Path, max_bytes: int) -> bytes:
    """Read a file that others have made: data sets, images, annotations, lists.

    A pipe or a device, which would block or never end, is not read, and neither is a file above the limit, however
    large it claims to be.

    Args:
        path: the file; links are followed.
        max_bytes: size that such a file never exceeds.

    Raises:
        OSError: it does not exist, cannot be read, is not a regular file, or is too large; `strerror` states the
            reason in words.
    """
    handle, size = open_regular(path, max_bytes)
    try:
        data = read_up_to(handle, size, max_bytes)
    finally:
        os.close(handle)
    if len(data) > max_bytes:
        raise _too_large(len(data), max_bytes)
    return data


def open_regular(path: str | Path, max_bytes: int) -> tuple[int, int]:
    """Open a file as `read_regular` does, and return its descriptor, which the caller closes, and its size in bytes.

    Args:
        path: the file; links are followed.
        max_bytes: size that such a file never exceeds.

    Raises:
        OSError: as from `read_regular`.
    """
    try:
        handle = os.open(path, _OPEN_FLAGS)
    except ValueError as error:  # the name contains a NUL character
        raise OSError(errno.EINVAL, "the name is not valid") from error
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            kind = next((kind for is_kind, kind in _KINDS if is_kind(status.st_mode)), "a special file")
            number = errno.EISDIR if stat.S_ISDIR(status.st_mode) else errno.EINVAL
            raise OSError(number, f"it is {kind}, not a file")
        if status.st_size > max_bytes:
            raise _too_large(status.st_size, max_bytes)
    except OSError:
        os.close(handle)
        raise
    return handle, status.st_size


def _too_large(size: int, max_bytes: int) -> OSError:
    return OSError(errno.EFBIG, f"it has {size} bytes, more than the {max_bytes} that such files may have")


def read_up_to(handle: int, expected: int, max_bytes: int) -> bytes:
    """Read to the end of an open file, but at most one byte more than the limit.

    Args:
        handle: descriptor of the file.
        expected: number of bytes that probably follow.
        max_bytes: the limit.
    """
    data = os.read(handle, expected + 1)
    if len(data) == expected:
        return data
    blocks = [data]  # the file has changed meanwhile, or the system does not know its size
    total = len(data)
    while total <= max_bytes and (block := os.read(handle, min(max_bytes + 1 - total, 1 << 20))):
        blocks.append(block)
        total += len(block)
    return b"".join(blocks)


def output_error(path: str | Path, error: OSError) -> OutputError:
    """Return an error that explains an `OSError` raised while writing `path`, and how to fix it."""
    reason = _REASONS.get(error.errno or 0, f"{error.strerror or error}")
    return OutputError(f"Cannot write {path}: {reason}. Files that were already there are unchanged.")


def make_folder(path: str | Path) -> Path:
    """Create a folder and its parents.

    Raises:
        OutputError: it cannot be created.
    """
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(path, error) from error
    return path


@contextmanager
def atomic_path(target: str | Path, *, sync: bool = True) -> Generator[Path, None, None]:
    """Yield a temporary path beside `target`, which replaces `target` when the block succeeds.

    On any error the temporary file is removed and an older `target` stays unchanged. The temporary name keeps the
    suffix, since image and video writers choose their format by it.

    Args:
        target: the file.
        sync: whether to wait until the data is on the disk. That takes milliseconds per file, too long for the
            thousands of small files of a prediction; with False only a power failure can lose them.

    Raises:
        OutputError: the disk is full or read-only, or permission is missing.
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
        # mkstemp creates private files; set the permissions of an ordinary new file
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, target)
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise output_error(target, error) from error
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


class AtomicTextFile:
    """A text file that is written to a temporary file piece by piece, and renamed by `close`.

    Args:
        path: final path.

    Attributes:
        failed: whether it could not be written; then it does not exist.

    Raises:
        OutputError: it cannot be written, here or later.
    """

    def __init__(self, path: Path) -> None:
        self.failed = False
        with ExitStack() as stack:
            temporary = stack.enter_context(atomic_path(path))
            self._file = stack.enter_context(temporary.open("w", encoding="utf-8", newline=""))
            self._stack = stack.pop_all()

    @property
    def closed(self) -> bool:
        """Whether the file is finished."""
        return self._file.closed

    def write(self, text: str) -> None:
        """Append text."""
        try:
            self._file.write(text)
        except OSError:
            self.failed = True
            with self._stack.pop_all():  # closes and removes the file, and raises an OutputError
                raise

    def close(self) -> None:
        """Rename the file to its final path."""
        try:
            self._stack.close()
        except OSError:
            self.failed = True
            raise

    def discard(self) -> None:
        """Remove the file, unless it is finished; an older file under the final path stays."""
        discard(self._stack)


class _Discarded(Exception):
    """Makes `atomic_path` remove its temporary file."""


def discard(stack: ExitStack) -> None:
    """Close the contexts of a stack as after an error, so that an `atomic_path` in it removes its file."""
    with suppress(_Discarded), stack.pop_all():
        raise _Discarded


@contextmanager
def atomic_folder(target: str | Path, *, sync: bool = True) -> Generator[Path, None, None]:
    """Yield an empty temporary folder, which replaces `target` when the block succeeds.

    The temporary folder has the name of `target`, inside a hidden folder beside it. On any error it is removed and an
    older `target` stays unchanged.

    Args:
        target: the folder.
        sync: whether to wait until its files are on the disk; False for many files that can be made again.

    Raises:
        OutputError: the disk is full or read-only, permission is missing, or `target` is a file.
    """
    target = Path(target)
    make_folder(target.parent)
    try:
        staging = Path(tempfile.mkdtemp(prefix=".", suffix=".part", dir=target.parent))
    except OSError as error:
        raise output_error(target, error) from error
    temporary = staging / target.name
    try:
        temporary.mkdir()
        yield temporary
        for path in temporary.rglob("*") if sync else ():
            if path.is_file():
                _sync(path)
        _replace_folder(temporary, target, staging / "older")
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise output_error(target, error) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _replace_folder(new: Path, target: Path, backup: Path) -> None:
    """Rename `new` to `target`. A folder cannot be renamed onto another one, so move the older one away first."""
    if not target.is_dir():
        os.rename(new, target)
        return
    os.rename(target, backup)
    try:
        os.rename(new, target)
    except OSError:
        os.rename(backup, target)
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
    """Write `data` to `target` atomically; for `sync` see `atomic_path`.

    Raises:
        OutputError: the file cannot be written.
    """
    with atomic_path(target, sync=sync) as temporary:
        temporary.write_bytes(data)


def write_text(target: str | Path, text: str, *, sync: bool = True) -> None:
    """Write UTF-8 `text` to `target` atomically; for `sync` see `atomic_path`.

    Raises:
        OutputError: the file cannot be written.
    """
    write_bytes(target, text.encode("utf-8"), sync=sync)


def remove(path: str | Path) -> None:
    """Remove a file if it exists.

    Raises:
        OutputError: permission is missing.
    """
    try:
        Path(path).unlink(missing_ok=True)
    except OSError as error:
        raise output_error(path, error) from error


def remove_unfinished(folder: str | Path) -> None:
    """Remove temporary files of `atomic_path` that a killed process left; no other process may be writing there.

    Raises:
        OutputError: permission is missing.
    """
    for path in Path(folder).glob(".*-*"):
        if _TEMPORARY.fullmatch(path.name) and path.is_file():
            remove(path)


def make_run_folder(parent: str | Path, name: str, exist_ok: bool = False) -> Path:
    """Create `parent/name`, or `name2`, `name3`, … if that exists; concurrent processes get different folders.

    Raises:
        OutputError: the folder cannot be created.
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
