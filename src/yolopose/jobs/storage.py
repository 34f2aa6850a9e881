"""Files of a job: on this machine, or in any storage that fsspec opens (S3, Google Cloud Storage, Azure, HDFS, …).

A file is complete or absent. On a disk it is written beside its place, synced and renamed. An object store stores an
object when its upload has finished; other remote file systems get a temporary name and a rename.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from yolopose.base.errors import DependencyError, NotFoundError, OutputError, SourceError
from yolopose.base.files import atomic_path, expand_user, make_folder, output_error, remove

# "s3://", "gs://", but neither the drive letter of Windows nor a file:// URL
_URL = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)
_ATOMIC_UPLOADS = frozenset({"abfs", "abfss", "adl", "az", "gcs", "gs", "memory", "oci", "r2", "s3", "s3a"})
_RECORDS_PER_OBJECT = 500


class Storage(Protocol):
    """The folder of a job; names are relative, with `/` between folders."""

    @property
    def records_per_file(self) -> int:
        """Number of lines after which `append` should continue in another file."""
        ...

    def path(self, name: str) -> str:
        """Return the path or URL of a file."""
        ...

    def read(self, name: str) -> bytes | None:
        """Return the contents of a file; None if it does not exist."""
        ...

    def open(self, name: str) -> Any:
        """Open a file for random access; for pyarrow."""
        ...

    def write(self, name: str, data: bytes) -> None:
        """Write a file atomically.

        Raises:
            OutputError: it cannot be written.
        """
        ...

    def append(self, name: str, line: str) -> None:
        """Append a line to a text file, durably.

        Raises:
            OutputError: it cannot be written.
        """
        ...

    def new_file(self, name: str) -> Any:
        """Return a context manager that yields a `HashedFile`, stored under the name when the block succeeds.

        Raises:
            OutputError: it cannot be written.
        """
        ...

    def sizes(self, folder: str) -> Iterator[tuple[str, int]]:
        """Yield (file name without folder, bytes) of each file of a folder."""
        ...

    def remove(self, name: str) -> None:
        """Remove a file if it exists."""
        ...


class HashedFile(io.RawIOBase):
    """A binary file written from start to end, with size and SHA-256 of what was written.

    Args:
        file: open binary file; None only computes size and hash.
    """

    def __init__(self, file: Any = None) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self.size = 0

    def writable(self) -> bool:
        """Return True."""
        return True

    def write(self, data: Any) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]  # any buffer
        """Append bytes."""
        view = memoryview(data)
        self._hash.update(view)
        if self._file is not None:
            self._file.write(view)
        self.size += view.nbytes
        return view.nbytes

    def tell(self) -> int:
        """Return the number of bytes written."""
        return self.size

    @property
    def sha256(self) -> str:
        """SHA-256 of the contents, hexadecimal."""
        return self._hash.hexdigest()


def is_url(path: str) -> bool:
    """Return whether a path names a remote storage; `file://` does not."""
    return _URL.match(path) is not None and not path.lower().startswith("file://")


def open_storage(path: str | Path) -> Storage:
    """Return the storage of a job folder.

    Args:
        path: a folder of this machine, or the URL of one in a remote storage.

    Raises:
        DependencyError: fsspec, or its package for this kind of URL, is not installed.
    """
    text = str(path)
    if is_url(text):
        return RemoteStorage(text)
    return LocalStorage(expand_user(text.removeprefix("file://")))


def filesystem(url: str) -> tuple[Any, str]:
    """Return the fsspec file system of a URL, and the path in it.

    Raises:
        DependencyError: fsspec, or its package for this kind of URL, is not installed.
        SourceError: the scheme of the URL is unknown.
    """
    try:
        from fsspec.core import url_to_fs
    except ImportError as error:
        raise DependencyError(
            f'{url} needs fsspec, which is not installed. Install with: pip install "yolopose[jobs]"'
        ) from error
    protocol = url.partition("://")[0].lower()
    try:
        return url_to_fs(url)
    except ImportError as error:
        package = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "abfs": "adlfs", "az": "adlfs"}
        hint = f"pip install {package[protocol]}" if protocol in package else str(error)
        raise DependencyError(f"{protocol}:// URLs need a package that is not installed: {hint}") from error
    except ValueError as error:
        raise SourceError(f"{url} cannot be opened: {error}") from error


class LocalStorage:
    """A folder of this machine, or of a network file system that is mounted.

    Args:
        folder: the folder; created with the first file.
    """

    records_per_file = 50_000

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()

    def path(self, name: str) -> str:
        """Return the path of a file."""
        return str(self.folder / name)

    def read(self, name: str) -> bytes | None:
        """Return the contents of a file; None if it does not exist."""
        try:
            return (self.folder / name).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise SourceError(f"{self.folder / name} cannot be read: {error.strerror or error}.") from error

    def open(self, name: str) -> Any:
        """Open a file for random access."""
        return (self.folder / name).open("rb")

    def write(self, name: str, data: bytes) -> None:
        """Write a file atomically and durably."""
        with self.new_file(name) as file:
            file.write(data)

    def append(self, name: str, line: str) -> None:
        """Append a line; one that a killed process left incomplete is ended first."""
        target = self.folder / name
        make_folder(target.parent)
        try:
            is_new = not target.exists()
            with target.open("ab+") as file:
                end = file.seek(0, os.SEEK_END)
                if end and not _ends_line(file, end):
                    line = "\n" + line
                file.write(line.encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
            if is_new:
                _sync_folder(target.parent)
        except OSError as error:
            raise output_error(target, error) from error

    @contextmanager
    def new_file(self, name: str) -> Generator[HashedFile, None, None]:
        """Write beside the file's place; sync and rename when the block succeeds."""
        target = self.folder / name
        with atomic_path(target) as temporary, temporary.open("wb") as file:
            yield HashedFile(file)
        _sync_folder(target.parent)

    def sizes(self, folder: str) -> Iterator[tuple[str, int]]:
        """Yield (name, bytes) of each file of a folder."""
        with suppress(FileNotFoundError), os.scandir(self.folder / folder) as entries:
            for entry in entries:
                if entry.is_file():
                    yield entry.name, entry.stat().st_size

    def remove(self, name: str) -> None:
        """Remove a file if it exists."""
        remove(self.folder / name)


