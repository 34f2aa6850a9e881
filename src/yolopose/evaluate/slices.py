"""AP of parts of the truths: by size, by crowding, by the number of labeled points."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from yolopose.evaluate.export import TableMixin
from yolopose.evaluate.matching import BoolArray
from yolopose.evaluate.ranking import mean_ap
from yolopose.evaluate.record import Record

SMALL, LARGE = 32**2, 96**2
"""Areas between which an object is of medium size, pixels² of the original image, as COCO has them."""
CROWDS = (0.1, 0.5)
"""IoU with the nearest other box between which an object stands in some crowd."""


class Slices(TableMixin):
    """Boxes' and poses' mAP50-95 of parts of the truths.

    Truths outside a part count as little as the detections that hit them; false detections count in proportion to the
    part's share of the truths, so that parts compare with each other and with the whole.

    Args:
        record: the run.
        keypoints: K.
    """

    def __init__(self, record: Record, keypoints: int) -> None:
        kinds = (("box", record.box_hit), ("pose", record.pose_hit))
        self.rows: list[dict[str, Any]] = []
        for what, part, chosen in _parts(record, keypoints):
            row: dict[str, Any] = {"By": what, "Part": part, "Truths": int(chosen.sum())}
            for kind, taken in kinds:
                row[f"{kind.capitalize()}-mAP50-95"] = (
                    float(mean_ap(record, record.hits(kind), chosen, taken).mean()) if chosen.any() else np.nan
                )
            self.rows.append(row)

    def summary(self, normalize: bool = False, decimals: int = 5) -> list[dict[str, Any]]:
        """Return one dict a part: `By`, `Part`, `Truths`, `Box-mAP50-95`, `Pose-mAP50-95` (NaN without truths).

        Args:
            normalize: without effect here.
            decimals: digits after the point.
        """
        return [
            {key: round(value, decimals) if isinstance(value, float) else value for key, value in row.items()}
            for row in self.rows
        ]


def _parts(record: Record, keypoints: int) -> Iterator[tuple[str, str, BoolArray]]:
    area, crowd, points = record.truth_area, record.truth_crowd, record.truth_points
    yield "size", "small (under 32²)", area < SMALL
    yield "size", "medium", (area >= SMALL) & (area < LARGE)
    yield "size", "large (96² and up)", area >= LARGE
    yield "crowding", f"alone (IoU under {CROWDS[0]})", crowd < CROWDS[0]
    yield "crowding", "some", (crowd >= CROWDS[0]) & (crowd < CROWDS[1])
    yield "crowding", f"much (IoU {CROWDS[1]} and up)", crowd >= CROWDS[1]
    yield "labeled points", "none", points == 0
    edges = np.unique(np.linspace(0, keypoints, 4).round().astype(int))
    for low, high in zip(edges[:-1] + 1, edges[1:], strict=True):
        name = f"{low} to {high}" if low < high else str(low)
        yield "labeled points", name, (points >= low) & (points <= high)
