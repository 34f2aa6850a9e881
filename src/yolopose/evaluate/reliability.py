"""Whether confidences can be believed, and which one to ask for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from yolopose.evaluate.ranking import Float64
from yolopose.evaluate.record import Record

BINS = 10


@dataclass(frozen=True, slots=True, eq=False)
class Reliability:
    """Confidence against truth, of boxes (by IoU .50) or poses (by OKS .50), all classes together.

    Attributes:
        edges: (bins + 1,) confidences 0…1 that bound the bins.
        count: (bins,) detections in each.
        confidence: (bins,) their mean confidence; NaN in an empty bin.
        hit_rate: (bins,) the share of them that are hits; NaN in an empty bin.
        ece: expected calibration error: the mean over detections of |hit rate - confidence| of their bin, 0…1.
        best_conf: the confidence from which on F1 is best.
        best_f1: F1 there.
    """

    edges: Float64
    count: npt.NDArray[np.int64]
    confidence: Float64
    hit_rate: Float64
    ece: float
    best_conf: float
    best_f1: float


def reliability(record: Record, kind: str = "pose", bins: int = BINS) -> Reliability:
    """Compare the confidences of a run with its hits.

    Args:
        record: the run.
        kind: `box` or `pose`.
        bins: number of equal bins between 0 and 1.
    """
    hits, score = record.hits(kind)[:, 0], record.score.astype(np.float64)
    edges = np.linspace(0, 1, bins + 1)
    place = np.clip(np.digitize(score, edges) - 1, 0, bins - 1)
    count = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore", divide="ignore"):
        confidence = np.bincount(place, score, bins) / count
        hit_rate = np.bincount(place, hits, bins) / count
    ece = float(np.nansum(count * np.abs(hit_rate - confidence)) / max(len(score), 1))
    best_conf, best_f1 = _best(score, hits, len(record.truth_cls))
    return Reliability(edges, count, confidence, hit_rate, ece, best_conf, best_f1)


def _best(score: Float64, hits: npt.NDArray[np.bool_], truths: int) -> tuple[float, float]:
    """The confidence of the best F1 = 2·hits / (detections + truths), and that F1."""
    if not len(score):
        return 0.0, 0.0
    order = np.argsort(-score, kind="stable")
    ranked = score[order]
    f1 = 2 * np.cumsum(hits[order]) / (np.arange(1, len(ranked) + 1) + truths)
    last = np.append(ranked[1:] != ranked[:-1], True)  # equal confidences are in or out together
    best = int(np.argmax(np.where(last, f1, -1.0)))
    return float(ranked[best]), float(f1[best])
