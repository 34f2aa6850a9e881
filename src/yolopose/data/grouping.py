"""Groups of images that must stay in one split: frames of one video, copies of one image."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from yolopose.base.errors import UsageError
from yolopose.base.log import LOGGER

# Roboflow appends this to the name of the original image, for each of its augmented copies.
_COPY = re.compile(r"[_.-](jpe?g|png|bmp|webp|tiff?)[_.]rf\.\w{8,}$", re.IGNORECASE)
_NUMBERED = re.compile(r"(?P<sequence>.*?)(?P<number>\d+)", re.DOTALL)
_MAX_GAP = 100  # mean difference of consecutive frame numbers up to which numbers are frames of a video
# Folders that say nothing about the origin of an image.
_PLAIN_FOLDER = re.compile(r"(images?|imgs?|data|frames?|train|val|valid|validation|test)(\d{4})?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ImageGroups:
    """Groups of n images.

    Attributes:
        names: name of each group.
        group_idx: (n,) int64 index into `names` of each image.
        numbers: frame number of each image within its group; 0 where it has none.
    """

    names: tuple[str, ...]
    group_idx: npt.NDArray[np.int64]
    numbers: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.names)

    @property
    def sizes(self) -> npt.NDArray[np.int64]:
        """Number of images of each group."""
        return np.bincount(self.group_idx, minlength=len(self.names))

    @classmethod
    def from_keys(cls, keys: Sequence[str], numbers: Sequence[int]) -> ImageGroups:
        """Return the groups of images with the same key, in the order of their first image."""
        index = {key: position for position, key in enumerate(dict.fromkeys(keys))}
        return cls(tuple(index), np.array([index[key] for key in keys], np.int64), tuple(numbers))

    @classmethod
    def single(cls, count: int) -> ImageGroups:
        """Return one group for each of `count` images."""
        return cls(tuple(map(str, range(count))), np.arange(count), (0,) * count)

    def cut(self, size: int) -> ImageGroups:
        """Cut larger groups into runs of at most `size` images with consecutive frame numbers.

        The runs of a group have about the same length. Images with the same number, such as copies of one frame, stay
        together.
        """
        keys = [""] * len(self.group_idx)
        for group, name in enumerate(self.names):
            members = np.flatnonzero(self.group_idx == group)
            numbers = np.array([self.numbers[image] for image in members])
            # position of each image among the different frame numbers
            values, position = np.unique(numbers, return_inverse=True)
            runs = -(-len(members) // size)
            length = -(-len(values) // min(runs, len(values)))
            for image, place in zip(members, position, strict=True):
                keys[image] = f"{name}#{place // length}" if runs > 1 else name
        return ImageGroups.from_keys(keys, self.numbers)


def detect_groups(files: Sequence[Path]) -> ImageGroups:
    """Group images by their names and folders.

    - Copies of one image (`a_jpg.rf.1f3….jpg`) are one group.
    - Names that end in a number after some text (`walk_0012.png`, `img0012.png`) are frames of a sequence: those with
      the same text in the same folder are one group.
    - Names that are only a number are frames where their folder has a name of its own and the numbers are dense
      (`walk/0012.png`); others are a group each (`000000000139.jpg`).

    Args:
        files: the images.
    """
    keys: list[str] = []
    numbers: list[int] = []
    stems = [_COPY.sub("", file.stem) for file in files]
    dense = _dense_folders(files, stems)
    for file, stem in zip(files, stems, strict=True):
        match = _NUMBERED.fullmatch(stem)
        # frames of one video may be in `train/walk` and `val/walk`
        folder = "/".join(part for part in file.parent.parts if not _PLAIN_FOLDER.fullmatch(part))
        sequence = match["sequence"] if match else ""
        is_frame = match is not None and (file.parent in dense or any(letter.isalpha() for letter in sequence))
        keys.append(f"{folder}/{sequence}#" if is_frame else f"{folder}/{stem}")
        numbers.append(int(match["number"]) if match is not None and is_frame else 0)
    return ImageGroups.from_keys(keys, numbers)


def _dense_folders(files: Sequence[Path], stems: Sequence[str]) -> set[Path]:
    """Return the folders with a name of their own whose images are numbered without large gaps, as frames are."""
    numbers: dict[Path, list[int]] = {}
    for file, stem in zip(files, stems, strict=True):
        if stem.isdecimal() and not _PLAIN_FOLDER.fullmatch(file.parent.name):
            numbers.setdefault(file.parent, []).append(int(stem))
    return {folder for folder, values in numbers.items() if max(values) - min(values) < _MAX_GAP * len(values)}


def groups_by_pattern(files: Sequence[Path], pattern: str) -> ImageGroups:
    """Group images by a regular expression on their path with `/`.

    Images with the same match are one group; if the expression has a group, its first group decides. Images without a
    match are a group each, which is logged.

    Args:
        files: the images.
        pattern: the expression, searched anywhere in the path.

    Raises:
        UsageError: it is not a valid expression, or matches no image.
    """
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise UsageError(
            f"group={pattern!r} is not a valid regular expression: {error}. An example: group='(video\\d+)_'."
        ) from error
    matches = [expression.search(file.as_posix()) for file in files]
    unmatched = [file for file, match in zip(files, matches, strict=True) if match is None]
    if len(unmatched) == len(files):
        raise UsageError(
            f"group={pattern!r} matches none of the {len(files)} images; the first is {files[0].as_posix()}. The "
            "expression is searched in the whole path."
        )
    if unmatched:
        LOGGER.warning(
            f"group={pattern!r} does not match {len(unmatched)} of {len(files)} images (the first is {unmatched[0]}); "
            "each of them is a group of its own."
        )
    keys = [
        f"/{file.as_posix()}" if match is None else match[1] or "" if expression.groups else match[0]
        for file, match in zip(files, matches, strict=True)
    ]
    numbers: list[int] = []
    for file in files:
        match = _NUMBERED.fullmatch(_COPY.sub("", file.stem))
        numbers.append(int(match["number"]) if match else 0)
    return ImageGroups.from_keys(keys, numbers)
