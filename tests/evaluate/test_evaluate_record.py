"""The record of a run: what is stored, files, sizes."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from evaluate_runs import LETTERBOX, random_image, random_run

from yolopose.base.errors import DataError, NotFoundError
from yolopose.data.labels import ImageLabels
from yolopose.evaluate import ConfusionMatrix, PoseMetrics, RecordBuilder, load_record
from yolopose.evaluate.record import dequantize, quantize
from yolopose.geometry import Letterbox
from yolopose.runtime.nms import Detections
from yolopose.schema import KeypointSchema, PoseSpec


def test_scores_are_those_of_the_arrays() -> None:
    metrics = random_run()
    record = metrics.record
    arrays = PoseMetrics(metrics.names)
    for image, name in enumerate(record.image_names):
        rows, gt_rows = record.det_image == image, record.gt_image == image
        arrays.update_stats({
            "tp": record.hits("box")[rows], "tp_p": record.hits("pose")[rows], "conf": record.det_score[rows],
            "pred_cls": record.det_class[rows], "target_cls": record.gt_class[gt_rows], "im_name": name,
        })  # fmt: skip
    arrays.process()
    assert {name: metrics.results_dict[name] for name in arrays.results_dict} == arrays.results_dict
    assert 0.1 < metrics.pose.map < 0.9
    assert metrics.pose.image_metrics == arrays.pose.image_metrics
    assert metrics.nt_per_class.tolist() == arrays.nt_per_class.tolist()
    assert metrics.nt_per_image.tolist() == arrays.nt_per_image.tolist()


def test_confusion_matrix_is_that_of_single_images() -> None:
    metrics = random_run()
    record = metrics.record
    expected = ConfusionMatrix(metrics.names)
    for image in range(len(record.image_names)):
        stored = record.det_image[record.stored_det] == image  # all above the threshold of the matrix are
        rows, gt_rows = record.stored_det[stored], record.gt_image == image
        detections = {
            "bboxes": dequantize(record.stored_box[stored], (256, 256)),
            "conf": record.det_score[rows],
            "cls": record.det_class[rows],
        }
        gt = {"bboxes": dequantize(record.gt_box[gt_rows], (256, 256)), "cls": record.gt_class[gt_rows]}
        expected.process_batch(detections, gt)
    assert metrics.confusion_matrix.matrix.tolist() == expected.matrix.tolist()


def test_no_ground_truth_at_all() -> None:
    builder = RecordBuilder(PoseSpec(classes=("a", "b"), keypoints=KeypointSchema(count=5)))
    builder.add("0.jpg", *random_image(np.random.default_rng(0), 0, num_gt=0), LETTERBOX)
    metrics = PoseMetrics({0: "a", 1: "b"})
    metrics.set_record(builder.finish(), PoseSpec(classes=("a", "b"), keypoints=KeypointSchema(count=5)))
    assert metrics.pose.map == 0
    assert metrics.nt_per_image.tolist() == [0, 0]


def test_save_and_load(tmp_path: Path) -> None:
    record = random_run().record
    record.save(tmp_path / "detections.npz")
    loaded = load_record(tmp_path)
    assert loaded.image_names == record.image_names
    for name in ("det_image", "det_score", "det_pose_match", "det_corrected", "pair_distance", "gt_crowding"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(record, name))


@pytest.mark.parametrize("content", [None, b"", b"PK\3\4 torn", b"not an archive"])
def test_missing_or_damaged_record(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "detections.npz").write_bytes(content)
    with pytest.raises(NotFoundError if content is None else DataError, match=r"detections\.npz"):
        load_record(tmp_path)


def test_refuses_columns_of_different_length(tmp_path: Path) -> None:
    path = tmp_path / "detections.npz"
    random_run().record.save(path)
    with np.load(path) as archive:
        arrays = dict(archive)
    np.savez(path, **{**arrays, "pair_torso": arrays["pair_torso"][1:]})
    with pytest.raises(DataError, match="differ in length"):
        load_record(path)


@pytest.mark.parametrize(("version", "message"), [(1, "older yolopose"), (2, "older yolopose"), (99, "newer yolopose")])
def test_record_of_another_version(tmp_path: Path, version: int, message: str) -> None:
    np.savez(tmp_path / "detections.npz", format=np.array(version))
    with pytest.raises(DataError, match=message):
        load_record(tmp_path)


def test_quantized_coordinates() -> None:
    letterbox = Letterbox((3000, 4000), (480, 640), 80, 0, (640, 640))
    points = np.array([[0, 80], [639.888, 416.112], [1.984, -5], [700, np.nan], [320, 600]])
    restored = dequantize(quantize(points, letterbox), (3000, 4000))
    np.testing.assert_allclose(restored, [[0, 0], [3999.3, 2100.7], [12.4, 0], [4000, 0], [2000, 3000]], atol=0.05)


@pytest.mark.parametrize(("confident", "num_gt", "stored"), [(3, 1, 3), (0, 2, 2), (0, 99, 40), (40, 5, 20), (0, 0, 0)])
def test_number_of_stored_detections(confident: int, num_gt: int, stored: int) -> None:
    scores = np.where(np.arange(40) < confident, 0.4, 0.05).astype(np.float32)
    points = np.ones((40, 5, 2), np.float32)  # without visibility
    detections = Detections(np.ones((40, 4), np.float32), scores, np.zeros(40, np.int64), points)
    gt = ImageLabels(np.zeros(num_gt, np.int32), np.ones((num_gt, 4), np.float32), np.ones((num_gt, 5, 3), np.float32))
    spec = PoseSpec(classes=("a",), keypoints=KeypointSchema(count=5, dims=2))
    columns = RecordBuilder(spec).columns(detections, gt, LETTERBOX)
    assert [len(values) for name, values in columns.items() if name.startswith("stored_")] == [stored] * 4
    assert (columns["stored_conf"] == 255).all()


@pytest.mark.slow
def test_memory_of_twenty_thousand_images() -> None:
    """At most 200 bytes, and 8 per threshold, for each detection, including the scores of each image."""
    spec = PoseSpec(classes=("a", "b"), keypoints=KeypointSchema(count=17))
    num_images, metrics, builder = 20_000, PoseMetrics(spec.names), RecordBuilder(spec)
    rng = np.random.default_rng(0)
    images = []
    for _ in range(8):
        detections, gt = random_image(rng, 2, num_gt=5, num_false=95)
        detections = replace(detections, points=np.tile(detections.points[:, :1], (1, 17, 1)))
        gt = ImageLabels(gt.classes, gt.boxes, np.tile(gt.keypoints[:, :1], (1, 17, 1)))
        images.append(builder.columns(detections, gt, LETTERBOX))
    tracemalloc.start()
    for index in range(num_images):
        builder.append(f"images/val/{index:06}.jpg", images[index % 8])
    metrics.set_record(builder.finish(), spec)
    assert metrics.errors.points
    assert metrics.slices.rows
    assert metrics.keypoints.rows
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert builder.num_detections == 100 * num_images
    assert peak < builder.num_detections * (200 + 8 * 10)
