"""The instances that checks of shapes look at: all of a small data set, an even sample of a large one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from yolopose.data.doctor.sigmas import instance_scale
from yolopose.data.doctor.survey import Survey


@dataclass(frozen=True, slots=True, eq=False)
class ShapeSample:
    """Instances of all splits, in pixels.

    Attributes:
        split: (n,) index of the split in `Survey.distinct_splits`.
        rows: (n,) index of the instance in its split.
        classes: (n,) class.
        points: (n, K) x + i·y.
        labeled: (n, K) bool.
        boxes: (n, 4) cx, cy, w, h.
        scales: (n,) root of the area that OKS uses; of the box around the keypoints where that is larger than the box.
        is_part: whether the data set has more instances.
    """

    split: npt.NDArray[np.int64]
    rows: npt.NDArray[np.int64]
    classes: npt.NDArray[np.int32]
    points: npt.NDArray[np.complex128]
    labeled: npt.NDArray[np.bool_]
    boxes: npt.NDArray[np.float64]
    scales: npt.NDArray[np.float64]
    is_part: bool


def sampled_shapes(survey: Survey) -> ShapeSample:
    """Return up to `max_shapes` instances of all splits, at even intervals."""
    if "shapes" not in survey.memo:
        survey.memo["shapes"] = _sample(survey)
    return survey.memo["shapes"]


def _sample(survey: Survey) -> ShapeSample:
    splits = survey.distinct_splits
    total = sum(len(split.classes) for split in splits)
    chosen = np.linspace(0, max(total - 1, 0), min(total, survey.max_shapes)).astype(np.int64)
    starts = np.cumsum([0, *(len(split.classes) for split in splits)])
    count = survey.spec.keypoints.count
    parts: list[tuple[npt.NDArray, ...]] = [
        (np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.int32), np.zeros((0, count, 3)), np.zeros((0, 4)))
    ]
    for number, split in enumerate(splits):
        rows = chosen[(chosen >= starts[number]) & (chosen < starts[number + 1])] - starts[number]
        rows = rows[(split.sizes[split.image_index[rows]] > 0).all(axis=1)]
        sizes = split.sizes[split.image_index[rows]][:, ::-1].astype(np.float64)
        points = split.keypoints[rows].astype(np.float64)
        points[..., :2] *= sizes[:, None]
        boxes = split.boxes[rows].astype(np.float64) * np.tile(sizes, 2)
        parts.append((np.full(len(rows), number), rows, split.classes[rows], points, boxes))
    split_index, rows, classes, points, boxes = (np.concatenate(column) for column in zip(*parts, strict=True))
    at_origin = (points[..., 0] == 0) & (points[..., 1] == 0)
    labeled = (points[..., 2] > 0) & ~at_origin
    sides = np.maximum(boxes[:, 2:], _extents(points, labeled))
    return ShapeSample(
        split=split_index,
        rows=rows,
        classes=classes,
        points=points[..., 0] + 1j * points[..., 1],
        labeled=labeled,
        boxes=boxes,
        scales=instance_scale(sides[:, 0], sides[:, 1]),
        is_part=total > survey.max_shapes,
    )


def _extents(points: npt.NDArray[np.float64], labeled: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Return (n, 2) width and height of the box around the labeled keypoints."""
    if not points.size:
        return np.zeros((len(points), 2))
    low = np.where(labeled[..., None], points[..., :2], np.inf).min(axis=1)
    high = np.where(labeled[..., None], points[..., :2], -np.inf).max(axis=1)
    return np.maximum(high - low, 0.0)  # -inf where no keypoint is labeled
