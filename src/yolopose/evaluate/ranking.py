"""Average precision of a record, again and again: of parts of the truths, of mended detections, of drawn images.

The numbers are those of the reference protocol (`average_precision.py`), read off the hits alone: between two hits
recall stands still and precision falls, so that the envelope is a staircase with its steps at the hits.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from yolopose.evaluate.matching import BoolArray
from yolopose.evaluate.record import Record

Float64 = npt.NDArray[np.float64]


def staircase_ap(true: npt.NDArray[Any], seen: npt.NDArray[Any], truths: npt.NDArray[Any]) -> Float64:
    """Average precision of D draws at once.

    Args:
        true: (m, D) hits counted up to each hit, by falling confidence.
        seen: (m, D) hits and false detections counted up to there.
        truths: (D,) number of truths, whole.

    Returns:
        (D,) area under each curve, by trapezoids at 101 recalls.
    """
    if not len(true):
        return np.zeros(true.shape[1])
    precision = true / np.maximum(seen, 1e-16)
    envelope = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
    # how many of the recalls 0, .01, … lie below that of each hit: it is read at those that do not lie below the last.
    # The quotient is rounded correctly, so that a whole one is exact and another one never comes out whole.
    below = np.ceil(true * 100.0 / np.maximum(truths, 1))
    area = envelope[0] * (below[0] - 0.5) + np.einsum("md,md->d", envelope[1:], np.diff(below, axis=0))
    return area / 100


def mean_ap(
    record: Record, hits: BoolArray, chosen: BoolArray | None = None, taken: npt.NDArray[np.int16] | None = None
) -> Float64:
    """Average precision at each threshold, the mean over the classes that occur in the truth.

    Args:
        record: the run.
        hits: (M, T) which detections are hits.
        chosen: (N,) the truths that count. The others are as if they were not there: what hits them does not
            count, and false detections, which belong to no truth, count in proportion to the chosen share.
        taken: (M, T) number within its image of the truth that each detection takes; needed with `chosen`.

    Returns:
        (T,) mean over classes; 0 where no truth counts.
    """
    found: list[list[float]] = []
    for cls in np.unique(record.truth_cls if chosen is None else record.truth_cls[chosen]):
        order = record.orders[int(cls)]
        of_class = record.truth_cls == cls
        count = int((of_class if chosen is None else of_class & chosen).sum())
        share = count / int(of_class.sum())
        mine = hits[order]
        each: list[float] = []
        for level in range(hits.shape[1]):
            places = np.flatnonzero(mine[:, level])
            false = places - np.arange(len(places))  # false detections before each hit
            if chosen is not None and taken is not None:
                rows = order[places]
                truth = np.searchsorted(record.truth_image, record.image[rows]) + taken[rows, level]
                false = false[chosen[truth]]
            true = np.arange(1, len(false) + 1)
            area = staircase_ap(true[:, None], (true + share * false)[:, None], np.array([count]))
            each.append(float(area[0]))
        found.append(each)
    return np.mean(found, axis=0) if found else np.zeros(hits.shape[1])
