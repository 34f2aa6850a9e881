"""How sure a mean AP is: bootstrap over pictures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from yolopose.evaluate.ranking import Float64, Int64, ranked, staircase_ap
from yolopose.evaluate.record import Record

NAMES = ("mAP50(B)", "mAP50-95(B)", "mAP50(P)", "mAP50-95(P)")
"""What intervals are made for: B of boxes, P of poses."""
DRAWS, LEAST = 1000, 200
_WORK = 100_000_000  # detections times draws of one run, about two seconds; larger sets get fewer draws
_BLOCK = 2_000_000  # counts held at once


@dataclass(frozen=True, slots=True)
class Interval:
    """A number with the interval in which it lies when pictures are drawn anew.

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
    """Returns how many draws a record gets: 1000, and fewer (200 at least) for very many detections."""
    return draws or int(np.clip(_WORK // max(len(record.image), 1), LEAST, DRAWS))


def draw_weights(pictures: int, draws: int, seed: int) -> npt.NDArray[np.int32]:
    """Returns (draws, pictures) how often each picture is drawn, with replacement, in as many as there are."""
    rng = np.random.default_rng(seed)
    drawn = rng.integers(0, max(pictures, 1), (draws, pictures), dtype=np.int32)
    flat = drawn + np.arange(draws)[:, None] * pictures
    return np.bincount(flat.reshape(-1), minlength=draws * pictures).reshape(draws, pictures).astype(np.int32)


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
    return {name: interval(usual[name][0], drawn[name], level) for name in NAMES}


def interval(value: float, drawn: Float64, level: float) -> Interval:
    """Returns the interval between the outer percentiles of (D,) drawn values."""
    tail = 50 * (1 - level)
    low, high = np.percentile(drawn, [tail, 100 - tail]) if len(drawn) else (value, value)
    return Interval(float(value), float(low), float(high), level, len(drawn))


def drawn_maps(record: Record, weights: npt.NDArray[np.int32]) -> dict[str, Float64]:
    """The four mean APs of each draw.

    Args:
        record: the run.
        weights: (D, I) how often each picture counts.

    Returns:
        name → (D,) mean over the classes that occur in the draw's truth.
    """
    kinds = (("B", record.hits("box")), ("P", record.hits("pose")))
    classes = np.unique(record.truth_cls)
    sums = {letter: np.zeros((len(weights), hits.shape[1])) for letter, hits in kinds}
    present = np.zeros(len(weights))
    for cls in classes:
        order = ranked(record, int(cls))
        mine = np.bincount(record.truth_image[record.truth_cls == cls], minlength=weights.shape[1])
        truths = weights @ mine
        present += truths > 0
        for letter, hits in kinds:
            sums[letter] += _class_aps(weights, record.image[order], hits[order], truths)
    found: dict[str, Float64] = {}
    for letter, _ in kinds:
        mean = sums[letter] / np.maximum(present, 1)[:, None]
        found |= {f"mAP50({letter})": mean[:, 0], f"mAP50-95({letter})": mean.mean(axis=1)}
    return found


def _class_aps(
    weights: npt.NDArray[np.int32], image: npt.NDArray[np.int32], hits: npt.NDArray[np.bool_], truths: Int64
) -> Float64:
    """(D, T) AP of one class in each draw; its detections stand by falling confidence."""
    result = np.zeros((len(weights), hits.shape[1]))
    ever = np.flatnonzero(hits.any(axis=1))
    if not len(ever):
        return result
    image, hits = image[: ever[-1] + 1], hits[ever]  # what stands below the last hit changes nothing
    step = max(1, _BLOCK // len(image))
    for start in range(0, len(weights), step):
        part = weights[start : start + step]
        each = part[:, image]
        seen = np.cumsum(each, axis=1, dtype=np.int32)[:, ever]
        each = each[:, ever]
        for level in range(hits.shape[1]):
            places = np.flatnonzero(hits[:, level])
            true = np.cumsum(each[:, places], axis=1, dtype=np.int64)
            result[start : start + step, level] = staircase_ap(true, seen[:, places], truths[start : start + step])
    return result
