"""Hits, false detections and misses at a threshold of confidence, and the table from which the page counts them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from yolopose.evaluate.matching import THRESHOLDS
from yolopose.evaluate.record import Record

STEPS = 1000
"""The page's thresholds are 0, 1/STEPS, …, 1."""
_ROWS = 40_000  # of all classes together; beyond, the page tells no classes apart


@dataclass(frozen=True, slots=True)
class Counts:
    """What is right and wrong with the detections from a confidence on.

    Attributes:
        tp: hits.
        fp: detections that hit nothing.
        fn: truths that nothing hits.
    """

    tp: int
    fp: int
    fn: int

    @property
    def precision(self) -> float:
        """Share of hits among detections; 0 without any."""
        return self.tp / (self.tp + self.fp) if self.tp + self.fp else 0.0

    @property
    def recall(self) -> float:
        """Share of truths that are hit; 0 without any."""
        return self.tp / (self.tp + self.fn) if self.tp + self.fn else 0.0

    @property
    def f1(self) -> float:
        """2·tp / (2·tp + fp + fn); 0 without detections and truths."""
        total = 2 * self.tp + self.fp + self.fn
        return 2 * self.tp / total if total else 0.0


def counts_at(record: Record, conf: float, kind: str = "pose", level: int = 0, cls: int | None = None) -> Counts:
    """Count the detections of a run whose confidence is `conf` or more.

    Args:
        record: the run.
        conf: the threshold, 0…1.
        kind: `box` (hits by IoU) or `pose` (by OKS).
        level: number of the similarity that a hit needs, among .50:.05:.95.
        cls: one class alone; None for all together.
    """
    sure = record.score.astype(np.float64) >= conf
    truths = len(record.truth_cls)
    if cls is not None:
        sure &= record.cls == cls
        truths = int((record.truth_cls == cls).sum())
    tp = int((record.hits(kind)[:, level] & sure).sum())
    return Counts(tp, int(sure.sum()) - tp, truths - tp)


def count_table(record: Record, names: Mapping[int, str]) -> dict[str, Any]:
    """Return the detections of a run, summed up by class and step of confidence; plain values.

    What a threshold k/STEPS keeps are the sums from step k on, so that the page counts all detections exactly, and its
    size does not grow with them.

    Args:
        record: the run.
        names: class names.
    """
    edges = np.arange(STEPS + 1) / STEPS
    steps = np.searchsorted(edges, record.score.astype(np.float64), side="right") - 1
    classes = sorted({*record.truth_cls.tolist(), *record.cls.tolist()})
    groups = [(names.get(cls, str(cls)), record.cls == cls, record.truth_cls == cls) for cls in classes]
    tables = [_rows(record, steps, name, found, int(truth.sum())) for name, found, truth in groups]
    if (len(groups) != 1 and sum(len(table["step"]) for table in tables) > _ROWS) or not groups:
        everything = np.ones(len(record.score), dtype=np.bool_)
        tables = [_rows(record, steps, "all", everything, len(record.truth_cls))]
    return {"steps": STEPS, "levels": [round(float(level), 2) for level in THRESHOLDS], "classes": tables}


def _rows(record: Record, steps: Any, name: str, found: Any, truths: int) -> dict[str, Any]:
    used, place = np.unique(steps[found], return_inverse=True)
    table: dict[str, Any] = {"name": name, "truths": truths, "step": used.tolist()}
    table["count"] = np.bincount(place, minlength=len(used)).tolist()
    for kind in ("box", "pose"):
        hits = record.hits(kind)[found]
        table[kind] = [
            np.bincount(place[hits[:, level]], minlength=len(used)).tolist() for level in range(hits.shape[1])
        ]
    return table
