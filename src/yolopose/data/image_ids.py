"""COCO image ids and names that are unique in a file, for any file names."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

ImageId = int | str
_MAX_DIGITS = 15  # larger integers are not exact in JSON readers that store numbers as float64


class ImageIds:
    """Assigns ids to image names: the number that the name is, as in COCO (`000000000139` is 139), else the name."""

    def __init__(self) -> None:
        self._used: set[ImageId] = set()

    def add(self, name: str) -> ImageId:
        """Return the id of a new image: an integer only if no other image has it."""
        image_id: ImageId = int(name) if is_number(name) else name
        if image_id in self._used:
            image_id = name
        number = 1
        while image_id in self._used:
            number += 1
            image_id = f"{name}_{number}"
        self._used.add(image_id)
        return image_id


def is_number(name: str) -> bool:
    """Return whether a name consists of ASCII digits and is small enough for an id."""
    return name.isascii() and name.isdecimal() and len(name.lstrip("0")) <= _MAX_DIGITS


def relative_names(files: Iterable[Path]) -> dict[Path, str]:
    """Return the path of each file relative to the folder that all of them share, with `/`."""
    unique = list(dict.fromkeys(files))
    if not unique:
        return {}
    folder = Path(os.path.commonpath([file.parent for file in unique]))
    return {file: file.relative_to(folder).as_posix() for file in unique}


def image_ids(files: Sequence[Path]) -> dict[Path, ImageId]:
    """Return an id for each file.

    It is the file name without suffix where only one file has that name, as a number if it is one; otherwise the path
    relative to the folder that all files share. Two names are equal if they are the same number.

    Args:
        files: image files; those listed twice have one id.
    """
    names = relative_names(files)
    stems = {file: int(file.stem) if is_number(file.stem) else file.stem for file in names}
    counts = Counter(stems.values())
    ids = ImageIds()
    # unique stems first, so that the id of an image does not depend on ambiguous names of others
    result = {file: ids.add(file.stem) for file in names if counts[stems[file]] == 1}
    ambiguous = {file: name.rpartition(".")[0] or name for file, name in names.items() if file not in result}
    counts = Counter(ambiguous.values())
    for file, name in ambiguous.items():
        result[file] = ids.add(name if counts[name] == 1 and not is_number(name) else names[file])
    return {file: result[file] for file in names}
