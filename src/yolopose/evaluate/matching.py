"""Which detection hits which truth: greedy matching by falling confidence, as the reference protocol does it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.integer[Any]]
FloatArray = npt.NDArray[np.floating[Any]]

THRESHOLDS: npt.NDArray[np.float64] = np.linspace(0.5, 0.95, 10)
"""(10,) the similarities .50:.05:.95 at which a detection is judged."""


def greedy_match(similarity: FloatArray, thresholds: npt.NDArray[np.float64] = THRESHOLDS) -> npt.NDArray[np.int64]:
    """Return each detection, at each threshold, the most similar truth that none before it has taken.

    Args:
        similarity: (N, M) similarity of N truths with M detections; columns stand by falling confidence.
        thresholds: (T,) similarities to reach.

    Returns:
        (M, T) index of the truth, or -1.
    """
    truths, detections = similarity.shape
    taken = np.full((detections, len(thresholds)), -1, dtype=np.int64)
    if truths == 0 or detections == 0:
        return taken
    levels = np.arange(len(thresholds))
    claimed = np.zeros((len(thresholds), truths), dtype=np.bool_)
    # most detections are near no truth at all: only the others are walked through
    for column in np.flatnonzero(similarity.max(axis=0) >= thresholds.min()):
        free = np.where(claimed, -1.0, similarity[:, column])
        best = free.argmax(axis=1)
        hit = free[levels, best] >= thresholds
        claimed[levels[hit], best[hit]] = True
        taken[column, hit] = best[hit]
    return taken


def of_one_class(similarity: FloatArray, truth_classes: IntArray, detection_classes: IntArray) -> FloatArray:
    """Return the (N, M) similarities with -1 between a truth and a detection of different classes."""
    return np.where(truth_classes[:, None] == detection_classes[None], similarity, -1.0)


def match_detections(
    similarity: FloatArray,
    truth_classes: IntArray,
    detection_classes: IntArray,
    thresholds: npt.NDArray[np.float64] = THRESHOLDS,
) -> BoolArray:
    """Judge each detection at each threshold: it is a hit when it takes a truth of its own class.

    Args:
        similarity: (N, M) IoU or OKS of N truths with M detections, 0…1.
        truth_classes: (N,) class of each truth.
        detection_classes: (M,) class of each detection; columns stand by falling confidence.
        thresholds: (T,) similarities to reach.

    Returns:
        (M, T) True where the detection is a hit.
    """
    return greedy_match(of_one_class(similarity, truth_classes, detection_classes), thresholds) >= 0
