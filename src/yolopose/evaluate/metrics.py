"""The metrics object that validation and training return."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from yolopose.base.errors import UsageError
from yolopose.evaluate.bootstrap import Comparison, Interval, compare, intervals
from yolopose.evaluate.confidence import CALIBRATION_BINS, Reliability, reliability
from yolopose.evaluate.confusion import ConfusionMatrix
from yolopose.evaluate.diagnostics import ErrorTable, KeypointTable, SliceTable
from yolopose.evaluate.metric import CURVES, Curve, Float64, Int64, Metric
from yolopose.evaluate.pixels import PixelErrors
from yolopose.evaluate.plots import plot_curves
from yolopose.evaluate.record import RunRecord, load_record
from yolopose.evaluate.visibility import VisibilityScores
from yolopose.results.tables import TableMixin
from yolopose.schema import PoseSpec

_LETTERS = ("B", "P")
_NAMES = ("precision", "recall", "mAP50", "mAP50-95")
_STATS = ("tp", "tp_p", "conf", "pred_cls", "target_cls", "target_img")


class PoseMetrics(TableMixin):
    """Box and pose scores of a validation run.

    They are computed from the record of the run (`set_record`), or from arrays (`update_stats`, then `process`).

    Args:
        names: class names by index.

    Attributes:
        names: class names by index.
        box: scores by box IoU.
        pose: scores by object keypoint similarity.
        speed: milliseconds per image: `preprocess`, `inference`, `loss`, `postprocess`.
        stats: arrays of `update_stats`, per image: `tp` and `tp_p` (M, 10), `conf`, `pred_cls` (M,), `target_cls`
            (N,), `target_img` (classes that occur in the image).
        nt_per_class: (nc,) ground truths of each class.
        nt_per_image: (nc,) images that contain each class.
        confusion_matrix: counts of detected against ground-truth classes.
        save_dir: the run folder; None if the run wrote no file.
        coco: scores of the COCO protocol, `AP(B)` … `AR(P)` …; empty unless protocol=coco.

    Examples:
        >>> import numpy as np
        >>> from yolopose import PoseMetrics
        >>> metrics = PoseMetrics({0: "person"})
        >>> hits = np.ones((1, 10), dtype=bool)  # one detection, correct at all ten thresholds
        >>> classes = dict.fromkeys(("pred_cls", "target_cls", "target_img"), np.zeros(1))
        >>> metrics.update_stats({"tp": hits, "tp_p": hits, "conf": np.array([0.9]), **classes})
        >>> _ = metrics.process()
        >>> round(metrics.pose.map, 3), round(metrics.results_dict["metrics/mAP50(B)"], 3)
        (0.995, 0.995)
    """

    def __init__(self, names: Mapping[int, str] | None = None) -> None:
        self.names = dict(names or {})
        nc = len(self.names)
        self.box = Metric(nc)
        self.pose = Metric(nc)
        self.speed = {"preprocess": 0.0, "inference": 0.0, "loss": 0.0, "postprocess": 0.0}
        self.stats: dict[str, list[npt.NDArray[Any]]] = {key: [] for key in _STATS}
        self.nt_per_class: Int64 = np.zeros(nc, dtype=np.int64)
        self.nt_per_image: Int64 = np.zeros(nc, dtype=np.int64)
        self.confusion_matrix = ConfusionMatrix(self.names)
        self.save_dir: Path | None = None
        self.coco: dict[str, float] = {}
        self._run: tuple[RunRecord, PoseSpec] | None = None

    def set_record(self, record: RunRecord, spec: PoseSpec) -> None:
        """Compute the scores from the record of a run.

        Args:
            record: the run.
            spec: classes and keypoints of its data set.
        """
        self._run = record, spec
        # values of cached properties belong to the earlier record
        for name in [name for name in vars(self) if isinstance(getattr(type(self), name, None), cached_property)]:
            delattr(self, name)
        num_images = len(record.image_names)
        num_detections = np.bincount(record.det_image, minlength=num_images).tolist()
        num_gt = np.bincount(record.gt_image, minlength=num_images).tolist()
        for metric, kind in ((self.box, "box"), (self.pose, "pose")):
            hits = record.hits(kind)
            metric.update(hits, record.det_score, record.det_class, record.gt_class)
            metric.clear_image_metrics()
            tp = np.bincount(record.det_image[hits[:, 0]], minlength=num_images).tolist()
            for name, *counts in zip(record.image_names, tp, num_detections, num_gt, strict=True):
                metric.update_image(name.rpartition("/")[2], *counts)
        # one row per image and class that occurs in it
        occurrences = np.unique(np.stack((record.gt_image, record.gt_class)), axis=1)
        self._count_gt(record.gt_class, occurrences[1])
        self.confusion_matrix = ConfusionMatrix(self.names)
        matches = record.det_any_match.astype(np.int64)
        matched = np.flatnonzero(matches >= 0).astype(np.int32)
        matches[matched] = record.gt_rows(matched, matches[matched])
        self.confusion_matrix.add(matches, record.det_class, record.gt_class)

    @property
    def record(self) -> RunRecord:
        """Detections and ground truth of the run.

        Raises:
            UsageError: these metrics do not belong to a run.
        """
        return self._require_run()[0]

    @property
    def spec(self) -> PoseSpec:
        """Classes and keypoints of the data set.

        Raises:
            UsageError: these metrics do not belong to a run.
        """
        return self._require_run()[1]

    def _require_run(self) -> tuple[RunRecord, PoseSpec]:
        if self._run is None:
            raise UsageError(
                "These metrics have no record of detections, because they do not belong to a validation run. "
                "`model.val(…)` returns metrics that have one."
            )
        return self._run

    @cached_property
    def pixels(self) -> PixelErrors:
        """Distances of the keypoints from their labels, in pixels of the original images."""
        return PixelErrors.from_record(self.record)

    @cached_property
    def visibility(self) -> VisibilityScores | None:
        """Accuracy of the states absent, hidden and visible; None if the network distinguishes two states only."""
        return VisibilityScores.from_record(self.record, self.spec)

    @cached_property
    def keypoints(self) -> KeypointTable:
        """Scores of each keypoint: OKS, PCK, distance, visibility, inversions."""
        return KeypointTable(self.record, self.spec)

    @cached_property
    def errors(self) -> ErrorTable:
        """Jitter, inversions, swaps and misses: their number, and the mAP that each kind costs."""
        return ErrorTable(self.record)

    @cached_property
    def slices(self) -> SliceTable:
        """Box and pose mAP by size, crowding and number of labeled keypoints."""
        return SliceTable(self.record, self.spec.keypoints.count)

    @cached_property
    def intervals(self) -> dict[str, Interval]:
        """Bootstrap intervals (95 %, over images) of `mAP50(B)`, `mAP50-95(B)`, `mAP50(P)`, `mAP50-95(P)`.

        With measured keypoints also those of `pixels/mean` and `pixels/PCK@2px` ….
        """
        return intervals(self.record)

    def reliability(self, kind: str = "pose", bins: int = CALIBRATION_BINS) -> Reliability:
        """Return the calibration of the confidences, and the confidence threshold of the highest F1.

        Args:
            kind: `box` (true positives by IoU .50) or `pose` (by OKS .50).
            bins: number of bins of the curve.

        Raises:
            UsageError: another kind.
        """
        if kind not in ("box", "pose"):
            raise UsageError(f"kind must be 'box' or 'pose', got {kind!r}.")
        return reliability(self.record, kind, bins)

    def compare(self, other: PoseMetrics | str | Path) -> Comparison:
        """Compare this run (A) with another run on the same images (B).

        Args:
            other: its metrics, or its run folder.

        Raises:
            DataError: the runs evaluated different images.
        """
        return compare(self.record, other.record if isinstance(other, PoseMetrics) else load_record(other))

    def update_stats(self, stat: Mapping[str, Any]) -> None:
        """Add one image, for `process`.

        Args:
            stat: `tp` and `tp_p` (M, 10) bool, `conf` (M,), `pred_cls` (M,), `target_cls` (N,), optionally
                `target_img` (the classes among `target_cls`) and `im_name`, its key in `image_metrics`.
        """
        gt_classes = np.asarray(stat["target_cls"])
        for key in ("tp", "tp_p", "conf", "pred_cls"):
            self.stats[key].append(np.asarray(stat[key]))
        self.stats["target_cls"].append(gt_classes)
        self.stats["target_img"].append(np.asarray(stat.get("target_img", np.unique(gt_classes))))
        if "im_name" in stat:
            for metric, key in ((self.box, "tp"), (self.pose, "tp_p")):
                hits = self.stats[key][-1][:, 0]
                metric.update_image(str(stat["im_name"]), int(hits.sum()), len(hits), len(gt_classes))

    def process(
        self, save_dir: str | Path = ".", plot: bool = False, on_plot: Callable[[Path], None] | None = None
    ) -> dict[str, npt.NDArray[Any]]:
        """Compute the scores from the arrays of `update_stats`.

        Args:
            save_dir: folder for the curves.
            plot: draw the curves (`plot_curves`).
            on_plot: called with the path of each image.

        Returns:
            The arrays of all images, concatenated.
        """
        stats = {key: np.concatenate(arrays) if arrays else np.zeros(0) for key, arrays in self.stats.items()}
        for metric, key in ((self.box, "tp"), (self.pose, "tp_p")):
            hits = stats[key].reshape(-1, 10).astype(np.bool_)
            metric.update(hits, stats["conf"], stats["pred_cls"], stats["target_cls"])
        self._count_gt(stats["target_cls"], stats["target_img"])
        if plot:
            self.plot_curves(save_dir, on_plot)
        return stats

    def plot_curves(self, save_dir: str | Path, on_plot: Callable[[Path], None] | None = None) -> None:
        """Draw the eight curves (`BoxF1_curve.png`, …) into a folder.

        Args:
            save_dir: folder.
            on_plot: called with the path of each image.
        """
        plot_curves(self.box, self.names, save_dir, "Box", on_plot)
        plot_curves(self.pose, self.names, save_dir, "Pose", on_plot)

    def _count_gt(self, gt_classes: npt.NDArray[Any], classes_in_images: npt.NDArray[Any]) -> None:
        nc = len(self.names)
        self.nt_per_class = np.bincount(gt_classes.astype(np.int64), minlength=nc)
        self.nt_per_image = np.bincount(classes_in_images.astype(np.int64), minlength=nc)

    def clear_stats(self) -> None:
        """Delete the arrays of `update_stats`; the scores stay."""
        self.stats = {key: [] for key in _STATS}

    def clear_image_metrics(self) -> None:
        """Delete the scores of single images."""
        self.box.clear_image_metrics()
        self.pose.clear_image_metrics()

    @property
    def keys(self) -> list[str]:
        """Names of `mean_results()`: `metrics/precision(B)` … `metrics/mAP50-95(P)`."""
        return [f"metrics/{name}({letter})" for letter in _LETTERS for name in _NAMES]

    def mean_results(self) -> list[float]:
        """Return P, R, mAP50, mAP50-95 of boxes, then of poses."""
        return self.box.mean_results() + self.pose.mean_results()

    def class_result(self, i: int) -> tuple[float, ...]:
        """Return P, R, AP50, AP50-95 of boxes, then of poses, of the i-th class of `ap_class_index`."""
        return self.box.class_result(i) + self.pose.class_result(i)

    @property
    def maps(self) -> Float64:
        """(nc,) box plus pose mAP50-95 of each class."""
        return self.box.maps + self.pose.maps

    @property
    def fitness(self) -> float:
        """Box plus pose mAP50-95."""
        return self.box.fitness() + self.pose.fitness()

    @property
    def ap_class_index(self) -> Int64:
        """(C,) indices of the classes that occur in the ground truth."""
        return self.box.ap_class_index

    @property
    def results_dict(self) -> dict[str, float]:
        """`keys` with their values, `fitness`, and, if the run has labeled keypoints, `pixels/mean` and the others.

        With three states of visibility also `visibility/absent`, `/hidden`, `/visible` and their mean.
        """
        more = self.pixels.to_dict() if self._run else {}
        if self._run and self.visibility is not None:
            more = {**more, **self.visibility.to_dict()}
        return {**dict(zip(self.keys, self.mean_results(), strict=True)), "fitness": self.fitness, **more}

    @property
    def curves(self) -> list[str]:
        """Names of the eight curves of `curves_results`: `Precision-Recall(B)`, …, boxes first."""
        return [f"{name}({letter})" for letter in _LETTERS for name in CURVES]

    @property
    def curves_results(self) -> list[Curve]:
        """Eight curves as `[x, y (C, 1000), x label, y label]`, boxes first."""
        return self.box.curves_results + self.pose.curves_results

    def summary(self, normalize: bool = True, decimals: int = 5) -> list[dict[str, Any]]:
        """Return one dict per class of the ground truth; its mAPs are those of boxes.

        Args:
            normalize: without effect, all values are shares.
            decimals: digits after the decimal point.
        """
        rows: list[dict[str, Any]] = []
        box, pose = self.box, self.pose
        for i, cls in enumerate(self.ap_class_index.tolist()):
            scores = {
                "Box-P": box.p[i],
                "Box-R": box.r[i],
                "Box-F1": box.f1[i],
                "mAP50": box.ap50[i],
                "mAP75": box.all_ap[i, 5],
                "mAP50-95": box.ap[i],
                "Pose-P": pose.p[i],
                "Pose-R": pose.r[i],
                "Pose-F1": pose.f1[i],
            }
            counts = {"Images": int(self.nt_per_image[cls]), "Instances": int(self.nt_per_class[cls])}
            rounded = {key: round(float(value), decimals) for key, value in scores.items()}
            rows.append({"Class": self.names[cls], **counts, **rounded})
        return rows

    def __repr__(self) -> str:
        values = ", ".join(f"{key}={value:.5f}" for key, value in self.results_dict.items())
        return f"PoseMetrics({values})"
