"""`POST /predict`: poses equal to those of `YOLO.predict`, forms, raw bodies, drawings, several models."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
from hostile_requests import GOOD
from running_server import BOX, Running, encoded, make_app, run_app, running, serve_options

from fake_runtime import FakeRuntime
from few_images import SMALL
from yolopose import YOLO
from yolopose.base.errors import UsageError
from yolopose.serve import create_app
from yolopose.serve.models import parse_models
from yolopose.serve.service import unique_names


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running() as started:
        yield started


def post(server: Running, path: str = "/predict", **options: Any) -> httpx.Response:
    return httpx.post(server.address + path, timeout=60, **options)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".bmp"])
@pytest.mark.parametrize("is_form", [False, True])
def test_image_as_body_and_as_form(suffix: str, is_form: bool, server: Running) -> None:
    data = encoded(suffix)
    body: dict[str, Any] = {"files": {"file": (f"a{suffix}", data)}} if is_form else {"content": data}
    values = post(server, **body).raise_for_status().json()
    assert (values["width"], values["height"], values["model"]) == (160, 120, "fake")
    (pose,) = values["poses"]
    assert (pose["class"], pose["class_id"], pose["confidence"]) == ("red", 0, 0.875)
    np.testing.assert_allclose([pose["box"][name] for name in ("x1", "y1", "x2", "y2")], BOX, atol=2)
    assert list(pose["keypoints"]) == ["keypoint 0", "keypoint 1"]
    first = pose["keypoints"]["keypoint 0"]
    np.testing.assert_allclose([first["x"], first["y"], first["confidence"]], [*BOX[:2], 0.75], atol=2)
    assert set(values["time_ms"]) == {"decode", "queue", "inference", "postprocess", "total"}


def test_parameters_in_query_and_form(server: Running) -> None:
    for query, count in (("conf=0.9", 0), ("classes=1", 0), ("classes=0,1", 1), ("conf=0.5&iou=0.3&max_det=1", 1)):
        assert len(post(server, f"/predict?{query}", content=GOOD).json()["poses"]) == count
        fields = dict(part.split("=") for part in query.split("&"))
        form = post(server, data=fields, files={"file": GOOD})
        assert len(form.raise_for_status().json()["poses"]) == count
    both = post(server, "/predict?conf=0.1", data={"conf": "0.9"}, files={"file": GOOD})
    assert both.json()["poses"] == []  # the form wins


@pytest.mark.parametrize(("name", "option"), [("confidence", "conf"), ("iuo", "iou"), ("img_size", "imgsz")])
def test_suggestions_for_unknown_parameters(name: str, option: str, server: Running) -> None:
    response = post(server, f"/predict?{name}=0.5", content=GOOD)
    assert response.status_code == 400
    assert f"Did you mean {option!r}?" in response.json()["error"]["message"]


def test_drawing(server: Running) -> None:
    plain = cv2.imdecode(np.frombuffer(GOOD, np.uint8), cv2.IMREAD_COLOR)
    response = post(server, "/predict?format=image", content=GOOD)
    assert response.headers["content-type"] == "image/jpeg"
    drawing = cv2.imdecode(np.frombuffer(response.content, np.uint8), cv2.IMREAD_COLOR)
    assert drawing.shape == plain.shape
    assert np.abs(drawing.astype(int) - plain).max() > 100


def test_exif_orientation_is_applied(server: Running) -> None:
    pillow = pytest.importorskip("PIL.Image")
    image = pillow.open(io.BytesIO(GOOD))
    exif = pillow.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    image.save(file, "JPEG", exif=exif)
    values = post(server, content=file.getvalue()).json()
    assert (values["width"], values["height"]) == (120, 160)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network with random weights, exported for any input size; all of its scores are about the same."""
    pytest.importorskip("torch")
    pytest.importorskip("onnx")
    file = tmp_path_factory.mktemp("small") / "small-pose.yaml"
    file.write_text(SMALL, encoding="utf-8")
    return Path(YOLO(file).export(format="onnx", dynamic=True, imgsz=64, simplify=False, verbose=False))


@pytest.mark.parametrize("batch", [1, 8])
def test_equal_to_predict_in_any_batch(batch: int, exported: Path) -> None:
    """Requests of different sizes and parameters that are computed together do not affect each other."""
    model = YOLO(exported)
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (height, 96, 3), dtype=np.uint8) for height in (64, 64, 64, 96, 128, 64, 96, 64)]
    files = [cv2.imencode(".png", image)[1].tobytes() for image in images]
    params = [
        {"conf": conf, "iou": iou, "max_det": 20}
        for conf, iou in zip((0, 0.001, 0.3, 0.005) * 2, (0.5, 0.9) * 4, strict=True)
    ]
    app = create_app(model=f"small={exported}", batch=batch, imgsz=64, verbose=False, port=0, max_delay_ms=50)
    with run_app(app) as server, ThreadPoolExecutor(8) as pool:
        answers = list(
            pool.map(lambda pair: post(server, content=pair[0], params=pair[1]), zip(files, params, strict=True))
        )
    for image, given, answer in zip(images, params, answers, strict=True):
        (expected,) = model(image, imgsz=64, verbose=False, **given)
        poses = answer.raise_for_status().json()["poses"]
        assert len(poses) == len(expected)
        corners = [[pose["box"][name] for name in ("x1", "y1", "x2", "y2")] for pose in poses]
        np.testing.assert_allclose(np.reshape(corners, (-1, 4)), expected.boxes.xyxy, atol=0.01)
        points = [[[point["x"], point["y"]] for point in pose["keypoints"].values()] for pose in poses]
        np.testing.assert_allclose(np.reshape(points, (-1, 5, 2)), expected.keypoints.xy, atol=0.01)
        assert [pose["class_id"] for pose in poses] == expected.boxes.cls.tolist()


