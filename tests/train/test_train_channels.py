"""Networks for gray images and for four channels: training, validation, prediction and export."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from train_worlds import FAST, make_world

from yolopose import YOLO
from yolopose.base.errors import TrainError, UsageError

World = tuple[Path, Path, int]


def with_channels(root: Path, channels: int) -> tuple[Path, Path]:
    """Images of as many channels; the bright block is bright in all of them."""
    data, model = make_world(root)
    for file in (root / "images").rglob("*.png"):
        image: Any = cv2.imread(str(file))
        gray = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
        cv2.imwrite(str(file), gray if channels == 1 else np.dstack((image, gray)))
    data.write_text(f"channels: {channels}\n{data.read_text()}")
    return data, model


@pytest.fixture(params=[1, 4])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    return *with_channels(tmp_path / "blocks", request.param), request.param


def boxes(result: Any) -> np.ndarray:
    return np.asarray(result.boxes.data)


@pytest.mark.parametrize("cache", [False, "ram", "disk"])
def test_learns_validates_predicts_and_exports(world: World, tmp_path: Path, cache: bool | str) -> None:
    data, model, channels = world
    options = {**FAST, "epochs": 20, "plots": True, "mosaic": 0.5, "mixup": 0.3, "degrees": 10.0, "cache": cache}
    network = YOLO(model)
    network.train(data=data, project=tmp_path / "runs", name="a", **options)
    assert network.model.model[0].conv.in_channels == channels
    best = tmp_path / "runs" / "a" / "weights" / "best.pt"
    trained = YOLO(best)
    assert trained.spec.channels == channels
    metrics = trained.val(data=data, imgsz=64, device="cpu", plots=False, verbose=False)
    assert metrics.box.map50 > 0.5

    file = next((data.parent / "images" / "val").glob("*.png"))
    stored: Any = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
    options = {"imgsz": 64, "conf": 0.01, "verbose": False}
    (expected,) = trained(str(file), **options)
    assert len(expected) > 0
    sources: list[Any] = [stored, file.read_bytes(), stored.astype(np.float32) / 255]
    if channels == 1:
        sources += [stored[:, :, None], np.dstack([stored] * 3)]
    for source in sources:
        np.testing.assert_allclose(boxes(trained(source, **options)[0]), boxes(expected), atol=1e-3)
    planes = stored[None] if channels == 1 else stored.transpose(2, 0, 1)
    tensor = torch.from_numpy(planes.copy())[None].float() / 255
    np.testing.assert_allclose(boxes(trained(tensor, **options)[0]), boxes(expected), atol=1e-3)
    assert expected.plot().shape == (64, 64, 3)
    with pytest.raises(UsageError, match=rf"pass \(B, {channels}, height, width\), float"):
        trained(tensor[:, :1].expand(-1, 2, -1, -1), **options)

    if cache:
        return
    for name in ("onnx", "torchscript"):
        pytest.importorskip("onnxruntime")
        exported = YOLO(trained.export(format=name, imgsz=64))
        assert exported.spec.channels == channels
        np.testing.assert_allclose(boxes(exported(str(file), **options)[0]), boxes(expected), atol=1e-2)
        assert exported.val(data=data, imgsz=64, plots=False, verbose=False).box.map50 > 0.5
    with pytest.raises(UsageError, match=f"reads {channels} channels"):
        trained.export(format="coreml", imgsz=64)


def test_public_metadata_has_the_channels(world: World) -> None:
    onnx = pytest.importorskip("onnx")
    _, model, channels = world
    model.write_text(f"channels: {channels}\n{model.read_text()}")
    path = YOLO(model).export(format="onnx", imgsz=64)  # beside the YAML
    stored = {item.key: item.value for item in onnx.load(path).metadata_props}
    shape = onnx.load(path).graph.input[0].type.tensor_type.shape.dim
    assert (stored["channels"], shape[1].dim_value) == (str(channels), channels)


def test_starts_from_weights_for_color(world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, model, channels = world
    color, _ = make_world(tmp_path / "color")
    YOLO(model).train(data=color, project=tmp_path / "runs", name="color", **FAST)
    weights = tmp_path / "runs" / "color" / "weights" / "last.pt"
    capsys.readouterr()
    network = YOLO(weights)
    options = {**FAST, "hsv_h": 0.3, "bgr": 0.5, "verbose": True}
    network.train(data=data, project=tmp_path / "runs", name="a", **options)
    logged = capsys.readouterr()
    assert f"the first convolution was converted from 3 to {channels} channels" in logged.out + logged.err
    assert f"hsv_h=0.3, bgr=0.5 without effect: images have {channels} channels" in logged.err
    assert network.spec.channels == channels


def test_keeps_the_channels_of_the_network_without_those_of_the_data(world: World, tmp_path: Path) -> None:
    data, model, channels = world
    model.write_text(f"channels: {channels}\n{model.read_text()}")
    data.write_text(data.read_text().replace(f"channels: {channels}\n", ""))
    network = YOLO(model)
    network.train(data=data, project=tmp_path / "runs", name="a", **FAST)
    assert network.spec.channels == channels
    again = YOLO(tmp_path / "runs" / "a" / "weights" / "last.pt")
    data.write_text(f"channels: 3\n{data.read_text()}")  # the data decide where they say
    again.train(data=data, project=tmp_path / "runs", name="b", **FAST)
    assert again.spec.channels == 3


def test_changed_channels_end_a_resume(world: World, tmp_path: Path) -> None:
    data, model, channels = world
    network = YOLO(model)

    def interrupt(trainer: Any) -> None:
        if trainer.epoch == 1:
            raise KeyboardInterrupt

    network.add_callback("on_train_epoch_start", interrupt)
    with pytest.raises(KeyboardInterrupt):
        network.train(data=data, project=tmp_path / "runs", name="a", **{**FAST, "epochs": 3})
    last = tmp_path / "runs" / "a" / "weights" / "last.pt"
    text = data.read_text()
    data.write_text(text.replace(f"channels: {channels}", "channels: 3"))
    with pytest.raises(TrainError, match=f"and {channels} channels, and .* and 3: the data set has changed"):
        YOLO(last).train(resume=True)
    data.write_text(text)
    resumed = YOLO(last)
    resumed.train(resume=True)
    assert resumed.spec.channels == channels
