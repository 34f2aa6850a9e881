"""Files of foreign annotation formats: bounded JSON, images by their foreign names, classes that nothing declares."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any, cast

from yolopose.base.errors import DataError
from yolopose.base.files import read_regular
from yolopose.data.convert.locate import complete_size
from yolopose.data.convert.record import ClassTemplate, ImageRecord, IssueLog
from yolopose.data.paths import relative_name, resolve_under

Json = dict[str, Any]
MAX_JSON_BYTES = 1 << 30
UNNAMED = "object"  # class of instances whose source states none
_DRIVE = re.compile(r"[A-Za-z]:")
_MAX_DEPTH = 32  # folders of a foreign name that are searched
_SPLIT_FOLDERS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


def read_json(path: Path, title: str, max_bytes: int = MAX_JSON_BYTES) -> Json:
    """Read a JSON file whose content is an object.

    Args:
        path: the file.
        title: name of the format, for messages.
        max_bytes: size above which the file is refused.

    Raises:
        DataError: the file cannot be read, is too large, is not JSON or not an object.
    """
    content = read_json_value(path, title, max_bytes)
    if not isinstance(content, dict):
        raise DataError(f"{path} is not a file of {title}: its content is not a JSON object.")
    return cast(Json, content)


def read_json_value(path: Path, title: str, max_bytes: int = MAX_JSON_BYTES) -> object:
    """Read a JSON file with any content; arguments and errors as of `read_json`."""
    try:
        return json.loads(read_regular(path, max_bytes).decode("utf-8-sig"))
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path} is not a file of {title}: line {error.lineno}, column {error.colno} is not JSON "
            f"({error.msg.lower()})."
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not a file of {title}: it is not UTF-8 text.") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read as a file of {title}: {error.strerror or error}.") from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise DataError(f"{path} cannot be read as a file of {title} ({error}).") from error


def starts_with(path: Path, markers: Iterable[bytes], size: int = 1 << 16) -> bool:
    """Return whether the first bytes of a file contain all of some markers; False where it cannot be read."""
    try:
        with path.open("rb") as file:
            head = file.read(size)
    except OSError:
        return False
    return all(word in head for word in markers)


def folder_files(folder: Path, suffix: str) -> list[Path]:
    """Return the files of a suffix in a folder and its subfolders, sorted; hidden files and folders are left out.

    Links to folders are not followed.
    """
    files: list[Path] = []
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        files += [Path(parent, name) for name in names if name.lower().endswith(suffix) and not name.startswith(".")]
    return sorted(files)


def foreign_parts(name: str) -> tuple[str, ...]:
    r"""Return the parts of a foreign file name, without drive, root, `.` and `..`.

    Tools write paths of another machine: `..\images\a.jpg`, `C:\data\a.jpg`, `file:///home/me/a.jpg`.
    """
    text = name.replace("\\", "/")
    text = text.split("://", 1)[-1].split("?", 1)[0]
    text = _DRIVE.sub("", text, count=1) if _DRIVE.match(text) else text
    return tuple(part for part in text.split("/") if part not in ("", ".", ".."))


class ForeignLocator:
    """Find image files by names of another machine.

    The longest ending of a name that exists is used: for `C:/data/cam1/a.jpg` first `data/cam1/a.jpg`, then
    `cam1/a.jpg`, then `a.jpg`. Nothing outside the folders is ever returned.

    Args:
        roots: folders to search, in this order.
        names: all names, if known beforehand: a name that occurs in two folders is not searched without them.
    """

    def __init__(self, roots: Iterable[Path], names: Iterable[str] = ()) -> None:
        self._roots = list(dict.fromkeys(roots))
        self._counts = Counter(parts[-1] for parts in map(foreign_parts, names) if parts)

    def find(self, name: str, issues: IssueLog, first: Path | None = None) -> Path | None:
        """Return the file of an image, or None, which is logged.

        Args:
            name: the name as written in the file.
            issues: log of images that were not found.
            first: a folder to search before the others.
        """
        roots = self._roots if first is None else [first, *self._roots]
        parts = foreign_parts(name)[-_MAX_DEPTH:]
        for start in range(len(parts)):
            if start and start == len(parts) - 1 and self._counts[parts[-1]] > 1:
                break
            for root in roots:
                path = _existing(root, PurePosixPath(*parts[start:]))
                if path is not None:
                    return path
        issues.change(
            "images were not found",
            name,
            f"Searched {', '.join(map(str, roots))}; give their folder with images=… (copied if needed)",
        )
        return None


def _existing(root: Path, tail: PurePosixPath) -> Path | None:
    try:
        # os.path.isfile is False, not an error, for names that a file system cannot have
        return resolve_under(root, tail) if os.path.isfile(root / tail) else None
    except (DataError, ValueError):
        return None


def fill_size(image: ImageRecord, issues: IssueLog) -> None:
    """Complete the size of an image, as `complete_size` does; formats without sizes have nothing to report."""
    complete_size(image, issues if image.size else IssueLog())


def split_and_name(path: PurePosixPath, default: str) -> tuple[str, str]:
    """Return the split and the name of an image: a first folder `train`, `val`, `valid` or `test` is its split.

    A folder `images` in front is not part of the name.

    Args:
        path: path of the image below the source.
        default: split of images in other folders.
    """
    if len(path.parts) > 1 and path.parts[0] == "images":
        path = PurePosixPath(*path.parts[1:])
    split = _SPLIT_FOLDERS.get(path.parts[0].lower(), "") if len(path.parts) > 1 else ""
    return (split, PurePosixPath(*path.parts[1:]).as_posix()) if split else (default, path.as_posix())


def folder_name(image: ImageRecord) -> PurePosixPath:
    """Return the path of an image in a folder with a folder for each split.

    Raises:
        DataError: the name of the image is not a safe relative path.
    """
    return PurePosixPath(image.split, relative_name(image.name)) if image.split else relative_name(image.name)


def collect_classes(images: Iterable[ImageRecord], declared: Sequence[ClassTemplate] = ()) -> tuple[ClassTemplate, ...]:
    """Return the classes of images, each with the keypoints that occur, in the order in which they first occur.

    Args:
        images: all images; instances without a class are left out.
        declared: classes that are known already; their keypoints come first.
    """
    names: dict[str, dict[str, None]] = {template.name: dict.fromkeys(template.keypoints) for template in declared}
    for image in images:
        for instance in image.instances:
            if instance.category:
                names.setdefault(instance.category, {}).update(dict.fromkeys(instance.points))
    known = {template.name: template for template in declared}
    classes: list[ClassTemplate] = []
    for name, points in names.items():
        template = known.get(name, ClassTemplate(name=name))
        if len(points) > len(template.keypoints):
            template = replace(template, keypoints=tuple(points))
        classes.append(template)
    return tuple(classes)


def extend_classes(stored: Sequence[ClassTemplate], current: Sequence[ClassTemplate]) -> tuple[ClassTemplate, ...]:
    """Return stored classes with the keypoints that were added since, and classes that are new.

    Args:
        stored: classes of the class file; empty without one.
        current: classes of the annotations, which someone may have edited.
    """
    classes = {template.name: template for template in stored}
    for template in current:
        known = classes.setdefault(template.name, template)
        added = tuple(name for name in template.keypoints if name not in known.keypoints)
        classes[template.name] = replace(known, keypoints=known.keypoints + added)
    return tuple(classes.values())


def merge_unnamed(classes: Sequence[ClassTemplate]) -> tuple[tuple[ClassTemplate, ...], str]:
    """Return the classes without `UNNAMED` if there is only one other, and the class of instances that state none."""
    named = [template for template in classes if template.name != UNNAMED]
    if len(named) != 1 or len(named) == len(classes):
        return tuple(classes), named[0].name if len(named) == 1 else UNNAMED
    unnamed = next(template for template in classes if template.name == UNNAMED)
    points = tuple(dict.fromkeys((*named[0].keypoints, *unnamed.keypoints)))
    return (replace(named[0], keypoints=points),), named[0].name
