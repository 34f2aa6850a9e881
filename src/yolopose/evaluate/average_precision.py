"""Average precision and the precision, recall and F1 curves of each class, by the reference protocol."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from yolopose.evaluate.matching import BoolArray, FloatArray

Float64Array = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

CURVE_POINTS = 1000
SMOOTHING = 101  # width of the box filter on the mean F1 curve, in curve points
_TINY = 1e-16


@dataclass(frozen=True, slots=True)
class ClassScores:
    """Scores of the C classes that occur in the truth.

    Attributes:
        classes: (C,) class indices, rising.
        ap: (C, 10) average precision at similarity .50:.05:.95.
        p: (C,) precision at the confidence of the best mean F1.
        r: (C,) recall there.
        f1: (C,) F1 there.
        px: (1000,) 0…1, the confidences (or recalls, for `prec_values`) of the curves.
        p_curve: (C, 1000) precision over confidence, at similarity .50.
        r_curve: (C, 1000) recall over confidence.
        f1_curve: (C, 1000) F1 over confidence.
        prec_values: (C, 1000) precision over recall.
    """

    classes: IntArray
    ap: Float64Array
    p: Float64Array
    r: Float64Array
    f1: Float64Array
    px: Float64Array
    p_curve: Float64Array
    r_curve: Float64Array
    f1_curve: Float64Array
    prec_values: Float64Array


def score_classes(
    hits: BoolArray,
    confidence: FloatArray,
    detection_classes: npt.NDArray[Any],
    truth_classes: npt.NDArray[Any],
) -> ClassScores:
    """Score all detections of a data set, class by class.

    Args:
        hits: (M, 10) which detections are hits at each threshold.
        confidence: (M,) 0…1.
        detection_classes: (M,) whole numbers.
        truth_classes: (N,) whole numbers, one per truth.

    Returns:
        The scores of each class in `truth_classes`; a class without detections scores 0.
    """
    order = np.argsort(-confidence, kind="stable")
    hits, confidence, detection_classes = hits[order], confidence[order], detection_classes[order]
    classes, counts = np.unique(truth_classes.astype(np.int64), return_counts=True)
    px = np.linspace(0, 1, CURVE_POINTS)
    ap = np.zeros((len(classes), hits.shape[1]))
    p_curve, r_curve, prec_values = (np.zeros((len(classes), CURVE_POINTS)) for _ in range(3))
    for row, (index, count) in enumerate(zip(classes, counts, strict=True)):
        mine = detection_classes == index
        if not mine.any():
            continue
        places, seen = np.flatnonzero(mine), np.arange(1, mine.sum() + 1)
        for level in range(hits.shape[1]):  # one at a time: this is where a large run needs its memory
            true = hits[places, level].cumsum()
            recall, precision = true / (count + _TINY), true / seen
            curve = envelope(recall, precision)
            ap[row, level] = area_under(*curve)
            if level == 0:
                # np.interp wants rising x: minus the falling confidence
                r_curve[row] = np.interp(-px, -confidence[places], recall, left=0)
                p_curve[row] = np.interp(-px, -confidence[places], precision, left=1)
                prec_values[row] = np.interp(px, *curve)
    f1_curve = 2 * p_curve * r_curve / (p_curve + r_curve + _TINY)
    best = int(smooth(f1_curve.mean(axis=0)).argmax()) if len(classes) else 0
    p, r, f1 = p_curve[:, best], r_curve[:, best], f1_curve[:, best]
    return ClassScores(classes, ap, p, r, f1, px, p_curve, r_curve, f1_curve, prec_values)


def envelope(recall: FloatArray, precision: FloatArray) -> tuple[Float64Array, Float64Array]:
    """Add the end points to a precision-recall curve and makes precision fall: its running maximum from the right.

    Args:
        recall: (M,) rising, M at least 1.
        precision: (M,).

    Returns:
        Recall from 0 to 1 and precision, both (M+3,).
    """
    full_recall = np.concatenate(([0.0], recall, [recall[-1], 1.0]))
    full_precision = np.concatenate(([1.0], precision, [0.0, 0.0]))
    return full_recall, np.maximum.accumulate(full_precision[::-1])[::-1]


def area_under(recall: Float64Array, precision: Float64Array) -> float:
    """Area under a precision-recall curve read at 101 recalls 0, .01, …, 1 (trapezoids)."""
    heights = np.interp(np.linspace(0, 1, 101), recall, precision)
    return float((heights[1:] + heights[:-1]).sum() / 200)


def smooth(curve: Float64Array, width: int = SMOOTHING) -> Float64Array:
    """Boxes filter of an odd width over a (P,) curve whose end values go on; returns (P,)."""
    padded = np.pad(curve, width // 2, mode="edge")
    return np.convolve(padded, np.full(width, 1 / width), mode="valid")
