"""Suppression of duplicate detections: greedy, exact, one image at a time, in numpy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from yolopose.base.log import warn_once
from yolopose.config import PredictOptions, ValOptions
from yolopose.runtime.protocol import Candidates
from yolopose.schema import ModelMetadata

Float32 = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

# Candidates are taken in blocks, so that the pairs compared at once stay a small matrix (256² floats fit the
# cache) and the work stops as soon as `max_det` boxes are kept.
_BLOCK = 256


@dataclass(frozen=True, slots=True)
class Detections:
    """What is left of one image's candidates, by falling score, in network-input pixels.

    Attributes:
        boxes: (n, 4) float32 x1, y1, x2, y2.
        scores: (n,) float32, 0…1.
        classes: (n,) int64.
        points: (n, K, D) float32.
        sigmas: (n, K, 2) float32, σ of each point; None where the engine does not tell.
    """

    boxes: Float32
    scores: Float32
    classes: npt.NDArray[np.int64]
    points: Float32
    sigmas: Float32 | None = None

    def __len__(self) -> int:
        return len(self.scores)


def nms(candidates: Candidates, count: int, *, iou: float, max_det: int, agnostic: bool = False) -> list[Detections]:
    """Remove duplicates: by falling score, a box is dropped when its IoU with a kept one exceeds `iou`.

    Args:
        candidates: of a batch; when `nms_done` is set, they are only cut to `max_det`.
        count: images in the batch.
        iou: limit 0…1; pairs above it are duplicates.
        max_det: at most so many are kept of each image, the highest.
        agnostic: compare boxes of all classes with each other instead of those of one class.

    Returns:
        One `Detections` for each image; among equal scores the earlier candidate comes first.
    """
    bounds = np.searchsorted(candidates.image, np.arange(count + 1)).tolist()
    return [_of_one(candidates, start, stop, iou, max_det, agnostic) for start, stop in pairwise(bounds)]


def _of_one(candidates: Candidates, start: int, stop: int, iou: float, max_det: int, agnostic: bool) -> Detections:
    """The detections of one image, whose candidates are the rows from start to stop."""
    kept = start + np.argsort(-candidates.scores[start:stop], kind="stable")
    if not candidates.nms_done:
        classes = None if agnostic else candidates.classes[kept]
        kept = kept[_greedy(candidates.boxes[kept], classes, iou, max_det)]
    kept = kept[:max_det]
    return Detections(
        boxes=candidates.boxes[kept],
        scores=candidates.scores[kept],
        classes=candidates.classes[kept],
        points=candidates.points[kept],
        sigmas=None if candidates.sigmas is None else candidates.sigmas[kept],
    )


def _greedy(boxes: Float32, classes: npt.NDArray[np.int64] | None, iou: float, max_det: int) -> npt.NDArray[np.int64]:
    """Indices of the boxes that survive, in order, at least the first `max_det`; boxes stand by falling score."""
    kept = np.empty(0, dtype=np.int64)
    for start in range(0, len(boxes), _BLOCK):
        if len(kept) >= max_det:
            break
        block = np.arange(start, min(start + _BLOCK, len(boxes)))
        if len(kept):
            block = block[~_duplicates(boxes, classes, kept, block, iou).any(axis=0)]
        pairs = _duplicates(boxes, classes, block, block, iou)
        kept = np.concatenate((kept, block[_survivors(pairs)]))
    return kept


def _survivors(pairs: Mask) -> Mask:
    """Greedy choice within a block: row i removes the later columns that it marks, unless i itself was removed."""
    alive = np.ones(len(pairs), dtype=np.bool_)
    later = np.triu(pairs, k=1)
    for index in np.flatnonzero(later.any(axis=1)):  # the others remove nothing
        if alive[index]:
            alive &= ~later[index]
    return alive


def _duplicates(
    boxes: Float32,
    classes: npt.NDArray[np.int64] | None,
    rows: npt.NDArray[np.int64],
    columns: npt.NDArray[np.int64],
    iou: float,
) -> Mask:
    """(rows, columns) mask of the pairs of one class whose IoU exceeds the limit; float32 throughout."""
    x1, y1, x2, y2 = boxes[rows].T[..., None]
    u1, v1, u2, v2 = boxes[columns].T
    width = np.minimum(x2, u2)
    width -= np.maximum(x1, u1)
    height = np.minimum(y2, v2)
    height -= np.maximum(y1, v1)
    np.maximum(width, 0, out=width)
    common = width
    common *= np.maximum(height, 0, out=height)
    union = (x2 - x1) * (y2 - y1) + (u2 - u1) * (v2 - v1)
    union -= common
    with np.errstate(invalid="ignore", divide="ignore"):  # two boxes without area are no duplicates
        common /= union
        mask = common > iou
    if classes is not None:
        mask &= classes[rows][:, None] == classes[columns]
    return mask


def warn_built_in_nms(metadata: ModelMetadata, conf: float, options: PredictOptions | ValOptions) -> None:
    """Warn where a file suppresses by itself (`nms=True`) and by other rules than the options ask for.

    Args:
        metadata: of the file.
        conf: the smallest confidence that is asked for.
        options: the other thresholds.
    """
    inside = metadata.args.get("nms")
    if not isinstance(inside, Mapping):
        return
    pairs = {
        "conf": (conf, inside.get("conf"), conf < float(inside.get("conf", 0))),
        "iou": (options.iou, inside.get("iou"), options.iou != inside.get("iou")),
        "max_det": (options.max_det, inside.get("max_det"), options.max_det > int(inside.get("max_det", 0))),
        "agnostic_nms": (options.agnostic_nms, inside.get("agnostic"), options.agnostic_nms != inside.get("agnostic")),
    }
    lost = [f"{key}={asked} ({own} is built in)" for key, (asked, own, differs) in pairs.items() if differs]
    if lost:
        warn_once(
            f"Suppression is inside this file, so {', '.join(lost)} cannot be had from it. Export it with these "
            "values, or without nms=True."
        )
