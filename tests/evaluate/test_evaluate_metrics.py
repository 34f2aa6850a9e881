"""The metrics object: values, shapes and text forms."""

from __future__ import annotations

import csv
import io
import json
from functools import cached_property

import numpy as np
import pytest
from evaluate_runs import random_run

from yolopose.base.errors import DependencyError
from yolopose.evaluate import PoseMetrics

KEYS = [f"metrics/{name}({kind})" for kind in "BP" for name in ("precision", "recall", "mAP50", "mAP50-95")]


def image(name: str, gt: list[int], detected: list[int], hits: list[int], pose: list[int] | None = None) -> dict:
    """An image whose detections are true positives at the first n thresholds."""
    levels = np.arange(10)[None]
    return {
        "tp": levels < np.array(hits, dtype=int).reshape(-1, 1),
        "tp_p": levels < np.array(hits if pose is None else pose, dtype=int).reshape(-1, 1),
        "conf": np.linspace(0.9, 0.5, len(detected)),
        "pred_cls": np.array(detected, dtype=int),
        "target_cls": np.array(gt, dtype=int),
        "im_name": name,
    }


@pytest.fixture
def metrics() -> PoseMetrics:
    metrics = PoseMetrics({0: "cat", 1: "dog", 2: "emu"})
    metrics.update_stats(image("a.jpg", [0, 0, 2], [0, 2, 0], [10, 6, 0], [5, 0, 0]))
    metrics.update_stats(image("b.jpg", [0], [1], [0]))
    metrics.update_stats(image("c.jpg", [], [], []))
    metrics.process()
    return metrics


def test_results_dict(metrics: PoseMetrics) -> None:
    assert list(metrics.results_dict) == [*KEYS, "fitness"]
    assert metrics.keys == KEYS
    assert list(metrics.results_dict.values())[:8] == metrics.mean_results()
    assert metrics.fitness == pytest.approx(metrics.box.map + metrics.pose.map)
    assert metrics.box.fitness() == metrics.box.map


def test_values_by_hand(metrics: PoseMetrics) -> None:
    box = metrics.box
    assert box.ap_class_index.tolist() == metrics.ap_class_index.tolist() == [0, 2]
    # class 2: its one ground truth is matched by the best detection, at six of ten thresholds
    assert box.all_ap[1].tolist() == pytest.approx([0.995] * 6 + [0.0] * 4)
    assert (box.ap[1], box.ap50[1]) == pytest.approx((0.597, 0.995))
    assert metrics.pose.all_ap[1].tolist() == [0.0] * 10
    assert box.map50 == pytest.approx(box.all_ap[:, 0].mean())
    assert box.map75 == pytest.approx(box.all_ap[:, 5].mean())
    assert box.maps.tolist() == pytest.approx([box.ap[0], box.map, box.ap[1]])  # class 1 is absent
    assert metrics.maps.tolist() == pytest.approx((box.maps + metrics.pose.maps).tolist())
    assert metrics.nt_per_class.tolist() == [3, 0, 1]
    assert metrics.nt_per_image.tolist() == [2, 0, 1]


def test_shapes_and_types(metrics: PoseMetrics) -> None:
    box = metrics.box
    assert (box.nc, box.px.shape) == (3, (1000,))
    for name in ("p", "r", "f1", "ap", "ap50"):
        assert getattr(box, name).shape == (2,)
    for name in ("p_curve", "r_curve", "f1_curve", "prec_values"):
        assert getattr(box, name).shape == (2, 1000)
    assert all(type(value) is float for value in (box.mp, box.mr, box.map, box.map50, box.map75))
    assert len(metrics.class_result(0)) == 8
    assert metrics.class_result(1) == box.class_result(1) + metrics.pose.class_result(1)
    assert len(metrics.curves) == len(metrics.curves_results) == 8
    assert metrics.curves[:2] == ["Precision-Recall(B)", "F1-Confidence(B)"]
    assert metrics.curves_results[0][2:] == ["Recall", "Precision"]
    assert set(metrics.speed) == {"preprocess", "inference", "loss", "postprocess"}


def test_image_metrics(metrics: PoseMetrics) -> None:
    images = metrics.box.image_metrics
    assert images["a.jpg"] == pytest.approx(
        {"precision": 2 / 3, "recall": 2 / 3, "f1": 2 / 3, "tp": 2, "fp": 1, "fn": 1}
    )
    assert (images["b.jpg"]["fp"], images["b.jpg"]["fn"], images["b.jpg"]["f1"]) == (1, 1, 0.0)
    assert images["c.jpg"] == {"precision": 1.0, "recall": 1.0, "f1": 1.0, "tp": 0, "fp": 0, "fn": 0}
    assert metrics.pose.image_metrics["a.jpg"]["tp"] == 1


def test_summary_and_text(metrics: PoseMetrics) -> None:
    rows = metrics.summary(decimals=3)
    assert [row["Class"] for row in rows] == ["cat", "emu"]
    assert list(rows[0]) == [
        "Class", "Images", "Instances", "Box-P", "Box-R", "Box-F1", "mAP50", "mAP75", "mAP50-95",
        "Pose-P", "Pose-R", "Pose-F1",
    ]  # fmt: skip
    assert (rows[1]["Images"], rows[1]["Instances"], rows[1]["mAP50-95"]) == (1, 1, 0.597)
    assert json.loads(metrics.to_json(decimals=3)) == rows
    assert next(csv.DictReader(io.StringIO(metrics.to_csv())))["Class"] == "cat"


def test_data_frame_names_missing_library(metrics: PoseMetrics, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "polars", None)
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    with pytest.raises(DependencyError, match="pip install polars"):
        metrics.to_df()


def test_another_record_clears_cached_values() -> None:
    class Extended(PoseMetrics):
        @cached_property
        def number(self) -> int:
            return len(self.record.image_names)

    first, second = (random_run(0, images=images) for images in (3, 5))
    metrics = Extended(first.names)
    metrics.set_record(first.record, first.spec)
    assert metrics.number == 3
    table = metrics.keypoints
    metrics.set_record(second.record, second.spec)
    assert metrics.number == 5
    assert metrics.keypoints is not table


def test_clearing_keeps_scores(metrics: PoseMetrics) -> None:
    before = metrics.box.map
    metrics.clear_stats()
    metrics.clear_image_metrics()
    assert metrics.box.map == before > 0
    assert all(parts == [] for parts in metrics.stats.values())
    assert metrics.pose.image_metrics == {}


@pytest.mark.parametrize("images", [[], [([], [])], [([], [0, 0])], [([0, 1], [])]])
def test_no_detections_or_no_ground_truth(images: list) -> None:
    metrics = PoseMetrics({0: "cat", 1: "dog"})
    for index, (gt, detected) in enumerate(images):
        metrics.update_stats(image(f"{index}.jpg", gt, detected, [0] * len(detected)))
    metrics.process()
    assert metrics.results_dict == dict.fromkeys([*KEYS, "fitness"], 0.0)
    assert metrics.maps.tolist() == [0.0, 0.0]
    assert len(metrics.summary()) == len({cls for gt, _ in images for cls in gt})


def test_unused_object_has_all_attributes() -> None:
    metrics = PoseMetrics({0: "cat"})
    assert metrics.mean_results() == [0.0] * 8
    assert metrics.curves_results[0][1].shape == (0, 1000)
    assert metrics.to_csv().strip() == ""
    assert "metrics/mAP50-95(P)=0.00000" in repr(metrics)
