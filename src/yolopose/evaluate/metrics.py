"""The metrics object that validation and training return: `metrics.box`, `metrics.pose` and what sums them up."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from yolopose.evaluate.analysis import Analysis
from yolopose.evaluate.average_precision import score_classes
from yolopose.evaluate.confusion import ConfusionMatrix
from yolopose.evaluate.export import TableMixin
from yolopose.evaluate.metric import CURVES, Curve, Float64Array, Metric
from yolopose.evaluate.plots import plot_curves

_KINDS = (("box", "B"), ("pose", "P"))
_NAMES = ("precision", "recall", "mAP50", "mAP50-95")


class PoseMetrics(Analysis, TableMixin):
    """Box and pose scores of a validation run.

    Args:
        names: class names by index.

    Attributes:
        names: class names by index.
        box: scores by box IoU.
        pose: scores by object keypoint similarity.
        speed: milliseconds per image: `preprocess`, `inference`, `loss`, `postprocess`.
        stats: per-image arrays gathered so far: `tp` and `tp_p` (M, 10), `conf`, `pred_cls` (M,), `target_cls` (N,),
            `target_img` (classes that occur in the image).
        nt_per_class: (nc,) truths of each class.
        nt_per_image: (nc,) images that hold each class.
        confusion_matrix: counts of confusions between classes.
        save_dir: folder of the run's files, None when it wrote none.
        coco: numbers of the COCO protocol, `AP(B)` … `AR(P)` …, where it was asked for; else empty.
    """

    def __init__(self, names: Mapping[int, str] | None = None) -> None:
        self.names = dict(names or {})
        self.box = Metric()
        self.pose = Metric()
        self.speed = {"preprocess": 0.0, "inference": 0.0, "loss": 0.0, "postprocess": 0.0}
        self.stats: dict[str, list[npt.NDArray[Any]]] = {}
        self.nt_per_class: npt.NDArray[np.int64] = np.zeros(len(self.names), dtype=np.int64)
        self.nt_per_image: npt.NDArray[np.int64] = np.zeros(len(self.names), dtype=np.int64)
        self.confusion_matrix = ConfusionMatrix(self.names)
        self.save_dir: Path | None = None
        self.coco: dict[str, float] = {}
        self.clear_stats()

    def update_stats(self, stat: Mapping[str, Any]) -> None:
        """Add one image.

        Args:
            stat: `tp` and `tp_p` (M, 10) bool, `conf` (M,), `pred_cls` (M,), `target_cls` (N,), optionally
                `target_img` (the classes among `target_cls`) and `im_name`, under which it is noted in `image_metrics`.
        """
        truth = np.asarray(stat["target_cls"])
        for key in ("tp", "tp_p", "conf", "pred_cls"):
            self.stats[key].append(np.asarray(stat[key]))
        self.stats["target_cls"].append(truth)
        self.stats["target_img"].append(np.asarray(stat.get("target_img", np.unique(truth))))
        if "im_name" in stat:
            for metric, key in ((self.box, "tp"), (self.pose, "tp_p")):
                metric.update_image(str(stat["im_name"]), self.stats[key][-1][:, 0], len(truth))

    def process(
        self, save_dir: str | Path = ".", plot: bool = False, on_plot: Callable[[Path], None] | None = None
    ) -> dict[str, npt.NDArray[Any]]:
        """Score everything gathered so far.

        Args:
            save_dir: folder for the curves.
            plot: draw the eight curves (`BoxF1_curve.png`, …).
            on_plot: called with the path of each image.

        Returns:
            The gathered arrays, concatenated.
        """
        stats = {key: np.concatenate(parts) if parts else np.zeros(0) for key, parts in self.stats.items()}
        nc = len(self.names)
        for metric, key in ((self.box, "tp"), (self.pose, "tp_p")):
            hits = stats[key].reshape(-1, 10).astype(np.bool_)
            metric.scores = score_classes(hits, stats["conf"], stats["pred_cls"], stats["target_cls"])
            metric.nc = nc
        self.nt_per_class = np.bincount(stats["target_cls"].astype(np.int64), minlength=nc)
        self.nt_per_image = np.bincount(stats["target_img"].astype(np.int64), minlength=nc)
        if plot:
            plot_curves(self.box, self.names, save_dir, "Box", on_plot)
            plot_curves(self.pose, self.names, save_dir, "Pose", on_plot)
        return stats

    def score_record(self) -> None:
        """Score the record that was taken with `keep`: what `process` gave when the run was made."""
        record, _ = self.kept()
        nc = len(self.names)
        for metric, kind in ((self.box, "box"), (self.pose, "pose")):
            metric.scores = score_classes(record.hits(kind), record.score, record.cls, record.truth_cls)
            metric.nc = nc
        self.nt_per_class = np.bincount(record.truth_cls, minlength=nc)
        pairs = np.unique(np.stack((record.truth_image, record.truth_cls)), axis=1)
        self.nt_per_image = np.bincount(pairs[1], minlength=nc)

    def clear_stats(self) -> None:
        """Forget the gathered arrays; the scores stay."""
        self.stats = {key: [] for key in ("tp", "conf", "pred_cls", "target_cls", "target_img", "tp_p")}

    def clear_image_metrics(self) -> None:
        """Forget the scores of single images."""
        self.box.clear_image_metrics()
        self.pose.clear_image_metrics()

    @property
    def keys(self) -> list[str]:
        """Names of `mean_results()`: `metrics/precision(B)` … `metrics/mAP50-95(P)`."""
        return [f"metrics/{name}({letter})" for _, letter in _KINDS for name in _NAMES]

    def mean_results(self) -> list[float]:
        """Return P, R, mAP50, mAP50-95 of boxes, then of poses."""
        return self.box.mean_results() + self.pose.mean_results()

    def class_result(self, i: int) -> tuple[float, ...]:
        """Return P, R, AP50, AP50-95 of boxes, then of poses, of the i-th class of `ap_class_index`."""
        return self.box.class_result(i) + self.pose.class_result(i)

    @property
    def maps(self) -> Float64Array:
        """(nc,) box plus pose mAP50-95 of each class."""
        return self.box.maps + self.pose.maps

    @property
    def fitness(self) -> float:
        """Boxes plus pose mAP50-95."""
        return self.box.fitness() + self.pose.fitness()

    @property
    def ap_class_index(self) -> npt.NDArray[np.int64]:
        """(C,) indices of the classes that occur in the truth."""
        return self.box.ap_class_index

    @property
    def results_dict(self) -> dict[str, float]:
        """`keys` with their values, and `fitness`."""
        return {**dict(zip(self.keys, self.mean_results(), strict=True)), "fitness": self.fitness}

    @property
    def curves(self) -> list[str]:
        """Names of the eight curves of `curves_results`: `Precision-Recall(B)`, …, those of boxes first."""
        return [f"{name}({letter})" for _, letter in _KINDS for name in CURVES]

    @property
    def curves_results(self) -> list[Curve]:
        """Eight curves as `[x, y (C, 1000), x label, y label]`, boxes first."""
        return self.box.curves_results + self.pose.curves_results

    def summary(self, normalize: bool = True, decimals: int = 5) -> list[dict[str, Any]]:
        """Return one dict per class that occurs in the truth; its mAPs are those of boxes.

        Args:
            normalize: without effect here, all values are shares already.
            decimals: digits after the point.
        """
        rows: list[dict[str, Any]] = []
        for i, index in enumerate(self.ap_class_index):
            box, pose = self.box, self.pose
            shares = {
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
            counts = {"Images": int(self.nt_per_image[index]), "Instances": int(self.nt_per_class[index])}
            values = {key: round(float(value), decimals) for key, value in shares.items()}
            rows.append({"Class": self.names[int(index)], **counts, **values})
        return rows

    def __repr__(self) -> str:
        values = ", ".join(f"{key}={value:.5f}" for key, value in self.results_dict.items())
        return f"PoseMetrics({values})"