def test_real_weights(shared: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    weights = tmp_path / "yolo11n-pose.pt"
    shutil.copyfile(shared / "checkpoints/yolo11n-pose.pt", weights)
    (expected,) = YOLO(weights)(shared / "images/bus.jpg", verbose=False)
    with run_app(create_app(model=str(weights), verbose=False, port=0)) as server:
        poses = post(server, content=(shared / "images/bus.jpg").read_bytes()).json()["poses"]
    assert len(poses) == len(expected) == 4
    for pose, points in zip(poses, expected.numpy().keypoints.data, strict=True):
        assert list(pose["keypoints"])[:2] == ["nose", "left_eye"]
        named = [[point["x"], point["y"], point["confidence"]] for point in pose["keypoints"].values()]
        np.testing.assert_allclose(named, points, atol=0.01)


def test_several_models() -> None:
    with running(model="first=a.onnx,second=b.onnx") as server:
        assert post(server, content=GOOD).json()["model"] == "first"
        assert post(server, "/predict?model=second", content=GOOD).json()["model"] == "second"
        assert post(server, data={"model": "second"}, files={"file": GOOD}).json()["model"] == "second"
        models = httpx.get(f"{server.address}/models").json()["models"]
        assert [model["name"] for model in models] == ["first", "second"]
        assert models[0]["classes"] == {"0": "red", "1": "green"}
        metrics = httpx.get(f"{server.address}/metrics").text
        assert 'yolopose_images_total{model="second"} 2.0' in metrics
        assert 'yolopose_requests_total{path="/predict",status="200"} 3.0' in metrics


def test_health_and_unknown_paths(server: Running) -> None:
    assert httpx.get(f"{server.address}/healthz").json() == {"status": "alive"}
    assert httpx.get(f"{server.address}/readyz").json() == {"status": "ready"}
    assert httpx.head(f"{server.address}/readyz").status_code == 200
    httpx.get(f"{server.address}/some/{'path' * 10}")
    assert "some/path" not in httpx.get(f"{server.address}/metrics").text  # unknown paths do not create counters


def test_error_inside_the_server_is_not_shown(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("/secret/path.onnx")

    monkeypatch.setattr(FakeRuntime, "infer", fail)
    response = post(server, content=GOOD)
    assert response.status_code == 500
    assert response.json()["error"]["code"] == "internal"
    assert "secret" not in response.text
    monkeypatch.undo()
    assert post(server, content=GOOD).status_code == 200


@pytest.mark.parametrize(
    ("text", "files"),
    [
        ("a/yolo11n-pose.onnx", {"yolo11n-pose": "a/yolo11n-pose.onnx"}),
        ("x_openvino_model", {"x": "x_openvino_model"}),
        ("person=a.onnx,mouse=b.pt", {"person": "a.onnx", "mouse": "b.pt"}),
        ("[a.onnx, b.onnx]", {"a": "a.onnx", "b": "b.onnx"}),
        ("my model (1).onnx", {"my-model-1": "my model (1).onnx"}),
    ],
)
def test_names_of_models(text: str, files: dict[str, str]) -> None:
    assert parse_models(text) == {name: Path(file) for name, file in files.items()}


@pytest.mark.parametrize("text", [None, "", "a/x.onnx,b/x.onnx", "a b=x.onnx", "../a=x.onnx"])
def test_impossible_models(text: str | None) -> None:
    with pytest.raises(UsageError):
        parse_models(text)


@pytest.mark.parametrize("options", [{"conf": 2}, {"queue": 0}, {"port": 70000}, {"classes": [7]}])
def test_impossible_options(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        make_app(**options)


def test_options_of_the_server_are_defaults_of_requests() -> None:
    with running(conf=0.9) as server:
        assert post(server, content=GOOD).json()["poses"] == []
        assert len(post(server, "/predict?conf=0.5", content=GOOD).json()["poses"]) == 1
    assert serve_options().host == "127.0.0.1"


def test_repeated_keypoint_names() -> None:
    assert unique_names(("a", "b", "a", "a 2", "a")) == ("a", "b", "a 2", "a 2 2", "a 3")
