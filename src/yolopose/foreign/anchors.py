"""Decode the single-shot detectors of MediaPipe: anchors, boxes with keypoints, averaging of overlapping detections."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from yolopose.foreign.layout import Float32
from yolopose.geometry import box_iou

_PER_POSITION = 2
_NMS_IOU = 0.3


@dataclass(frozen=True, slots=True)
class Regions:
    """Detections of a detector, as shares of its square input, by descending score.

    Attributes:
        boxes: (n, 4) x1, y1, x2, y2.
        points: (n, P, 2).
        scores: (n,) 0…1.
    """

    boxes: Float32
    points: Float32
    scores: Float32


def make_anchors(side: int, strides: tuple[int, ...]) -> Float32:
    """Return (A, 2) the centers of all anchors as shares of the input.

    Args:
        side: side of the input in pixels.
        strides: strides of the layers; layers of equal stride share their positions.
    """
    layers: list[npt.NDArray[np.float64]] = []
    for stride, count in Counter(strides).items():
        positions = -(-side // stride)
        centers = (np.arange(positions) + 0.5) / positions
        grid = np.stack(np.meshgrid(centers, centers), axis=2).reshape(-1, 2)
        layers.append(np.repeat(grid, _PER_POSITION * count, axis=0))
    return np.concatenate(layers).astype(np.float32)


def detections_from(values: Float32, logits: Float32, anchors: Float32, side: int, min_score: float) -> Regions:
    """Decode the outputs of a detector.

    Args:
        values: (A, 4 + 2 P) center, size and keypoints in pixels, relative to the anchors.
        logits: (A,) logits of the scores.
        anchors: (A, 2) as shares of the input.
        side: side of the input in pixels.
        min_score: smallest score, 0…1.
    """
    scores = 1 / (1 + np.exp(-logits.clip(-88, 88)))
    rows = np.argsort(-scores, kind="stable")
    rows = rows[scores[rows] >= min_score]
    offsets = (values[rows] / side).reshape(len(rows), values.shape[1] // 2, 2)
    centers = offsets[:, 0] + anchors[rows]
    half = offsets[:, 1] / 2
    points = offsets[:, 2:] + anchors[rows, None]
    boxes = np.concatenate((centers - half, centers + half), axis=1)
    return Regions(boxes.astype(np.float32), points.astype(np.float32), scores[rows].astype(np.float32))


def weighted_nms(regions: Regions) -> Regions:
    """Replace overlapping detections by their mean, weighted by score; the score is the highest of them."""
    boxes: list[Float32] = []
    points: list[Float32] = []
    scores: list[float] = []
    overlaps = box_iou(regions.boxes, regions.boxes) > _NMS_IOU
    remaining = np.ones(len(regions.scores), dtype=np.bool_)
    for index, score in enumerate(regions.scores):
        if not remaining[index]:
            continue
        members = overlaps[index] & remaining
        members[index] = True
        remaining &= ~members
        weights = regions.scores[members] / regions.scores[members].sum()
        boxes.append(np.tensordot(weights, regions.boxes[members], 1))
        points.append(np.tensordot(weights, regions.points[members], 1))
        scores.append(float(score))
    count = regions.points.shape[1]
    return Regions(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(points, np.float32).reshape(-1, count, 2),
        np.array(scores, np.float32),
    )
