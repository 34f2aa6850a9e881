"""The average of the network against its formula, and its state through a checkpoint."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from yolopose.base.errors import WeightsError
from yolopose.nn import HeadOutput, PoseModel, build_network
from yolopose.train.ema import EMA
from yolopose.weights import Checkpoint, read_checkpoint, write_checkpoint


def tiny(width: int = 8, seed: int = 0) -> PoseModel:
    """A network of one level."""
    torch.manual_seed(seed)
    source: dict[str, Any] = {
        "nc": 1,
        "kpt_shape": [3, 2],
        "backbone": [[-1, 1, "Conv", [width, 3, 2]]],
        "head": [[[0], 1, "Pose", ["nc", "kpt_shape"]]],
    }
    return build_network(source)


def first_weight(model: PoseModel) -> Tensor:
    return model.state_dict()["model.0.conv.weight"]


@torch.no_grad()
def move(model: PoseModel, step: int) -> None:
    """Change parameters and buffers, in place as an optimizer and a batch norm do."""
    for tensor in model.state_dict().values():
        tensor.add_(step) if tensor.is_floating_point() else tensor.add_(1)


def test_averages_parameters_and_buffers_by_the_formula() -> None:
    model = tiny()
    ema = EMA(model)
    expected = {name: value.double().clone() for name, value in model.state_dict().items()}
    for step in range(1, 6):
        move(model, step)
        ema.update()
        keep = 0.9999 * (1 - math.exp(-step / 2000))
        assert ema.decay == pytest.approx(keep, rel=1e-12)
        for name, value in model.state_dict().items():
            expected[name] = keep * expected[name] + (1 - keep) * value.double()
    assert ema.updates == 5
    for name, value in ema.model.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(value.double(), expected[name], rtol=1e-6, atol=1e-6)
    assert "model.0.bn.running_var" in expected


@torch.no_grad()
def test_time_constants_of_a_short_run() -> None:
    ema = EMA(tiny(), decay=0.9, tau=5.0)
    for step in range(1, 30):
        ema.update()
        assert ema.decay == pytest.approx(0.9 * (1 - math.exp(-step / 5)), rel=1e-12)


def test_late_updates_have_little_weight() -> None:
    model = tiny()
    ema = EMA(model)
    ema.updates = 20_000
    before = first_weight(ema.model).clone()
    move(model, 1)
    ema.update()
    torch.testing.assert_close(
        first_weight(ema.model) - before,
        torch.full_like(before, 1 - 0.9999 * (1 - math.exp(-10.0005))),
        rtol=1e-2,
        atol=0,
    )


def test_the_average_is_a_separate_network_in_eval_mode() -> None:
    model = tiny().train()
    ema = EMA(model)
    before = {name: value.clone() for name, value in ema.model.state_dict().items()}
    move(model, 3)
    assert all(torch.equal(value, before[name]) for name, value in ema.model.state_dict().items())
    assert not any(parameter.requires_grad for parameter in ema.model.parameters())
    image = torch.zeros(1, 3, 32, 32)
    assert isinstance(ema.model(image), torch.Tensor)
    assert isinstance(model(image), HeadOutput)
    assert all(parameter.requires_grad for name, parameter in model.named_parameters() if "dfl" not in name)


def test_continues_from_a_checkpoint(tmp_path: Path) -> None:
    model = tiny()
    ema = EMA(model)
    for step in range(3):
        move(model, step)
        ema.update()
    write_checkpoint(tmp_path / "last.pt", Checkpoint(state=model.state_dict(), extra={"ema": ema.state_dict()}))

    found, again = read_checkpoint(tmp_path / "last.pt"), tiny(seed=1)
    resumed = EMA(again)
    again.load_state_dict(found.state)
    resumed.load_state_dict(found.extra["ema"])
    for network, average in ((model, ema), (again, resumed)):
        move(network, 4)
        average.update()
    assert resumed.updates == ema.updates == 4
    for name, value in ema.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], value), name


def test_refuses_the_average_of_another_network() -> None:
    with pytest.raises(WeightsError, match="belong to another network"):
        EMA(tiny()).load_state_dict(EMA(tiny(width=16)).state_dict())
