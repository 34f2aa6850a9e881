"""Non-maximum suppression: greedy and exact, one image at a time, in numpy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from yolopose.base.log import warn_once
from yolopose.runtime.protocol import Candidates
from yolopose.schema import ModelMetadata

if TYPE_CHECKING:
    from yolopose.config import PredictOptions, ValOptions

Float32 = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

# Candidates are processed in blocks: the pairwise IoU matrix stays small (256² floats fit the cache), and the loop
# stops as soon as `max_det` boxes are selected.
_BLOCK = 256


@dataclass(frozen=True, slots=True)
class Detections:
    """Detections of one image after NMS, by descending score, in network-input pixels.

    Attributes:
        boxes: (n, 4) float32 x1, y1, x2, y2.
        scores: (n,) float32, 0…1.
        classes: (n,) int64.
        points: (n, K, D) float32.
        sigmas: (n, K, 2) float32, σ of each keypoint; None without uncertainty.
        visible: (n, K) float32, probability that each keypoint is visible; None with two states of visibility.
    """

    boxes: Float32
    scores: Float32
    classes: Indices
    points: Float32
    sigmas: Float32 | None = None
    visible: Float32 | None = None

    def __len__(self) -> int:
        return len(self.scores)

    def select(self, rows: Indices | Mask) -> Detections:
        """Return some of the detections, by index or mask."""
        return Detections(
            boxes=self.boxes[rows],
            scores=self.scores[rows],
            classes=self.classes[rows],
            points=self.points[rows],
            sigmas=None if self.sigmas is None else self.sigmas[rows],
            visible=None if self.visible is None else self.visible[rows],
        )


def nms(candidates: Candidates, count: int, *, iou: float, max_det: int, agnostic: bool = False) -> list[Detections]:
    """Drop every box whose IoU with a selected box of higher score exceeds `iou`.

    Args:
        candidates: candidates of a batch; with `nms_done` they are only limited to `max_det`.
        count: number of images in the batch.
        iou: IoU threshold, 0…1.
        max_det: maximum number of detections per image, highest scores first.
        agnostic: compare boxes of all classes instead of boxes of the same class.

    Returns:
        One `Detections` per image; equal scores keep the order of the candidates.
    """
    bounds = np.searchsorted(candidates.batch_idx, np.arange(count + 1)).tolist()
    return [_nms_image(candidates, start, stop, iou, max_det, agnostic) for start, stop in pairwise(bounds)]


def _nms_image(candidates: Candidates, start: int, stop: int, iou: float, max_det: int, agnostic: bool) -> Detections:
    """Return the detections of the image whose candidates are the rows from start to stop."""
    # A stable sort keeps the engine's order among equal scores, so results do not depend on numpy's sort algorithm.
    rows = start + np.argsort(-candidates.scores[start:stop], kind="stable")
    if not candidates.nms_done:
        classes = None if agnostic else candidates.classes[rows]
        rows = rows[_greedy_nms(candidates.boxes[rows], classes, iou, max_det)]
    rows = rows[:max_det]
    return Detections(
        boxes=candidates.boxes[rows],
        scores=candidates.scores[rows],
        classes=candidates.classes[rows],
        points=candidates.points[rows],
        sigmas=None if candidates.sigmas is None else candidates.sigmas[rows],
        visible=None if candidates.visible is None else candidates.visible[rows],
    )


def _greedy_nms(boxes: Float32, classes: Indices | None, iou: float, max_det: int) -> Indices:
    """Return indices of the selected boxes, at least the first `max_det`; `boxes` are sorted by descending score."""
    selected = np.empty(0, dtype=np.int64)
    for start in range(0, len(boxes), _BLOCK):
        if len(selected) >= max_det:
            break
        block = np.arange(start, min(start + _BLOCK, len(boxes)))
        if len(selected):
            block = block[~_overlaps(boxes, classes, selected, block, iou).any(axis=0)]
        pairs = _overlaps(boxes, classes, block, block, iou)
        selected = np.concatenate((selected, block[_select_in_block(pairs)]))
    return selected


def _select_in_block(pairs: Mask) -> Mask:
    """Return which boxes of a block remain: box i removes the later boxes j with `pairs[i, j]`, unless removed."""
    remaining = np.ones(len(pairs), dtype=np.bool_)
    later = np.triu(pairs, k=1)
    for index in np.flatnonzero(later.any(axis=1)):  # only rows that remove a box
        if remaining[index]:
            remaining &= ~later[index]
    return remaining


def _overlaps(boxes: Float32, classes: Indices | None, rows: Indices, columns: Indices, iou: float) -> Mask:
    """Return the (rows, columns) mask of the pairs of the same class whose IoU exceeds the threshold, in float32."""
    x1, y1, x2, y2 = boxes[rows].T[..., None]
    u1, v1, u2, v2 = boxes[columns].T
    # The in-place operations avoid five temporary matrices.
    width = np.minimum(x2, u2)
    width -= np.maximum(x1, u1)
    height = np.minimum(y2, v2)
    height -= np.maximum(y1, v1)
    np.maximum(width, 0, out=width)
    intersection = width
    intersection *= np.maximum(height, 0, out=height)
    union = (x2 - x1) * (y2 - y1) + (u2 - u1) * (v2 - v1)
    union -= intersection
    with np.errstate(invalid="ignore", divide="ignore"):  # 0 / 0 of two boxes without area: not duplicates
        intersection /= union
        mask = intersection > iou
    if classes is not None:
        mask &= classes[rows][:, None] == classes[columns]
    return mask


def warn_built_in_nms(metadata: ModelMetadata, conf: float, options: PredictOptions | ValOptions) -> None:
    """Warn if a file contains NMS (`nms=True`) with other thresholds than requested.

    Args:
        metadata: metadata of the file.
        conf: the lowest requested confidence.
        options: the other requested thresholds.
    """
    built_in = metadata.args.get("nms")
    if not isinstance(built_in, Mapping):
        return
    max_det = int(built_in.get("max_det", 0))
    agnostic = built_in.get("agnostic")
    rows = (
        ("conf", conf, built_in.get("conf"), conf < float(built_in.get("conf", 0))),
        ("iou", options.iou, built_in.get("iou"), options.iou != built_in.get("iou")),
        ("max_det", options.max_det, built_in.get("max_det"), options.max_det > max_det),
        ("agnostic_nms", options.agnostic_nms, agnostic, options.agnostic_nms != agnostic),
    )
    ignored = [f"{key}={requested} (the file uses {value})" for key, requested, value, differs in rows if differs]
    if ignored:
        warn_once(
            f"NMS is part of this file, so {', '.join(ignored)} has no effect. Export it again with these values, or "
            "without nms=True."
        )
