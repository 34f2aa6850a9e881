"""Two runs on the same images: what one is better by, and whether that is more than chance."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from yolopose.base.errors import DataError
from yolopose.evaluate.export import TableMixin
from yolopose.evaluate.intervals import NAMES, Interval, draw_weights, drawn_maps, draws_for, interval
from yolopose.evaluate.record import Int32, Record, load_record


@dataclass(frozen=True, slots=True)
class Difference:
    """One number of two runs.

    Attributes:
        a: of the first run.
        b: of the second.
        interval: of b - a, over draws of the same images for both.
    """

    a: float
    b: float
    interval: Interval

    @property
    def sure(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.interval.low > 0 or self.interval.high < 0


class Comparison(TableMixin):
    """The four mean APs of two runs, and their paired differences.

    Attributes:
        differences: name → `Difference`: `mAP50(B)`, `mAP50-95(B)`, `mAP50(P)`, `mAP50-95(P)`.
        images: how many images both measured.
    """

    def __init__(self, differences: dict[str, Difference], imgs: int) -> None:
        self.differences = differences
        self.images = imgs

    def summary(self, normalize: bool = False, decimals: int = 5) -> list[dict[str, Any]]:
        """Return one dict a number: `Metric`, `A`, `B`, `Difference`, `Low`, `High`, `Sure`.

        Args:
            normalize: without effect here.
            decimals: digits after the point.
        """
        rows: list[dict[str, Any]] = []
        for name, one in self.differences.items():
            values = (one.a, one.b, one.interval.value, one.interval.low, one.interval.high)
            rounded = [round(value, decimals) for value in values]
            rows.append(
                {
                    "Metric": name,
                    **dict(zip(("A", "B", "Difference", "Low", "High"), rounded, strict=True)),
                    "Sure": one.sure,
                }
            )
        return rows

    def __str__(self) -> str:
        first = next(iter(self.differences.values())).interval
        lines = [
            f"{self.images} images; B - A with its {first.level:.0%} interval from {first.draws} paired draws of "
            "the images:",
            f"{'Metric':>12}{'A':>9}{'B':>9}{'B - A':>10}   interval",
        ]
        for name, one in self.differences.items():
            found = one.interval
            words = "" if one.sure else "   (may be chance)"
            lines.append(
                f"{name:>12}{one.a:>9.4f}{one.b:>9.4f}{found.value:>+10.4f}   "
                f"[{found.low:+.4f}, {found.high:+.4f}]{words}"
            )
        return "\n".join(lines)


def compare_runs(a: str | Path, b: str | Path) -> Comparison:
    """Compare two runs by what their folders keep.

    Args:
        a: folder of a run of `val`.
        b: folder of another on the same images.

    Raises:
        NotFoundError: a folder holds no record.
        DataError: a record is damaged, or the runs measured different sets.
    """
    return compare(load_record(a), load_record(b))


def compare(a: Record, b: Record, draws: int | None = None, seed: int = 0, level: float = 0.95) -> Comparison:
    """Compare two runs, the same images drawn for both.

    Args:
        a: the first run.
        b: the second.
        draws: how many; chosen by the number of detections when None.
        seed: of the draws.
        level: share of the draws that lie within an interval.

    Raises:
        DataError: the runs measured different sets.
    """
    places = _same_set(a, b)
    number = min(draws_for(a, draws), draws_for(b, draws))
    weights = draw_weights(len(a.names), number, seed)
    one = np.ones((1, len(a.names)), np.int32)
    usual_a, usual_b = drawn_maps(a, one), drawn_maps(b, one)
    drawn_a, drawn_b = drawn_maps(a, weights), drawn_maps(b, weights[:, places])
    found: dict[str, Difference] = {}
    for name in NAMES:
        first, second = float(usual_a[name][0]), float(usual_b[name][0])
        found[name] = Difference(first, second, interval(second - first, drawn_b[name] - drawn_a[name], level))
    return Comparison(found, len(a.names))


def _same_set(a: Record, b: Record) -> Int32:
    """The place in `a` of each image of `b`.

    Raises:
        DataError: images or truths differ.
    """
    places = {name: number for number, name in enumerate(a.names)}
    common = sum(name in places for name in b.names)
    if len(places) != len(a.names) or common != len(b.names) or len(a.names) != len(b.names):
        raise DataError(
            f"The runs measured different sets: {len(a.names)} and {len(b.names)} images, {common} of them in both. "
            "Differences mean something on the same images alone: run val with the same data= and split= for both."
        )
    order = np.array([places[name] for name in b.names], dtype=np.int32)
    if _truths(a, np.arange(len(a.names), dtype=np.int32)) != _truths(b, order):
        raise DataError(
            "The runs measured the same images with different labels (or classes=…). Run val again for both."
        )
    return order


def _truths(record: Record, order: Int32) -> list[tuple[int, int, int]]:
    images = order[record.truth_image].tolist()
    return sorted(zip(images, record.truth_cls.tolist(), record.truth_points.tolist(), strict=True))
