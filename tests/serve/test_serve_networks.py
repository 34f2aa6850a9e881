"""Networks of other packages and of four channels on the server: same results as `predict`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
from running_server import run_app, serve_options

import foreign_graphs
from fake_runtime import SPEC, FakeRuntime
from yolopose import YOLO
from yolopose.base.errors import UsageError
from yolopose.schema import ModelMetadata
from yolopose.serve.app import PoseApp
from yolopose.serve.images import ImageLimits
from yolopose.serve.models import LoadedModel, ModelStore, default_params

SIZES = [(120, 160), (90, 70), (120, 160)]
CONF = 0.1


def noise(number: int) -> np.ndarray:
    rng = np.random.default_rng(number)
    small = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    height, width = SIZES[number]
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


def png(image: np.ndarray) -> bytes:
    return cv2.imencode(".png", image)[1].tobytes()


def load(path: Path, **options: Any) -> tuple[LoadedModel, Any]:
    given = serve_options(model=f"net={path}", device="cpu", imgsz=None, conf=CONF, **options)
    model = ModelStore(given).load("net")
    return model, default_params(given, model)


@pytest.mark.parametrize(
    ("graph", "detector"),
    [("rtmo", None), ("simcc", "image"), ("simcc", "rtmo"), ("heat_maps", "rtmo")],
)
def test_networks_of_other_packages_return_what_predict_returns(
    graph: str, detector: str | None, tmp_path: Path
) -> None:
    pytest.importorskip("onnxruntime")
    path = getattr(foreign_graphs, graph)(tmp_path / f"{graph}.onnx")
    if detector == "rtmo":
        detector = str(foreign_graphs.rtmo(tmp_path / "detector.onnx", seed=1))
    options = {} if detector is None else {"detector": detector}
    model, params = load(path, **options)
    images = [noise(number) for number in range(len(SIZES))]
    results = model.predict([png(image) for image in images], params)
    expected = YOLO(path).predict(images, device="cpu", conf=CONF, verbose=False, **options)
    assert sum(map(len, expected)) > 0
    for result, other in zip(results, expected, strict=True):
        assert result.orig_shape == other.orig_shape
        np.testing.assert_allclose(result.boxes.data, other.boxes.data, atol=1e-4)
        np.testing.assert_allclose(result.keypoints.data, other.keypoints.data, atol=1e-4)


def test_request_to_a_network_of_another_package(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    path = foreign_graphs.rtmo(tmp_path / "rtmo.onnx")
    with run_app(PoseApp(serve_options(model=f"net={path}", device="cpu", imgsz=None))) as server:
        for number in range(2):
            answer = httpx.post(f"{server.address}/predict", content=png(noise(number)), timeout=60).json()
            (expected,) = YOLO(path).predict(noise(number), device="cpu", verbose=False)
            assert (answer["height"], answer["width"]) == SIZES[number]
            scores = [pose["confidence"] for pose in answer["poses"]]
            np.testing.assert_allclose(scores, expected.boxes.conf, atol=1e-4)


def test_images_of_a_batch_share_the_threshold_of_the_detector(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    path = foreign_graphs.simcc(tmp_path / "simcc.onnx")
    with run_app(PoseApp(serve_options(model=f"net={path}", device="cpu", detector="image", imgsz=None))) as server:
        counts: list[int] = []
        for conf in (0.1, 0.99):
            url = f"{server.address}/predict?conf={conf}"
            counts.append(len(httpx.post(url, content=png(noise(0)), timeout=60).json()["poses"]))
    assert counts == [1, 1]  # the box of the whole image has the score 1


def test_top_down_network_without_a_detector_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    path = foreign_graphs.simcc(tmp_path / "simcc.onnx")
    with pytest.raises(UsageError, match=r"Name a network that finds the instances \(detector="):
        load(path)


def test_detector_for_a_network_that_finds_the_instances_is_refused() -> None:
    options = serve_options(detector="rtmo-t")
    with pytest.raises(UsageError, match="is for top-down networks"):
        PoseApp(options, lambda path, given: (FakeRuntime(), (160, 160)))


@pytest.mark.parametrize("has_alpha", [True, False])
def test_networks_for_four_channels_receive_the_fourth_channel_of_the_file(has_alpha: bool) -> None:
    metadata = ModelMetadata(spec=replace(SPEC, channels=4), name="four")
    model = LoadedModel("four", 1, "", FakeRuntime(metadata=metadata), (64, 64), ImageLimits(10**6))
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 4), dtype=np.uint8)
    params = default_params(serve_options(imgsz=64), model)
    pixels, _, decoded = model.prepare(png(image if has_alpha else image[..., :3]), params)
    expected = image.copy()
    if not has_alpha:
        expected[..., 3] = 255
    np.testing.assert_array_equal(pixels, expected.transpose(2, 0, 1))
    assert decoded.shape[2] == (4 if has_alpha else 3)
