"""Average precision, and the scores of boxes or poses by class."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from yolopose.evaluate.matching import THRESHOLDS, BoolArray, FloatArray

Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]
Curve = list[Any]

CURVES = ("Precision-Recall", "F1-Confidence", "Precision-Confidence", "Recall-Confidence")
CURVE_POINTS = 1000
SMOOTHING = 101  # width of the box filter on the mean F1 curve, in curve points
_EPS = 1e-16


def average_precision(tp: npt.NDArray[Any], detections: npt.NDArray[Any], num_gt: npt.NDArray[Any]) -> Float64:
    """Compute average precision from the counts at each true positive.

    The protocol: precision is made monotonic (running maximum from the right) and integrated by the trapezoidal rule
    over 101 recalls 0, .01, …, 1. Between two true positives recall is constant and precision falls, so that the curve
    is a staircase whose steps are at the true positives: the other detections are not needed.

    Args:
        tp: (m, D) true positives up to each true positive, by descending confidence, in D samples.
        detections: (m, D) detections up to there.
        num_gt: (D,) number of ground truths.

    Returns:
        (D,) average precision.
    """
    if not len(tp):
        return np.zeros(tp.shape[1])
    precision = tp / np.maximum(detections, _EPS)
    envelope = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
    # Number of the recalls 0, .01, … below that of each true positive. IEEE division is correctly rounded: an exact
    # integer stays exact, and nothing else becomes one, so that ceil() needs no tolerance.
    below = np.ceil(tp * 100.0 / np.maximum(num_gt, 1))
    # recall 0 is the end of the first trapezoid and counts half; precision beyond the last true positive is 0
    area = envelope[0] * (below[0] - 0.5) + np.einsum("md,md->d", envelope[1:], np.diff(below, axis=0))
    return area / 100


def precision_envelope(recall: FloatArray, precision: FloatArray) -> tuple[Float64, Float64]:
    """Make precision monotonic (running maximum from the right), and add the end points of the curve.

    Args:
        recall: (M,) ascending, M at least 1.
        precision: (M,).

    Returns:
        Recall from 0 to 1 and precision, both (M+3,).
    """
    full_recall = np.concatenate(([0.0], recall, [recall[-1], 1.0]))
    full_precision = np.concatenate(([1.0], precision, [0.0, 0.0]))
    return full_recall, np.maximum.accumulate(full_precision[::-1])[::-1]


def smooth(curve: Float64, width: int = SMOOTHING) -> Float64:
    """Apply a box filter of odd width to a (P,) curve whose ends are repeated."""
    padded = np.pad(curve, width // 2, mode="edge")
    return np.convolve(padded, np.full(width, 1 / width), mode="valid")


class Metric:
    """Scores of boxes (by IoU) or of poses (by OKS), by class and over all classes.

    The rows of per-class arrays are the C classes of `ap_class_index`, those that occur in the ground truth.

    Attributes:
        nc: number of classes of the data set.
        ap_class_index: (C,) class indices, ascending.
        all_ap: (C, 10) average precision at similarity .50:.05:.95.
        p: (C,) precision at the confidence of the best mean F1.
        r: (C,) recall there.
        f1: (C,) F1 there.
        px: (1000,) 0…1, the x of all curves.
        p_curve: (C, 1000) precision over confidence, at similarity .50.
        r_curve: (C, 1000) recall over confidence.
        f1_curve: (C, 1000) F1 over confidence.
        prec_values: (C, 1000) precision over recall.
        image_metrics: image name → `precision`, `recall`, `f1`, `tp`, `fp`, `fn` of all its detections at
            similarity .50.

    Examples:
        >>> from yolopose import PoseMetrics
        >>> metric = PoseMetrics({0: "person"}).pose
        >>> metric.map, metric.map50  # before `process`
        (0.0, 0.0)
    """

    def __init__(self, nc: int = 0) -> None:
        self.nc = nc
        self.px: Float64 = np.linspace(0, 1, CURVE_POINTS)
        self.image_metrics: dict[str, dict[str, float]] = {}
        empty = np.zeros(0)
        self.update(np.zeros((0, len(THRESHOLDS)), dtype=np.bool_), empty, empty, empty)

    def update(
        self, hits: BoolArray, conf: FloatArray, det_classes: npt.NDArray[Any], gt_classes: npt.NDArray[Any]
    ) -> None:
        """Compute the scores from all detections of a data set.

        Args:
            hits: (M, 10) true positives at each threshold.
            conf: (M,) 0…1.
            det_classes: (M,) class of each detection.
            gt_classes: (N,) class of each ground truth; a class without detections scores 0.
        """
        order = np.argsort(-conf, kind="stable")
        hits, conf, det_classes = hits[order], conf[order], det_classes[order]
        self.ap_class_index, counts = np.unique(gt_classes.astype(np.int64), return_counts=True)
        num_classes = len(self.ap_class_index)
        self.all_ap: Float64 = np.zeros((num_classes, hits.shape[1]))
        self.p_curve: Float64 = np.zeros((num_classes, CURVE_POINTS))
        self.r_curve: Float64 = np.zeros((num_classes, CURVE_POINTS))
        self.prec_values: Float64 = np.zeros((num_classes, CURVE_POINTS))
        for row, (cls, num_gt) in enumerate(zip(self.ap_class_index, counts, strict=True)):
            detections = np.flatnonzero(det_classes == cls)
            if not len(detections):
                continue
            # one threshold at a time bounds the memory of large runs
            for level in range(hits.shape[1]):
                ranks = np.flatnonzero(hits[detections, level]) + 1
                tp = np.arange(1, len(ranks) + 1)
                self.all_ap[row, level] = average_precision(tp[:, None], ranks[:, None], np.array([num_gt]))[0]
            tp = hits[detections, 0].cumsum()
            recall = tp / num_gt
            precision = tp / np.arange(1, len(tp) + 1)
            # np.interp needs ascending x: the negative of the falling confidence
            self.r_curve[row] = np.interp(-self.px, -conf[detections], recall, left=0)
            self.p_curve[row] = np.interp(-self.px, -conf[detections], precision, left=1)
            self.prec_values[row] = np.interp(self.px, *precision_envelope(recall, precision))
        self.f1_curve: Float64 = 2 * self.p_curve * self.r_curve / (self.p_curve + self.r_curve + _EPS)
        # all classes are read at the same confidence, the maximum of the smoothed mean F1
        best = int(smooth(self.f1_curve.mean(axis=0)).argmax()) if num_classes else 0
        self.p: Float64 = self.p_curve[:, best]
        self.r: Float64 = self.r_curve[:, best]
        self.f1: Float64 = self.f1_curve[:, best]

    @property
    def ap(self) -> Float64:
        """(C,) mean average precision over .50:.05:.95."""
        return self.all_ap.mean(axis=1)

    @property
    def ap50(self) -> Float64:
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
    def maps(self) -> Float64:
        """(nc,) mAP50-95 of each class of the data set; the mean for a class without ground truth."""
        maps = np.full(self.nc, self.map)
        maps[self.ap_class_index] = self.ap
        return maps

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
        """Return the value that selects the best epoch: mAP50-95."""
        return self.map

    def update_image(self, name: str, tp: int, num_detections: int, num_gt: int) -> None:
        """Set the `image_metrics` of an image.

        Args:
            name: file name of the image.
            tp: true positives at similarity .50.
            num_detections: number of detections.
            num_gt: number of ground truths.
        """
        # an empty image without detections has no error
        empty = 1.0 if num_gt == num_detections == 0 else 0.0
        precision = tp / num_detections if num_detections else empty
        recall = tp / num_gt if num_gt else empty
        f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
        self.image_metrics[name] = {
            "precision": precision,
            "recall": recall,
            "f1": f1,
            "tp": tp,
            "fp": num_detections - tp,
            "fn": num_gt - tp,
        }

    def clear_image_metrics(self) -> None:
        """Delete the scores of single images."""
        self.image_metrics = {}


def _mean(values: Float64) -> float:
    return float(values.mean()) if values.size else 0.0