def _ends_line(file: Any, end: int) -> bool:
    file.seek(end - 1)
    return file.read(1) == b"\n"


def _sync_folder(folder: Path) -> None:
    """Make a rename durable; Windows cannot open folders and does not need it."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class RemoteStorage:
    """A folder of a remote storage that fsspec opens.

    Args:
        url: such as `s3://bucket/folder`.

    Raises:
        DependencyError, SourceError: see `filesystem`.
    """

    records_per_file = _RECORDS_PER_OBJECT

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        self._fs, root = filesystem(self._url)
        self._root = root.rstrip("/")
        protocol = self._url.partition("://")[0].lower()
        self._is_atomic = protocol in _ATOMIC_UPLOADS
        self._appended: tuple[str, str] = ("", "")  # name and text of the file that `append` extends

    def path(self, name: str) -> str:
        """Return the URL of a file."""
        return f"{self._url}/{name}"

    def read(self, name: str) -> bytes | None:
        """Return the contents of a file; None if it does not exist."""
        try:
            return self._fs.cat_file(f"{self._root}/{name}")
        except FileNotFoundError:
            return None
        except Exception as error:  # the packages of fsspec raise errors of any type
            raise SourceError(f"{self.path(name)} cannot be read: {error}") from error

    def open(self, name: str) -> Any:
        """Open a file for random access."""
        return self._fs.open(f"{self._root}/{name}", "rb")

    def write(self, name: str, data: bytes) -> None:
        """Write a file atomically."""
        try:
            self._store(name, lambda path: self._fs.pipe_file(path, data))
        except Exception as error:
            raise OutputError(f"Cannot write {self.path(name)}: {error}") from error

    def append(self, name: str, line: str) -> None:
        """Append a line by storing the whole file again, since objects cannot be extended."""
        if self._appended[0] != name:
            text = (self.read(name) or b"").decode("utf-8", "replace")
            self._appended = name, text if not text or text.endswith("\n") else text + "\n"
        text = self._appended[1] + line + "\n"
        self.write(name, text.encode())
        self._appended = name, text

    @contextmanager
    def new_file(self, name: str) -> Generator[HashedFile, None, None]:
        """Write a temporary file of this machine; upload it when the block succeeds."""
        with tempfile.TemporaryDirectory(prefix="yolopose-shard-") as folder:
            temporary = Path(folder) / "shard"
            with temporary.open("wb") as file:
                yield HashedFile(file)
            try:
                self._store(name, lambda path: self._fs.put_file(str(temporary), path))
            except Exception as error:
                raise OutputError(f"Cannot write {self.path(name)}: {error}") from error

    def _store(self, name: str, upload: Any) -> None:
        path = f"{self._root}/{name}"
        if self._is_atomic:
            upload(path)
            return
        folder, _, file = path.rpartition("/")
        temporary = f"{folder}/.{file}-{os.urandom(4).hex()}"
        self._fs.makedirs(folder, exist_ok=True)
        upload(temporary)
        self._fs.mv(temporary, path)

    def sizes(self, folder: str) -> Iterator[tuple[str, int]]:
        """Yield (name, bytes) of each file of a folder."""
        path = f"{self._root}/{folder}"
        self._fs.invalidate_cache(path)
        try:
            infos = self._fs.ls(path, detail=True)
        except FileNotFoundError:
            return
        for info in infos:
            if info["type"] == "file":
                yield info["name"].rpartition("/")[2], int(info["size"] or 0)

    def remove(self, name: str) -> None:
        """Remove a file if it exists."""
        with suppress(FileNotFoundError):
            self._fs.rm_file(f"{self._root}/{name}")


def read_remote(url: str, attempts: int = 3) -> bytes:
    """Read a remote file; connection errors are retried.

    Raises:
        NotFoundError: it does not exist.
        SourceError: it cannot be read.
    """
    from time import sleep

    fs, path = filesystem(url)
    for attempt in range(1, attempts + 1):
        try:
            return fs.cat_file(path)
        except FileNotFoundError as error:
            raise NotFoundError(f"{url} does not exist.") from error
        except Exception as error:  # the packages of fsspec raise errors of any type
            if isinstance(error, PermissionError) or attempt == attempts:
                raise SourceError(f"{url} cannot be read: {error}") from error
            sleep(2 ** (attempt - 1))
    raise AssertionError("unreachable")
