"""How sure a mean AP is: bootstrap over images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from yolopose.evaluate.ranking import Float64, staircase_ap
from yolopose.evaluate.record import Record

NAMES = ("mAP50(B)", "mAP50-95(B)", "mAP50(P)", "mAP50-95(P)")
"""What intervals are made for: B of boxes, P of poses."""
DRAWS, LEAST = 1000, 200
_WORK = 60_000_000  # detections times draws of one run, about two seconds; larger sets get fewer draws
_BLOCK = 2_000_000  # counts held at once


@dataclass(frozen=True, slots=True)
class Interval:
    """A number with the interval in which it lies when images are drawn anew.

    Attributes:
        value: the number itself.
        low: lower end.
        high: upper end.
        level: share of the draws between the ends.
        draws: number of draws.
    """

    value: float
    low: float
    high: float
    level: float
    draws: int

    def __str__(self) -> str:
        return f"{self.value:.4f} [{self.low:.4f}, {self.high:.4f}]"


def draws_for(record: Record, draws: int | None = None) -> int:
    """Return how many draws a record gets: 1000, and fewer (200 at least) for very many detections."""
    return draws or int(np.clip(_WORK // max(len(record.image), 1), LEAST, DRAWS))


def draw_weights(images: int, draws: int, seed: int) -> npt.NDArray[np.int32]:
    """Return (draws, images) how often each image is drawn, with replacement, in as many as there are."""
    rng = np.random.default_rng(seed)
    drawn = rng.integers(0, max(images, 1), (draws, images), dtype=np.int32)
    flat = drawn + np.arange(draws)[:, None] * images
    return np.bincount(flat.reshape(-1), minlength=draws * images).reshape(draws, images).astype(np.int32)


def intervals(record: Record, draws: int | None = None, seed: int = 0, level: float = 0.95) -> dict[str, Interval]:
    """Bootstrap intervals of the four mean APs.

    Args:
        record: the run.
        draws: how many; `draws_for` chooses when None.
        seed: the same seed gives the same interval.
        level: share of the draws that lie within.
    """
    number = draws_for(record, draws)
    weights = draw_weights(len(record.names), number, seed)
    drawn = drawn_maps(record, weights)
    usual = drawn_maps(record, np.ones((1, len(record.names)), np.int32))
    return {name: interval(float(usual[name][0]), drawn[name], level, least=0) for name in NAMES}


def interval(value: float, drawn: Float64, level: float, least: float = -1.0) -> Interval:
    """Return the interval between the outer percentiles of (D,) drawn values, their median moved to the number itself.

    An image that is drawn twice agrees with itself, so that drawn APs lie a little too high; that is taken off.

    Args:
        value: the number.
        drawn: (D,) the same of each draw.
        level: share of the draws between the ends.
        least: the smallest value that there can be; the largest is 1.
    """
    tail = 50 * (1 - level)
    low, middle, high = np.percentile(drawn, [tail, 50, 100 - tail])
    ends = np.clip([value + low - middle, value + high - middle], least, 1)
    return Interval(float(value), float(ends[0]), float(ends[1]), level, len(drawn))


def drawn_maps(record: Record, weights: npt.NDArray[np.int32]) -> dict[str, Float64]:
    """The four mean APs of each draw.

    Args:
        record: the run.
        weights: (D, I) how often each image counts.

    Returns:
        name → (D,) mean over the classes that occur in the draw's truth.
    """
    hits = np.concatenate((record.hits("box"), record.hits("pose")), axis=1)
    sums, present = np.zeros((hits.shape[1], len(weights))), np.zeros(len(weights))
    for cls, order in record.orders.items():
        truth = record.truth_image[record.truth_cls == cls]
        truths = weights[:, truth].sum(axis=1)
        present += truths > 0
        sums += _class_aps(weights, record.image[order], hits[order], truths)
    mean = (sums / np.maximum(present, 1)).reshape(2, -1, len(weights))
    return {
        name: values
        for letter, part in zip("BP", mean, strict=True)
        for name, values in ((f"mAP50({letter})", part[0]), (f"mAP50-95({letter})", part.mean(axis=0)))
    }


def _class_aps(
    weights: npt.NDArray[np.int32],
    image: npt.NDArray[np.int32],
    hits: npt.NDArray[np.bool_],
    truths: npt.NDArray[np.int64],
) -> Float64:
    """(L, D) AP of one class, at each of L kinds of hit, in each draw; its detections stand by falling confidence."""
    result = np.zeros((hits.shape[1], len(weights)))
    ever = np.flatnonzero(hits.any(axis=1))
    if not len(ever):
        return result
    image, hits = image[: ever[-1] + 1], hits[ever]  # what stands below the last hit changes nothing
    step = max(1, _BLOCK // len(image))
    for start in range(0, len(weights), step):
        draws = slice(start, start + step)
        each = np.ascontiguousarray(weights[draws].T)[image]  # a row a detection: sums go over whole rows
        seen = np.cumsum(each, axis=0, dtype=np.int32)[ever]
        each = each[ever]
        for level in range(hits.shape[1]):
            places = np.flatnonzero(hits[:, level])
            true = np.cumsum(each[places], axis=0, dtype=np.int32)
            result[level, draws] = staircase_ap(true, seen[places], truths[draws])
    return result
