"""The same ONNX file in rtmlib and here: equal points."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import foreign_graphs
from yolopose import YOLO
from yolopose.foreign import open_foreign
from yolopose.foreign.engine import to_image

pytestmark = pytest.mark.slow

BOXES = [
    [50.0, 400.0, 250.0, 900.0],
    [600.0, 350.0, 810.0, 890.0],
    [0.0, 0.0, 30.0, 20.0],
    [200.5, 380.2, 340.9, 860.1],
]


@pytest.fixture
def images(shared: Path) -> list[np.ndarray]:
    bus, zidane = (cv2.imread(str(shared / "images" / name)) for name in ("bus.jpg", "zidane.jpg"))
    return [bus, zidane, bus[:300, :500], cv2.resize(zidane, (96, 96))]


def planes(image: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(image[..., ::-1].transpose(2, 0, 1))


@pytest.mark.parametrize("seed", [0, 1])
def test_rtmo(rtmlib: Any, images: list[np.ndarray], tmp_path: Path, seed: int) -> None:
    path = foreign_graphs.rtmo(tmp_path / "rtmo.onnx", seed=seed)
    other = rtmlib.RTMO(str(path), model_input_size=(96, 96), backend="onnxruntime", device="cpu")
    for image in images:
        points, scores = other(image, score_thr=0.3)
        found = open_foreign(path).infer(planes(image)[None], conf=0.3)
        assert 1 < len(scores) < 30
        np.testing.assert_allclose(found.points[..., :2], points, rtol=0, atol=1e-3)
        np.testing.assert_allclose(found.points[..., 2], scores, rtol=0, atol=1e-6)
        result = YOLO(path)(image, conf=0.3, verbose=False)[0]
        limits = np.array([image.shape[1], image.shape[0]])
        np.testing.assert_allclose(result.keypoints.xy, points.clip(0, limits), rtol=0, atol=1e-2)


@pytest.mark.parametrize("kind", ["RTMPose", "ViTPose"])
@pytest.mark.parametrize("channels", ["bgr", "rgb"])
def test_top_down(rtmlib: Any, images: list[np.ndarray], tmp_path: Path, kind: str, channels: str) -> None:
    write = foreign_graphs.simcc if kind == "RTMPose" else foreign_graphs.heat_maps
    path = write(tmp_path / "pose.onnx")
    other = getattr(rtmlib, kind)(str(path), model_input_size=(48, 64), backend="onnxruntime", device="cpu")
    runtime = open_foreign(path)
    estimator: Any = runtime._estimator
    for image in images[:2]:
        # rtmlib normalizes BGR with the means of RGB; these networks are trained on RGB
        points, scores = other(image if channels == "bgr" else np.ascontiguousarray(image[..., ::-1]), BOXES)
        estimator._preprocessing = type(estimator._preprocessing)(
            channels=channels, mean=estimator._preprocessing.mean, std=estimator._preprocessing.std
        )
        boxes = np.column_stack((BOXES, np.ones(len(BOXES)))).astype(np.float32)
        found = estimator.estimate_in(to_image(planes(image)), boxes)
        reliable = scores > 0
        assert reliable.mean() > 0.9
        np.testing.assert_allclose(found.points[..., :2][reliable], points[reliable], rtol=0, atol=2e-3)
        np.testing.assert_allclose(found.points[..., 2], scores, rtol=0, atol=2e-5)
