"""Similarity of tracks and detections, and their assignment."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from yolopose.base.errors import DependencyError
from yolopose.track.frames import FloatArray, IntArray

_DUPLICATE_TOLERANCE = 0.1  # distance of the points of duplicates, as a share of the square root of the box area

BoolArray = npt.NDArray[np.bool_]

MIN_COMMON_POINTS = 3
"""Pairs with fewer common points are compared by their boxes only."""


def box_similarity(first: FloatArray, second: FloatArray) -> FloatArray:
    """Return (T, N) IoU of (T, 4) and (N, 4) corners."""
    x1, y1, x2, y2 = first.T[:, :, None]
    other_x1, other_y1, other_x2, other_y2 = second.T[:, None]
    width = np.minimum(x2, other_x2) - np.maximum(x1, other_x1)
    height = np.minimum(y2, other_y2) - np.maximum(y1, other_y1)
    intersection = np.maximum(width, 0) * np.maximum(height, 0)
    union = (x2 - x1) * (y2 - y1) + (other_x2 - other_x1) * (other_y2 - other_y1) - intersection
    return intersection / np.maximum(union, 1e-9)


def pose_similarity(
    first: FloatArray,
    second: FloatArray,
    area: FloatArray,
    tolerance: FloatArray,
    variance: FloatArray,
    min_confidence: float,
) -> tuple[FloatArray, BoolArray]:
    """Compare the poses of T tracks and N detections by a weighted OKS.

    A point counts if it is confident in both poses, with the geometric mean of both confidences as weight. A point at
    distance d contributes exp(-d² / (2·(t²·area + variance))), where t is its tolerance.

    Args:
        first: (T, K, 3) x, y, confidence of the tracks, at their predicted position.
        second: (N, K, 3) x, y, confidence of the detections.
        area: (T, N) area of a pair, squared pixels.
        tolerance: (K,) tolerated distance of a point as a share of the square root of the area.
        variance: (T,) variance of the predicted position of each track, squared pixels.
        min_confidence: confidence from which a point counts.

    Returns:
        (T, N) similarity 0…1, and (T, N) whether enough points are common for it to be valid.
    """
    confidence = np.where(first[:, :, 2] >= min_confidence, first[:, :, 2], 0.0)[:, None]
    other = np.where(second[:, :, 2] >= min_confidence, second[:, :, 2], 0.0)[None]
    weight = np.sqrt(confidence * other)
    dx = first[:, None, :, 0] - second[None, :, :, 0]
    dy = first[:, None, :, 1] - second[None, :, :, 1]
    spread = area[:, :, None] * (-2 * tolerance**2) - 2 * variance[:, None, None]
    similarity = np.exp((dx * dx + dy * dy) / np.minimum(spread, -1e-9))
    total = weight.sum(axis=2)
    mean = np.einsum("tnk,tnk->tn", similarity, weight) / np.maximum(total, 1e-9)
    return mean, np.count_nonzero(weight, axis=2) >= MIN_COMMON_POINTS


def find_duplicates(
    boxes: FloatArray,
    points: FloatArray,
    priority: FloatArray,
    threshold: float,
    min_iou: float,
    min_confidence: float,
) -> BoolArray:
    """Return (N,) whether a detection is a second one of an instance: it has the pose of one with a higher priority.

    Non-maximum suppression compares boxes: it does not remove a box of another size around the same pose. Networks
    also detect an instance twice with different poses, and boxes that overlap less than those that it removes.

    Args:
        boxes: (N, 4) corners.
        points: (N, K, 3) x, y, confidence.
        priority: (N,) priorities, such as scores.
        threshold: smallest similarity of the poses of duplicates; of their boxes, where poses cannot be compared.
        min_iou: smallest IoU of duplicates with different poses.
        min_confidence: confidence from which a point counts.
    """
    tolerance = np.full(points.shape[1], _DUPLICATE_TOLERANCE)
    size = np.maximum((boxes[:, 2:] - boxes[:, :2]).prod(axis=1), 0.0)
    area = np.maximum(size[:, None], size[None])
    pose, valid = pose_similarity(points, points, area, tolerance, np.zeros(len(boxes)), min_confidence)
    iou = box_similarity(boxes, boxes)
    is_same = (np.where(valid, pose, iou) >= threshold) | (iou >= min_iou)
    better = priority[None] > priority[:, None]
    return np.asarray((is_same & better).any(axis=1))


def direction_similarity(origin: FloatArray, velocity: FloatArray, centers: FloatArray) -> FloatArray:
    """Return (T, N) agreement -1…1 of the direction of a track and the direction from its origin to a detection.

    Args:
        origin: (T, 2) an earlier position of each track.
        velocity: (T, 2) displacement since then; 0 where it is too short to have a direction.
        centers: (N, 2) centers of the detections.
    """
    offset = centers[None] - origin[:, None]
    length = np.sqrt((offset**2).sum(axis=2)) * np.sqrt((velocity**2).sum(axis=1))[:, None]
    return (offset * velocity[:, None]).sum(axis=2) / np.maximum(length, 1e-9)


def assign(values: FloatArray, allowed: BoolArray) -> tuple[IntArray, IntArray]:
    """Choose pairs of rows and columns with the largest sum of values, each row and column at most once.

    Args:
        values: (T, N) value of each pair, above 0 where it is allowed.
        allowed: (T, N) pairs that may be chosen.

    Returns:
        Rows and columns of the pairs.

    Raises:
        DependencyError: scipy is not installed.
    """
    if not allowed.any():
        return np.empty(0, np.int64), np.empty(0, np.int64)
    if not _is_ambiguous(allowed):
        rows, columns = np.nonzero(allowed)
        return rows, columns
    rows, columns = linear_sum_assignment()(np.where(allowed, values, 0.0), True)
    chosen = allowed[rows, columns]
    return rows[chosen], columns[chosen]


def _is_ambiguous(allowed: BoolArray) -> bool:
    """Return whether a row or column is part of several allowed pairs."""
    return bool((allowed.sum(axis=0) > 1).any() or (allowed.sum(axis=1) > 1).any())


@cache
def linear_sum_assignment() -> Callable[..., Any]:
    """Return scipy's function, imported when tracking starts.

    Raises:
        DependencyError: scipy is not installed.
    """
    try:
        from scipy.optimize import linear_sum_assignment as solve
    except ImportError as error:
        raise DependencyError(
            "Tracking needs scipy, which is not installed. Install with: pip install 'yolopose[track]'"
        ) from error
    return solve
