"""Output of all converters: every file of a data set is planned and checked before the first is created.

Images are copied, never linked: a later edit of an image in the data set must not reach the original, nor the reverse.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from yolopose.base.errors import DataError, OutputError
from yolopose.base.files import make_folder, output_error
from yolopose.data.paths import portable_key, relative_name, resolve_under

_SPLIT_NAMES = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
_FICLONE = 0x40049409  # ioctl of Linux: share the blocks of a file until one side is changed


def output_name(file_name: str, split: str) -> PurePosixPath:
    """Return the path of an image below `images/SPLIT`; sub-folders are preserved.

    Folders named `images`, from which the path of the label file would be derived, and a leading folder named like the
    split are omitted.

    Raises:
        DataError: `file_name` is not a safe relative path.
    """
    parts = [part for part in relative_name(file_name).parts if part != "images"]
    if len(parts) > 1 and parts[0] == split:
        del parts[0]
    return PurePosixPath(*parts)


def check_target(target: Path) -> None:
    """Check that an output folder is absent or empty.

    Raises:
        OutputError: it is not.
    """
    try:
        occupied = os.path.lexists(target) and (not target.is_dir() or any(target.iterdir()))
    except OSError as error:
        raise output_error(target, error) from error
    if occupied:
        raise OutputError(
            f"{target} already exists and is not an empty folder; nothing was written. Choose another folder "
            "(output=…; save_dir in Python) or move it away."
        )


def check_split(name: str) -> str:
    """Return the name of a split, which is the name of folders in outputs.

    Raises:
        DataError: it cannot be one; a folder `images/images` would get its labels from `images/labels`.
    """
    if len(relative_name(name or "train").parts) != 1 or name == "images":
        raise DataError(f"{name!r} must be the name of one folder other than `images`; rename it")
    return name


def split_key(name: str) -> str | None:
    """Return `train`, `val` or `test` for the name of a split that starts with or contains that word."""
    for part in re.findall(r"[a-z]+", name.lower()):
        if part in _SPLIT_NAMES:
            return _SPLIT_NAMES[part]
    return next((key for key in ("train", "val", "test") if name.lower().startswith(key)), None)


class OutputPlan:
    """The files of an output: all are planned and checked before the first is created.

    Nothing that exists is replaced or written through a link. When a conversion fails, `discard` removes what it
    created.

    Args:
        target: folder of the output. Without `main_name` it must be absent or empty.
        main_name: file name for the main file, where the user chose one; the folder may then contain other files.
    """

    def __init__(self, target: Path, main_name: str = "") -> None:
        self.target = target
        self.main_name = main_name
        self._files: dict[PurePosixPath, Path | Callable[[], bytes] | None] = {}
        self._origins: dict[str, str] = {}
        self._folders: dict[str, str] = {}
        self._created: list[Path] = []

    def add(
        self, path: str | PurePosixPath, origin: str, source: Path | Callable[[], bytes] | None = None
    ) -> PurePosixPath:
        """Plan a file.

        Args:
            path: path below the target.
            origin: where it comes from, for messages: `'a.png' of train`.
            source: the file to copy, or a function that returns its content; None for a file whose content the writer
                creates. `ImageRecord.content` is the source of an image.

        Returns:
            `path`, checked.

        Raises:
            DataError: the path is not safe, or another file has the same path (apart from case and Unicode
                composition), is a folder of it or lies below it.
        """
        path = relative_name(str(path))
        key = portable_key(path)
        if key in self._origins:
            raise DataError(
                f"{self._origins[key]} and {origin} would both be written to {path}; nothing was written. An image and "
                "its label file share one name without suffix: rename one of the images, in its folder and in the "
                "annotations."
            )
        parents = [portable_key(parent) for parent in path.parents]
        folder = next((parent for parent in parents if parent in self._origins), None)
        if key in self._folders or folder is not None:
            file, inside = (origin, self._folders[key]) if folder is None else (self._origins[folder], origin)
            raise DataError(
                f"{file} would be written to {path if folder is None else folder}, which is a folder of {inside}; "
                "nothing was written. Rename one of them."
            )
        self._origins[key] = origin
        self._files[path] = source
        for parent in parents:
            self._folders.setdefault(parent, origin)
        return path

    def main(self, default: str, origin: str) -> PurePosixPath:
        """Plan the main file, under the name that the user chose or `default`."""
        return self.add(self.main_name or default, origin)

    def check(self) -> None:
        """Check that every planned file can be created.

        Raises:
            OutputError: the target is not empty, or a file of that name exists.
            DataError: a link below the target leads out of it.
        """
        if not self.main_name:
            check_target(self.target)
            return
        for path in self._files:
            file = resolve_under(self.target, path)
            if os.path.lexists(self.target / path):
                raise OutputError(
                    f"{file} already exists and was left unchanged; nothing was written. Choose another file "
                    "(output=…) or move it."
                )

    def write(self, path: str | PurePosixPath, data: bytes | str) -> Path:
        """Create a planned file.

        Raises:
            OutputError: it exists or cannot be written.
        """
        with self.open(path) as file:
            file.write(data.encode() if isinstance(data, str) else data)
        return self.target / path

    @contextmanager
    def open(self, path: str | PurePosixPath) -> Generator[BinaryIO, None, None]:
        """Create a planned file and yield it, for content that is streamed.

        Raises:
            OutputError: it exists or cannot be written.
        """
        planned = PurePosixPath(path)
        if planned not in self._files:
            raise ValueError(f"{path} was not planned")
        with _create(resolve_under(self.target, planned)) as file:
            self._created.append(self.target / planned)
            yield file

    @contextmanager
    def external(self, path: str | PurePosixPath) -> Generator[Path, None, None]:
        """Yield the path at which a library creates a planned file by itself; it has another name until it is complete.

        Raises:
            OutputError: it cannot be written.
        """
        target = resolve_under(self.target, PurePosixPath(path))
        make_folder(target.parent)
        temporary = target.with_name(f".part-{target.name}")
        self._created.append(temporary)
        try:
            yield temporary
            self._created.append(target)
            os.link(temporary, target)  # unlike a rename, it never replaces a file
        except OSError as error:
            raise output_error(target, error) from error
        finally:
            with suppress(OSError):
                temporary.unlink()

    @property
    def copies(self) -> list[PurePosixPath]:
        """Planned copies of images that exist."""
        return [path for path, source in self._files.items() if source is not None]

    def copy(self, path: PurePosixPath) -> None:
        """Create a planned file from its source; blocks are shared copy-on-write where the file system can.

        Raises:
            DataError: the source cannot be read.
            OutputError: the copy cannot be written.
        """
        source = self._files[path]
        if source is None:
            raise ValueError(f"{path} has no source")
        if not isinstance(source, Path):
            self.write(path, source())
            return
        target = resolve_under(self.target, path)
        _copy(source, target)
        self._created.append(target)

    def discard(self) -> None:
        """Remove the files that were created, and folders that are empty then."""
        for file in self._created:
            with suppress(OSError):
                file.unlink()
        folders = {parent for file in self._created for parent in file.parents if parent.is_relative_to(self.target)}
        if not self.main_name:  # the target was absent or empty
            folders.update(Path(folder) for folder, _, _ in os.walk(self.target))
        for folder in sorted(folders, key=lambda path: len(path.parts), reverse=True):
            with suppress(OSError):  # files that are not ours
                folder.rmdir()


def create_file(path: Path, data: bytes) -> None:
    """Create a file; an existing file or link of that name is an error.

    Raises:
        OutputError: it exists already or cannot be written.
    """
    with _create(path) as file:
        file.write(data)


def _copy(source: Path, target: Path) -> None:
    try:
        original = source.open("rb")
    except OSError as error:
        raise DataError(f"The image {source} cannot be read: {error.strerror or error}.") from error
    with original, _create(target) as file:
        if not _clone(original, file):
            shutil.copyfileobj(original, file, 1 << 20)


@contextmanager
def _create(path: Path) -> Generator[BinaryIO, None, None]:
    make_folder(path.parent)
    try:
        with path.open("xb") as file:  # O_EXCL: neither an existing file nor the target of a link is opened
            yield file
    except FileExistsError as error:
        raise OutputError(f"{path} already exists and was left unchanged. Choose another output.") from error
    except OSError as error:
        raise output_error(path, error) from error


def _clone(source: BinaryIO, target: BinaryIO) -> bool:
    """Share the blocks of a file copy-on-write where the file system can (Btrfs, XFS)."""
    if sys.platform != "linux":
        return False
    import fcntl  # Unix only

    try:
        fcntl.ioctl(target, _FICLONE, source.fileno())
    except OSError:
        return False
    return True
