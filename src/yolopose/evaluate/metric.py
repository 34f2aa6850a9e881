"""Scores of one kind, boxes or poses, class by class and over all classes."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from yolopose.evaluate.average_precision import score_classes
from yolopose.evaluate.matching import THRESHOLDS, BoolArray

Float64Array = npt.NDArray[np.float64]
Curve = list[Any]
CURVES = ("Precision-Recall", "F1-Confidence", "Precision-Confidence", "Recall-Confidence")


class Metric:
    """Scores of boxes (by IoU) or of poses (by OKS), class by class and over all classes.

    Rows of every per-class array belong to the classes of `ap_class_index`: those that occur in the truth.

    Attributes:
        scores: the curves and scores of each class.
        nc: number of classes of the data set.
        image_metrics: image name → `precision`, `recall`, `f1`, `tp`, `fp`, `fn` of all its detections at
            similarity .50.
    """

    def __init__(self) -> None:
        nothing = np.zeros(0)
        self.scores = score_classes(np.zeros((0, len(THRESHOLDS)), dtype=np.bool_), nothing, nothing, nothing)
        self.nc = 0
        self.image_metrics: dict[str, dict[str, float]] = {}

    @property
    def ap_class_index(self) -> npt.NDArray[np.int64]:
        """(C,) indices of the classes that occur in the truth."""
        return self.scores.classes

    @property
    def all_ap(self) -> Float64Array:
        """(C, 10) average precision at similarity .50:.05:.95."""
        return self.scores.ap

    @property
    def p(self) -> Float64Array:
        """(C,) precision at the confidence of the best mean F1."""
        return self.scores.p

    @property
    def r(self) -> Float64Array:
        """(C,) recall at the confidence of the best mean F1."""
        return self.scores.r

    @property
    def f1(self) -> Float64Array:
        """(C,) F1 at the confidence of the best mean F1."""
        return self.scores.f1

    @property
    def ap(self) -> Float64Array:
        """(C,) mean average precision over .50:.05:.95."""
        return self.all_ap.mean(axis=1)

    @property
    def ap50(self) -> Float64Array:
        """(C,) average precision at .50."""
        return self.all_ap[:, 0]

    @property
    def mp(self) -> float:
        """Mean precision over classes."""
        return _mean(self.p)

    @property
    def mr(self) -> float:
        """Mean recall over classes."""
        return _mean(self.r)

    @property
    def map(self) -> float:
        """mAP50-95: mean over classes and thresholds."""
        return _mean(self.all_ap)

    @property
    def map50(self) -> float:
        """mAP50."""
        return _mean(self.all_ap[:, 0])

    @property
    def map75(self) -> float:
        """mAP75."""
        return _mean(self.all_ap[:, 5])

    @property
    def maps(self) -> Float64Array:
        """(nc,) mAP50-95 of each class of the data set; a class absent from the truth holds the mean."""
        maps = np.full(self.nc, self.map)
        maps[self.ap_class_index] = self.ap
        return maps

    @property
    def px(self) -> Float64Array:
        """(1000,) 0…1, the x of all curves."""
        return self.scores.px

    @property
    def prec_values(self) -> Float64Array:
        """(C, 1000) precision over recall."""
        return self.scores.prec_values

    @property
    def p_curve(self) -> Float64Array:
        """(C, 1000) precision over confidence."""
        return self.scores.p_curve

    @property
    def r_curve(self) -> Float64Array:
        """(C, 1000) recall over confidence."""
        return self.scores.r_curve

    @property
    def f1_curve(self) -> Float64Array:
        """(C, 1000) F1 over confidence."""
        return self.scores.f1_curve

    @property
    def curves(self) -> list[str]:
        """Names of the four curves of `curves_results`."""
        return list(CURVES)

    @property
    def curves_results(self) -> list[Curve]:
        """Four curves as `[x, y (C, 1000), x label, y label]`: P-R, F1, P and R over confidence."""
        return [
            [self.px, self.prec_values, "Recall", "Precision"],
            [self.px, self.f1_curve, "Confidence", "F1"],
            [self.px, self.p_curve, "Confidence", "Precision"],
            [self.px, self.r_curve, "Confidence", "Recall"],
        ]

    def mean_results(self) -> list[float]:
        """Return mean precision, mean recall, mAP50, mAP50-95."""
        return [self.mp, self.mr, self.map50, self.map]

    def class_result(self, i: int) -> tuple[float, float, float, float]:
        """Return precision, recall, AP50 and AP50-95 of the i-th class of `ap_class_index`."""
        return float(self.p[i]), float(self.r[i]), float(self.ap50[i]), float(self.ap[i])

    def fitness(self) -> float:
        """Return what picks the best epoch: mAP50-95."""
        return self.map

    def update_image(self, name: str, hits: BoolArray, truths: int) -> None:
        """Note how one image went.

        Args:
            name: file name of the image.
            hits: (M,) which detections are hits at similarity .50.
            truths: number of truths.
        """
        tp, total = int(hits.sum()), len(hits)
        # nothing there and nothing found is an image without a mistake
        perfect = 1.0 if truths == total == 0 else 0.0
        precision = tp / total if total else perfect
        recall = tp / truths if truths else perfect
        f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
        values = {"precision": precision, "recall": recall, "f1": f1, "tp": tp, "fp": total - tp, "fn": truths - tp}
        self.image_metrics[name] = values

    def clear_image_metrics(self) -> None:
        """Forget the images."""
        self.image_metrics = {}


def _mean(values: Float64Array) -> float:
    return float(values.mean()) if values.size else 0.0
