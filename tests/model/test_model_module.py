"""`YOLO.to` and the other methods of a torch module set what later calls use."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from few_images import SMALL
from yolopose import YOLO
from yolopose.base.errors import UsageError
from yolopose.model.module import Device

torch = pytest.importorskip("torch")


@pytest.fixture
def small(tmp_path: Path) -> YOLO:
    file = tmp_path / "small-pose.yaml"
    file.write_text(SMALL, encoding="utf-8")
    return YOLO(file)


def options_of_calls(model: YOLO, monkeypatch: pytest.MonkeyPatch, **options: Any) -> Any:
    """Return the options that a prediction receives."""
    received: list[Any] = []

    def predict(runtime: object, source: object, options: object, callbacks: object) -> Any:
        received.append(options)
        return iter(())

    monkeypatch.setattr("yolopose.predict.predict", predict)
    model.predict("a.jpg", **options)
    return received[-1]


@pytest.mark.parametrize(
    ("call", "device", "half"),
    [
        (lambda m: m.to("cpu"), "cpu", False),
        (lambda m: m.cpu(), "cpu", False),
        (lambda m: m.to(torch.device("cpu")), "cpu", False),
        (lambda m: m.to(device="cpu", dtype=torch.float16), "cpu", True),
        (lambda m: m.to(torch.zeros(1, dtype=torch.float16)), "cpu", True),
        (lambda m: m.to("cpu", non_blocking=True), "cpu", False),
        (lambda m: m.to(torch.bfloat16), None, True),
        (lambda m: m.half(), None, True),
        (lambda m: m.half().float(), None, False),
        (lambda m: m.half().to(torch.float32), None, False),
        (lambda m: m.eval(), None, False),
    ],
)
def test_later_calls_use_device_and_precision(
    call: Any, device: str | None, half: bool, small: YOLO, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert call(small) is small
    options = options_of_calls(small, monkeypatch)
    assert (options.device, options.half) == (device, half)


def test_options_of_a_call_win(small: YOLO, monkeypatch: pytest.MonkeyPatch) -> None:
    small.cpu().half()
    options = options_of_calls(small, monkeypatch, device="cpu:0", half=False)
    assert (options.device, options.half) == ("cpu:0", False)


def test_device_that_is_absent_is_an_error(small: YOLO) -> None:
    with pytest.raises(UsageError, match="not available"):
        small.to("cuda:99")
    with pytest.raises(UsageError, match="not valid"):
        small.to("toaster")
    with pytest.raises(UsageError, match=r"torch\.float16 or torch\.float32"):
        small.to(torch.int8)
    if not torch.cuda.is_available():
        with pytest.raises(UsageError, match="no CUDA GPU"):
            small.cuda()


def test_half_computes_in_16_bits_and_keeps_the_weights(small: YOLO, tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)
    options = {"conf": 0.0, "max_det": 3, "imgsz": 96, "verbose": False, "device": "cpu"}
    expected = small(image, half=True, **options)[0].boxes.data
    torch.testing.assert_close(small.half()(image, **options)[0].boxes.data, expected, rtol=0, atol=0)
    assert {value.dtype for value in small.parameters()} == {torch.float32}
    again = YOLO(small.save(tmp_path / "a.pt"))
    torch.testing.assert_close(next(again.parameters()), next(small.parameters()), rtol=0, atol=0)


def test_training_and_copies_keep_the_device(small: YOLO) -> None:
    assert copy.deepcopy(small.cpu().half())._placement == {"device": "cpu", "half": True}
    completed = small._defaults.complete(small._check("train", {"data": "a.yaml", "verbose": False}))
    assert (completed.device, completed.half) == ("cpu", False)


def test_device_has_the_attributes_of_a_torch_device(small: YOLO) -> None:
    assert small.device == "cpu"
    assert small.device == torch.device("cpu")
    assert torch.device("cpu") == small.device
    assert (small.device.type, small.device.index) == ("cpu", None)
    assert (Device("cuda:1").type, Device("cuda:1").index) == ("cuda", 1)
    assert Device("cuda:1") != torch.device("cuda:0")
    assert torch.zeros(1, device=small.device).device.type == "cpu"
    assert {small.device: 1}["cpu"] == 1


def test_reads_the_parameters_of_the_module(small: YOLO) -> None:
    assert next(small.parameters()) is next(small.model.parameters())
    assert small.state_dict().keys() == small.model.state_dict().keys()
    assert small.training is small.model.training
    assert small.eval().training is False


def test_exported_file_uses_the_device(small: YOLO) -> None:
    pytest.importorskip("onnx")
    exported = YOLO(small.export(format="onnx", imgsz=64, verbose=False))
    assert exported.cpu().device == "cpu"
    exported.to("toaster")
    with pytest.raises(UsageError, match="toaster"):
        exported(np.zeros((64, 64, 3), np.uint8), verbose=False)
