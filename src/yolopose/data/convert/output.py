"""Output of all converters: every file of a data set is planned and checked before the first is created.

Images are copied, never linked: a later edit of an image in the data set must not reach the original, nor the reverse.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
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
