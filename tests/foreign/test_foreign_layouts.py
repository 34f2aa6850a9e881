"""Each layout against hand-made outputs and independent formulas."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import foreign_graphs
from yolopose.foreign import ForeignRuntime, open_foreign
from yolopose.foreign.anchors import Regions, detections_from, make_anchors, weighted_nms
from yolopose.foreign.mediapipe import HAND, PERSON, Region, refine
from yolopose.foreign.topdown import dark

IMAGE = (90, 120)  # height, width


def infer(runtime: ForeignRuntime, conf: float = 0.25, size: tuple[int, int] = IMAGE) -> Any:
    return runtime.infer(np.zeros((1, 3, *size), np.uint8), conf=conf)


def test_rtmo_scales_suppresses_and_sorts(tmp_path: Path) -> None:
    # the image of 120 × 90 is scaled by 64 / 120; the second box overlaps the third, the last is below the threshold
    boxes = [[0, 0, 10, 10, 0.5], [20, 20, 40, 40, 0.6], [21, 20, 41, 40, 0.9], [0, 0, 64, 48, 0.1]]
    points = np.arange(4 * 17 * 3, dtype=np.float32).reshape(1, 4, 17, 3)
    outputs = {"dets": np.array([boxes], np.float32), "keypoints": points}
    runtime = open_foreign(foreign_graphs.constant(tmp_path / "x.onnx", (1, 3, 64, 64), outputs))
    result = infer(runtime)
    np.testing.assert_allclose(result.scores, [0.9, 0.5])
    np.testing.assert_allclose(result.boxes * 64 / 120, np.array(boxes, np.float32)[[2, 0], :4], rtol=1e-6)
    np.testing.assert_allclose(result.points[..., :2] * 64 / 120, points[0, [2, 0], :, :2], rtol=1e-6)
    np.testing.assert_allclose(result.points[..., 2], points[0, [2, 0], :, 2])
    assert result.nms_done
    assert runtime.metadata.spec.keypoints.keypoint_names(0)[0] == "nose"


def test_detrpose_is_given_width_and_height(tmp_path: Path) -> None:
    shares = np.random.default_rng(0).random((1, 3, 17, 2)).astype(np.float32)
    outputs = {"scores": np.array([[0.3, 0.9, 0.1]], np.float32), "labels": np.zeros((1, 3), np.int64)}
    path = foreign_graphs.constant(tmp_path / "x.onnx", (1, 3, 64, 64), {**outputs, "keypoints": shares}, sizes=True)
    result = infer(open_foreign(path))
    expected = shares[0, [1, 0]] * [120, 90]
    np.testing.assert_allclose(result.points, expected, rtol=1e-6)
    np.testing.assert_allclose(result.boxes, np.concatenate((expected.min(1), expected.max(1)), 1), rtol=1e-6)
    np.testing.assert_allclose(result.scores, [0.9, 0.3])


@pytest.mark.parametrize("classes", [1, 2])
@pytest.mark.parametrize("values", [3, 8])
def test_rfdetr(tmp_path: Path, classes: int, values: int) -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(1)
    boxes = rng.uniform(0.2, 0.5, (1, 5, 4)).astype(np.float32)
    logits = rng.normal(0, 2, (1, 5, 91)).astype(np.float32)
    points = rng.normal(0, 0.5, (1, 5, 17 * classes, values)).astype(np.float32)
    outputs = {"dets": boxes, "labels": logits, "keypoints": points}
    runtime = open_foreign(foreign_graphs.constant(tmp_path / "x.onnx", (1, 3, 48, 48), outputs))
    result = infer(runtime, conf=0.0)
    person = torch.from_numpy(points[0, :, 17 * (classes - 1) :])  # the last class has the keypoints of people
    scores = torch.from_numpy(logits[0, :, classes - 1]).sigmoid()
    if values == 8:  # in log space, as RF-DETR computes it
        first, cross, second = person[..., 4], person[..., 5], person[..., 6]
        terms = [-2 * first, -2 * second, 2 * cross.abs().log() - 2 * first - 2 * second]
        weights = person[..., 2].sigmoid().log()
        trace = torch.logsumexp(torch.logsumexp(torch.stack(terms), 0) + weights, 1) - torch.logsumexp(weights, 1)
        scores = torch.sigmoid(scores.log() - 0.2 * trace)
    order = scores.argsort(descending=True)
    np.testing.assert_allclose(result.scores, scores[order], rtol=1e-5)
    np.testing.assert_allclose(result.points[..., :2], (person[order, :, :2] * torch.tensor([120, 90])), rtol=1e-5)
    np.testing.assert_allclose(result.points[..., 2], person[order, :, 2].sigmoid(), rtol=1e-5)
    center = (result.boxes[:, :2] + result.boxes[:, 2:]) / 2
    np.testing.assert_allclose(center, boxes[0, order, :2] * [120, 90], rtol=1e-5)


def test_simcc_positions(tmp_path: Path) -> None:
    bins = {"simcc_x": np.zeros((1, 2, 96), np.float32), "simcc_y": np.zeros((1, 2, 128), np.float32)}
    bins["simcc_x"][0, :, 48] = 0.8  # the middle of 48 pixels at 2 bins per pixel
    bins["simcc_y"][0, [0, 1], [32, 96]] = 0.6
    path = foreign_graphs.constant(tmp_path / "x.onnx", (1, 3, 64, 48), bins)
    boxes = np.array([[40, 10, 60, 50, 0.5]], np.float32)  # the crop is 37.5 × 50 pixels around (50, 30)
    result = infer(open_foreign(path).with_boxes([boxes]))
    np.testing.assert_allclose(result.points[0], [[50, 17.5, 0.7], [50, 42.5, 0.7]], rtol=1e-6)
    np.testing.assert_allclose(result.scores, [0.5 * 0.7], rtol=1e-6)
    np.testing.assert_allclose(result.boxes, boxes[:, :4])


def test_dark_finds_peaks_between_pixels() -> None:
    centers = np.random.default_rng(2).uniform([12, 12], [36, 52], (3, 5, 2))
    x, y = np.meshgrid(np.arange(48), np.arange(64))
    squares = (x - centers[..., 0, None, None]) ** 2 + (y - centers[..., 1, None, None]) ** 2
    maps = np.exp(-squares / 8).astype(np.float32)
    np.testing.assert_allclose(dark(maps), centers, atol=0.02)
    assert np.abs(centers - np.round(centers)).max() > 0.4
    assert (dark(np.zeros((1, 2, 8, 8), np.float32)) == 0).all()


@pytest.mark.parametrize(("stage", "count"), [(PERSON, 2254), (HAND, 2016)])
def test_mediapipe_anchors(stage: Any, count: int) -> None:
    anchors = make_anchors(stage.side, stage.strides)
    assert len(anchors) == count
    np.testing.assert_allclose(anchors[0], [4 / stage.side] * 2)  # center of the first position of stride 8
    np.testing.assert_allclose(anchors[2], [12 / stage.side, 4 / stage.side])


def test_mediapipe_detections_are_averaged() -> None:
    anchors = np.array([[0.5, 0.5], [0.5, 0.5], [0.1, 0.1]], np.float32)
    values = np.zeros((3, 12), np.float32)
    values[:, 2:4] = 22.4  # a tenth of the side
    values[1, 0] = 2.24
    logits = np.log([0.75 / 0.25, 0.25 / 0.75, 0.5 / 0.5]).astype(np.float32)
    regions = weighted_nms(detections_from(values, logits, anchors, 224, 0.2))
    np.testing.assert_allclose(regions.scores, [0.75, 0.5], rtol=1e-6)
    np.testing.assert_allclose(regions.boxes[0], [0.4525, 0.45, 0.5525, 0.55], atol=1e-6)
    none = weighted_nms(detections_from(values, logits, anchors, 224, 0.9))
    assert none.points.shape == (0, 4, 2)
    assert len(weighted_nms(Regions(np.zeros((0, 4)), np.zeros((0, 4, 2)), np.zeros(0))).scores) == 0


def test_mediapipe_region_maps_both_ways() -> None:
    region = Region((200.0, 100.0), 80.0, math.radians(30), 1.0)
    square = np.array([[0, 0], [1, 0], [0, 1]], np.float32)
    np.testing.assert_allclose(region.to_image(square), region.corners(), atol=1e-4)
    # 30° clockwise in the image: the right end of the upper side is lower than its left end
    np.testing.assert_allclose(region.corners()[1] - region.corners()[0], [80 * math.cos(math.pi / 6), 40], atol=1e-4)
    matrix = cv2.getAffineTransform(region.corners(), square * 256)
    np.testing.assert_allclose(matrix @ [200, 100, 1], [128, 128], atol=1e-3)


def test_mediapipe_refines_confident_keypoints() -> None:
    maps = np.full((64, 64, 3), -20, np.float32)
    maps[20, 31, 0] = maps[20, 32, 0] = 5
    maps[10, 10, 1] = -1  # below the limit
    points = np.array([[0.47, 0.33], [0.16, 0.16], [1.2, 0.5]], np.float32)
    refined = refine(points, maps)
    np.testing.assert_allclose(refined[0], [31.5 / 64, 20 / 64], atol=1e-4)
    np.testing.assert_array_equal(refined[1:], points[1:])
