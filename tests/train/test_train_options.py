"""Effects of training options that no unit test covers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from train_worlds import FAST, make_world

from yolopose import YOLO
from yolopose.base.errors import DataError
from yolopose.config import TrainOptions
from yolopose.criterion import PoseCriterion
from yolopose.train import validation
from yolopose.train.process import deterministic_kernels

STILL = {"epochs": 1, "optimizer": "SGD", "lr0": 0.0, "warmup_bias_lr": 0.0}  # learns nothing


def trained(tmp_path: Path, **options: Any) -> YOLO:
    data, model_yaml = make_world(tmp_path / "blocks")
    model = YOLO(model_yaml)
    model.train(data=data, **{**FAST, "project": tmp_path / "runs", "epochs": 1, **options})
    return model


def test_gains_scale_their_losses(tmp_path: Path) -> None:
    plain = {name: getattr(TrainOptions(), name) for name in PoseCriterion.terms}
    factors = {name: 2.0**power for power, name in enumerate(plain, 1)}
    one, two = (
        trained(tmp_path, **STILL, **gains).trainer.tloss
        for gains in (plain, {name: value * factors[name] for name, value in plain.items()})
    )
    assert (one > 0).all()
    torch.testing.assert_close(two / one, torch.tensor(list(factors.values())))


@pytest.mark.parametrize(
    ("options", "sizes"),
    [
        ({"imgsz": 96}, {(96, 96)}),
        ({"imgsz": 90}, {(96, 96)}),
        ({"imgsz": [64, 96]}, {(96, 96)}),
        ({"imgsz": 128, "multi_scale": 0.5, "epochs": 4}, None),
    ],
    ids=str,
)
def test_input_size(options: dict[str, Any], sizes: Any, tmp_path: Path) -> None:
    data, model_yaml = make_world(tmp_path / "blocks")
    model, seen = YOLO(model_yaml), set()

    def watch(trainer: Any) -> None:
        trainer.model.model[0].register_forward_pre_hook(lambda _, inputs: seen.add(tuple(inputs[0].shape[2:])))

    model.add_callback("on_train_start", watch)
    model.train(data=data, **{**FAST, "project": tmp_path / "runs", "epochs": 1, **options})
    assert seen == sizes if sizes else (len(seen) > 2 and max(seen)[0] <= 192 and min(seen)[0] >= 64)


@pytest.mark.parametrize(
    ("options", "dtype", "last"),
    [({}, None, True), ({"amp": "bf16"}, torch.bfloat16, True), ({"amp": False, "channels_last": False}, None, False)],
    ids=str,
)
def test_precision_and_memory_format(options: dict[str, Any], dtype: Any, last: bool, tmp_path: Path) -> None:
    trainer = trained(tmp_path, **options).trainer
    weight = trainer.model.state_dict()["model.1.conv.weight"]
    assert trainer._state.precision.dtype == dtype
    assert weight.is_contiguous(memory_format=torch.channels_last) == last
    assert weight.dtype == torch.float32


def test_seed_and_compile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[Any] = []
    monkeypatch.setattr(torch, "compile", lambda function: compiled.append(function) or function)
    first, second, third = (trained(tmp_path, **options) for options in ({}, {"compile": True}, {"seed": 1}))
    assert len(compiled) == 1
    weights = [model.model.state_dict()["model.1.conv.weight"] for model in (first, second, third)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_validation_uses_its_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    honest, taken = validation.validate, []

    def validate(runtime: Any, options: Any, *args: Any, **named: Any) -> Any:
        taken.append(options)
        return honest(runtime, options, *args, **named)

    monkeypatch.setattr(validation, "validate", validate)
    given = {"conf": 0.02, "iou": 0.5, "max_det": 7, "split": "train"}
    folder = trained(tmp_path, **given, save_json=True).trainer.save_dir
    assert len(taken) == 2
    for options in taken:
        assert {key: getattr(options, key) for key in given} == given
    assert (folder / "predictions.json").is_file()
    assert not list(folder.glob("*.png"))
    with pytest.raises(DataError, match="no `test:` entry"):
        trained(tmp_path, split="test")


def test_deterministic_kernels() -> None:
    cudnn, gpu = torch.backends.cudnn, torch.device("cuda")
    before = cudnn.deterministic, cudnn.benchmark, torch.are_deterministic_algorithms_enabled()
    for wanted in (True, False):
        with deterministic_kernels(gpu, wanted):
            assert (cudnn.deterministic, cudnn.benchmark) == (wanted, not wanted)
            assert torch.are_deterministic_algorithms_enabled() == wanted
        assert (cudnn.deterministic, cudnn.benchmark, torch.are_deterministic_algorithms_enabled()) == before
    with deterministic_kernels(torch.device("cpu"), True):
        assert not torch.are_deterministic_algorithms_enabled()
