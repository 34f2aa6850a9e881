"""Confidence of detections: calibration (reliability curve and ECE), and counts at a confidence threshold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from yolopose.evaluate.matching import THRESHOLDS, BoolArray
from yolopose.evaluate.metric import Float64, Int64
from yolopose.evaluate.record import RunRecord

CALIBRATION_BINS = 10
CONF_STEPS = 1000
"""`count_table` counts at the thresholds 0, 1/CONF_STEPS, …, 1."""
_MAX_TABLE_ROWS = 40_000  # of all classes; with more rows, classes are merged


@dataclass(frozen=True, slots=True, eq=False)
class Reliability:
    """Calibration of boxes (by IoU .50) or poses (by OKS .50), over all classes.

    Attributes:
        edges: (bins + 1,) confidences 0…1 that bound the bins.
        count: (bins,) detections in each bin.
        confidence: (bins,) their mean confidence; NaN in an empty bin.
        hit_rate: (bins,) share of true positives; NaN in an empty bin.
        ece: expected calibration error 0…1: the mean over detections of |hit rate - confidence| of their bin (Guo et
            al., "On Calibration of Modern Neural Networks", ICML 2017).
        best_conf: confidence threshold of the highest F1.
        best_f1: F1 there.
    """

    edges: Float64
    count: Int64
    confidence: Float64
    hit_rate: Float64
    ece: float
    best_conf: float
    best_f1: float


def reliability(record: RunRecord, kind: str = "pose", bins: int = CALIBRATION_BINS) -> Reliability:
    """Compare the confidences of a run with the share of true positives.

    Args:
        record: the run.
        kind: `box` or `pose`.
        bins: number of equal bins between 0 and 1.
    """
    hits = record.hits(kind)[:, 0]
    scores = record.det_score.astype(np.float64)
    edges = np.linspace(0, 1, bins + 1)
    bin_idx = np.clip(np.digitize(scores, edges) - 1, 0, bins - 1)
    count = np.bincount(bin_idx, minlength=bins)
    with np.errstate(invalid="ignore", divide="ignore"):
        confidence = np.bincount(bin_idx, scores, bins) / count
        hit_rate = np.bincount(bin_idx, hits, bins) / count
    ece = float(np.nansum(count * np.abs(hit_rate - confidence)) / max(len(scores), 1))
    best_conf, best_f1 = _best_threshold(scores, hits, len(record.gt_class))
    return Reliability(edges, count, confidence, hit_rate, ece, best_conf, best_f1)


def _best_threshold(scores: Float64, hits: BoolArray, num_gt: int) -> tuple[float, float]:
    """Return the confidence threshold of the highest F1 = 2·TP / (detections + ground truths), and that F1."""
    if not len(scores):
        return 0.0, 0.0
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    f1 = 2 * np.cumsum(hits[order]) / (np.arange(1, len(ranked) + 1) + num_gt)
    # a threshold cannot separate equal scores: only the last of them counts
    is_last = np.append(ranked[1:] != ranked[:-1], True)
    best = int(np.argmax(np.where(is_last, f1, -1.0)))
    return float(ranked[best]), float(f1[best])


@dataclass(frozen=True, slots=True)
class DetectionCounts:
    """True positives, false positives and false negatives at a confidence threshold."""

    tp: int
    fp: int
    fn: int

    @property
    def precision(self) -> float:
        """TP / (TP + FP); 0 without detections."""
        return self.tp / (self.tp + self.fp) if self.tp + self.fp else 0.0

    @property
    def recall(self) -> float:
        """TP / (TP + FN); 0 without ground truth."""
        return self.tp / (self.tp + self.fn) if self.tp + self.fn else 0.0

    @property
    def f1(self) -> float:
        """2·TP / (2·TP + FP + FN); 0 without detections and ground truth."""
        total = 2 * self.tp + self.fp + self.fn
        return 2 * self.tp / total if total else 0.0


def counts_at(
    record: RunRecord, conf: float, kind: str = "pose", level: int = 0, cls: int | None = None
) -> DetectionCounts:
    """Count the detections of a run with a confidence of at least `conf`.

    Args:
        record: the run.
        conf: the threshold, 0…1.
        kind: `box` (true positives by IoU) or `pose` (by OKS).
        level: index of the similarity threshold among .50:.05:.95.
        cls: only this class; None for all.
    """
    keep = record.det_score.astype(np.float64) >= conf
    num_gt = len(record.gt_class)
    if cls is not None:
        keep &= record.det_class == cls
        num_gt = int((record.gt_class == cls).sum())
    tp = int((record.hits(kind)[:, level] & keep).sum())
    return DetectionCounts(tp, int(keep.sum()) - tp, num_gt - tp)


def count_table(record: RunRecord, names: Mapping[int, str]) -> dict[str, Any]:
    """Return a histogram of the detections of a run by class and confidence step, as JSON values.

    The counts at threshold k/CONF_STEPS are the sums from step k on: exact, at a size that does not grow with the
    number of detections.

    Args:
        record: the run.
        names: class names.
    """
    edges = np.arange(CONF_STEPS + 1) / CONF_STEPS
    steps = np.searchsorted(edges, record.det_score.astype(np.float64), side="right") - 1
    classes = sorted({*record.gt_class.tolist(), *record.det_class.tolist()})
    tables = [
        _histogram(
            record, steps, names.get(cls, str(cls)), record.det_class == cls, int((record.gt_class == cls).sum())
        )
        for cls in classes
    ]
    if not tables or (len(tables) > 1 and sum(len(table["step"]) for table in tables) > _MAX_TABLE_ROWS):
        everything = np.ones(len(record.det_score), dtype=np.bool_)
        tables = [_histogram(record, steps, "all", everything, len(record.gt_class))]
    return {"steps": CONF_STEPS, "levels": [round(float(level), 2) for level in THRESHOLDS], "classes": tables}


def _histogram(record: RunRecord, steps: Int64, name: str, selected: BoolArray, num_gt: int) -> dict[str, Any]:
    used, inverse = np.unique(steps[selected], return_inverse=True)
    table: dict[str, Any] = {"name": name, "num_gt": num_gt, "step": used.tolist()}
    table["count"] = np.bincount(inverse, minlength=len(used)).tolist()
    for kind in ("box", "pose"):
        hits = record.hits(kind)[selected]
        table[kind] = [
            np.bincount(inverse[hits[:, level]], minlength=len(used)).tolist() for level in range(hits.shape[1])
        ]
    return table
