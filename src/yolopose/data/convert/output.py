"""Output of all converters: every file of a data set is planned and checked before the first is created.

Images are copied, never linked: a later edit of an image in the data set must not reach the original, nor the reverse.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import yaml

from yolopose.base.errors import DataError, OutputError
from yolopose.base.files import make_folder, output_error
from yolopose.base.log import LOGGER
from yolopose.data.paths import portable_key, relative_name, resolve_under
from yolopose.schema import PoseSpec

_FICLONE = 0x40049409  # ioctl of Linux: share the blocks of a file until one side is changed


@dataclass(frozen=True, slots=True)
class PlannedImage:
    """An image of a converted data set.

    Attributes:
        name: path below `images/SPLIT`; the label file has the same path below `labels/SPLIT`.
        source: the file to copy; None when it was not located.
        label: content of the label file.
    """

    name: PurePosixPath
    source: Path | None
    label: str


@dataclass(frozen=True, slots=True)
class PlannedSplit:
    """A split of a converted data set.

    Attributes:
        name: folder below `images` and `labels`.
        images: its images.
        record: content of `labels/SPLIT.coco.json`.
    """

    name: str
    images: Sequence[PlannedImage]
    record: Mapping[str, Any]


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


def check_clashes(splits: Sequence[PlannedSplit]) -> None:
    """Check that all files can exist beside each other on every file system.

    Raises:
        DataError: two files would have the same path (apart from case and Unicode composition), or one file is the
            folder of another.
    """
    origins: dict[str, str] = {"data.yaml": "the data YAML"}
    folders: dict[str, str] = {}
    for path, origin in _outputs(splits):
        key = portable_key(path)
        other = origins.setdefault(key, origin)
        if other is not origin:
            raise DataError(
                f"{other} and {origin} would both be written to {path}; nothing was written. An image and its label "
                "file share one name without suffix: rename one of the images, in its folder and in the annotations."
            )
        for parent in path.parents:
            folders.setdefault(portable_key(parent), origin)
    for key in sorted(origins.keys() & folders.keys()):
        raise DataError(
            f"{origins[key]} would be written to {key}, which is a folder of {folders[key]}; nothing was written. "
            "Rename one of them."
        )


def _outputs(splits: Sequence[PlannedSplit]) -> Iterator[tuple[PurePosixPath, str]]:
    """Yield each path below the output folder, with a description of where it comes from."""
    for split in splits:
        yield PurePosixPath("labels", f"{split.name}.coco.json"), f"the annotations of {split.name}"
        for image in split.images:
            origin = f"{image.name.as_posix()!r} of {split.name}"
            yield PurePosixPath("images", split.name, image.name), origin
            yield _label_name(split, image), origin


def _label_name(split: PlannedSplit, image: PlannedImage) -> PurePosixPath:
    return PurePosixPath("labels", split.name, image.name.with_suffix(".txt"))


def locate_images(file_names: Sequence[str], split: str, roots: Sequence[Path], target: Path) -> list[Path | None]:
    """Return the file of each image, None if there is none below the roots, and warn of those.

    Args:
        file_names: names as written in the annotations.
        split: name of the split, which may be a folder of the images.
        roots: folders to search; files outside them are never used.
        target: output folder, for the warnings.
    """
    names = [relative_name(file_name) for file_name in file_names]
    folders = [PurePosixPath(folder) for folder in (split, f"images/{split}", "images", "")]
    # a name without its folders is unambiguous only if it occurs once
    counts = Counter(name.name for name in names)
    sources: list[Path | None] = []
    outside: list[str] = []
    for name in names:
        spellings = [name, PurePosixPath(name.name)] if counts[name.name] == 1 else [name]
        candidates = ((root, folder / spelling) for spelling in spellings for root in roots for folder in folders)
        # os.path.isfile is False, not an error, for paths that are too long
        root, path = next(((root, path) for root, path in candidates if os.path.isfile(root / path)), (None, name))
        try:
            sources.append(resolve_under(root, path) if root else None)
        except DataError as error:
            outside.append(str(error))
            sources.append(None)
    advice = f"Copy them to {target / 'images' / split}, or give their folder (images=…; images_dir in Python)."
    if outside:
        LOGGER.warning(f"{len(outside)} of {len(names)} images of {split} were not copied: {outside[0]}. {advice}")
    missing = sources.count(None) - len(outside)
    if missing:
        searched = ", ".join(dict.fromkeys(str(root / folder) for root in roots for folder in folders))
        LOGGER.warning(f"{missing} of {len(names)} images of {split} were not found (searched {searched}). {advice}")
    return sources


def write_dataset(target: Path, splits: Sequence[PlannedSplit], spec: PoseSpec) -> Path:
    """Write labels, records, images and data YAML; nothing that exists is replaced or written through.

    Returns:
        The data YAML.

    Raises:
        DataError: the plan has clashes.
        OutputError: `target` is not empty, or cannot be written.
    """
    check_clashes(splits)
    check_target(target)
    for split in splits:
        make_folder(target / "images" / split.name)
        make_folder(target / "labels" / split.name)
        for image in split.images:
            create_file(resolve_under(target, _label_name(split, image)), image.label.encode())
        create_file(target / "labels" / f"{split.name}.coco.json", json.dumps(split.record).encode())
        for image in split.images:
            if image.source is not None:
                _copy(image.source, resolve_under(target, PurePosixPath("images", split.name, image.name)))
    return _write_yaml(target, [split.name for split in splits], spec)


def _write_yaml(target: Path, splits: Sequence[str], spec: PoseSpec) -> Path:
    """Write the data YAML: splits named train…, val… and test… are these; otherwise the first is train and val."""
    entries: dict[str, str] = {}
    for key in ("train", "val", "test"):
        folder = next((f"images/{name}" for name in splits if name.lower().startswith(key)), None)
        if folder:
            entries[key] = folder
    if not entries:
        entries = dict.fromkeys(("train", "val"), f"images/{splits[0]}")
    content = {"path": str(target.resolve()), **entries, **spec.to_dict()}
    if content["flip_idx"] is None:
        LOGGER.warning(
            "flip_idx cannot be inferred from the keypoint names (left_…, right_…): the data YAML has no flip_idx, and "
            "training will not mirror images. Add it: entry i is the keypoint that keypoint i becomes in a mirror."
        )
    text = yaml.safe_dump({key: value for key, value in content.items() if value}, sort_keys=False, allow_unicode=True)
    path = target / "data.yaml"
    header = "# Converted by yolopose; areas and crowds are in labels/*.coco.json.\n"
    create_file(path, (header + text).encode())
    return path


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
