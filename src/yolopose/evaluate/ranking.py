"""Average precision of a record, again and again: of parts of the truths, of mended detections, of drawn pictures.

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
Int64 = npt.NDArray[np.int64]


def staircase_ap(true: Int64, seen: npt.NDArray[Any], truths: Int64) -> Float64:
    """Average precision of D draws at once.

    Args:
        true: (D, m) hits counted up to each hit, by falling confidence.
        seen: (D, m) hits and false detections counted up to there.
        truths: (D,) number of truths, whole.

    Returns:
        (D,) area under each curve, by trapezoids at 101 recalls.
    """
    if not true.shape[1]:
        return np.zeros(len(true))
    precision = true / np.maximum(seen, 1e-16)
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    # how many of the recalls 0, .01, … lie below that of each hit, in whole numbers: a hit is read at those of its own
    whole = np.maximum(truths, 1)[:, None]
    below = (100 * true + whole - 1) // whole
    own = np.diff(below, axis=1, prepend=0)
    return ((envelope * own).sum(axis=1) - envelope[:, 0] / 2) / 100


def ranked(record: Record, cls: int) -> Int64:
    """Returns the detections of a class by falling confidence."""
    mine = np.flatnonzero(record.cls == cls)
    return mine[np.argsort(-record.score[mine], kind="stable")]


def truth_rows(record: Record, hit: npt.NDArray[np.int16]) -> Int64:
    """Returns the row among all truths that each detection takes, from its number within the picture; -1 stays."""
    first = np.searchsorted(record.truth_image, record.image)
    return np.where(hit >= 0, first[:, None] + hit, -1)


def mean_ap(record: Record, hits: BoolArray, chosen: BoolArray | None = None, rows: Int64 | None = None) -> Float64:
    """Average precision at each threshold, the mean over the classes that occur in the truth.

    Args:
        record: the run.
        hits: (M, T) which detections are hits.
        chosen: (N,) the truths that count. The others are as if they were not there: what hits them does not
            count, and false detections, which belong to no truth, count in proportion to the chosen share.
        rows: (M, T) truth that each detection takes; needed with `chosen`.

    Returns:
        (T,) mean over classes; 0 where no truth counts.
    """
    found: list[Float64] = []
    for cls in np.unique(record.truth_cls if chosen is None else record.truth_cls[chosen]):
        order = ranked(record, int(cls))
        mine = hits[order]
        of_class = record.truth_cls == cls
        count, share, good = int(of_class.sum()), 1.0, mine
        if chosen is not None and rows is not None:
            count = int((of_class & chosen).sum())
            share = count / int(of_class.sum())
            good = mine & chosen[rows[order]]
        each = [_one(good[:, level], mine[:, level], share, count) for level in range(hits.shape[1])]
        found.append(np.array(each))
    return np.mean(found, axis=0) if found else np.zeros(hits.shape[1])


def _one(good: BoolArray, hits: BoolArray, share: float, count: int) -> float:
    places = np.flatnonzero(good)
    true = np.arange(1, len(places) + 1)
    false = np.cumsum(~hits)[places]
    return float(staircase_ap(true[None], (true + share * false)[None], np.array([count]))[0])
