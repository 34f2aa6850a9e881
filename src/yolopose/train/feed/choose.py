"""`fraction`: a part of the training images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from yolopose.base.errors import UsageError, did_you_mean
from yolopose.data import Annotations, LabelCounts


def choose(table: Annotations, fraction: float | int | Sequence[str | int | Path]) -> Annotations:
    """Return a table of some of the images.

    Args:
        table: the labels.
        fraction: a share (0…1] of the images or a number of them from 2, the first by path, at least one; or a list
            of images by index, file name or path. 1 means all.

    Raises:
        UsageError: a share of 0, or an image that is not there.
    """
    if isinstance(fraction, Sequence) and not isinstance(fraction, str):
        return _rows(table, np.array([_index(table, one) for one in fraction], dtype=np.int64))
    if isinstance(fraction, str) or fraction <= 0:
        raise UsageError(f"fraction={fraction!r} leaves no image; give a share up to 1.0, a number, or a list.")
    count = round(len(table) * fraction) if fraction <= 1 else int(fraction)
    count = min(max(count, 1), len(table))
    return table if count == len(table) else _rows(table, np.arange(count))


def _index(table: Annotations, image: str | int | Path) -> int:
    if isinstance(image, int):
        if 0 <= image < len(table):
            return image
        raise UsageError(f"fraction names image {image}, but there are images 0…{len(table) - 1}.")
    name = str(image)
    for index, path in enumerate(table.files):
        if name in (str(path), path.name, path.stem):
            return index
    known = [path.name for path in table.files]
    raise UsageError(f"fraction names the image {name!r}, which is not among them.{did_you_mean(name, known)}")


def _rows(table: Annotations, index: npt.NDArray[np.int64]) -> Annotations:
    if not len(index):
        raise UsageError("fraction is an empty list, which leaves no image.")
    counts = np.diff(table.offsets)[index]
    starts = table.offsets[index].tolist()
    objects = np.concatenate([np.arange(start, start + count) for start, count in zip(starts, counts, strict=True)])
    with_objects = int((counts > 0).sum())
    return replace(
        table,
        files=[table.files[one] for one in index],
        shapes=table.shapes[index],
        offsets=np.concatenate(([0], np.cumsum(counts))),
        classes=table.classes[objects],
        boxes=table.boxes[objects],
        keypoints=table.keypoints[objects],
        counts=LabelCounts(with_objects, 0, len(index) - with_objects, table.counts.refused),
    )
