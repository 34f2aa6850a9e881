"""The fused steps do exactly what torch's own optimizers do."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from yolopose.train.fused_step import FusedAdamW, FusedSGD


def make_groups(seed: int) -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(seed)
    values = [torch.randn(size, generator=generator) for size in ((4, 3, 2, 2), (5,), (7,), (2, 3))]
    parameters = [nn.Parameter(value) for value in values]
    return [{"params": parameters[:2], "weight_decay": 0.1}, {"params": parameters[2:], "lr": 0.03}]


def step(optimizer: Optimizer, i: int, *, skip: bool = False) -> None:
    """Step with random gradients; every third step leaves one parameter without, `skip` makes them non-finite."""
    generator = torch.Generator().manual_seed(i)
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.randn(parameter.shape, generator=generator)
    if i % 3 == 2:
        optimizer.param_groups[1]["params"][0].grad = None
    optimizer.grad_scale = None  # type: ignore[attr-defined]
    optimizer.found_inf = torch.tensor(float(skip))  # type: ignore[attr-defined]
    optimizer.step()


def values_of(optimizer: Optimizer) -> list[Tensor]:
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    states = [optimizer.state[parameter] for parameter in parameters]
    return [*parameters, *(value for state in states for _, value in sorted(state.items()))]


@pytest.mark.parametrize("kind", ["AdamW", "SGD"])
def test_steps_are_equal_to_those_of_torch(kind: str) -> None:
    if kind == "AdamW":
        ours: Optimizer = FusedAdamW(make_groups(0), 0.01, (0.8, 0.99))
        theirs: Optimizer = AdamW(make_groups(0), lr=0.01, betas=(0.8, 0.99), fused=True)
    else:
        ours = FusedSGD(make_groups(0), 0.01, 0.9)
        theirs = SGD(make_groups(0), lr=0.01, momentum=0.9, nesterov=True, fused=True)
    for i in range(9):
        for optimizer in (ours, theirs):
            optimizer.param_groups[0]["lr"] = 0.01 / (i + 1)  # as a schedule does
            step(optimizer, i, skip=i == 4)
            if i == 6:
                optimizer.load_state_dict(optimizer.state_dict())
        for own, expected in zip(values_of(ours), values_of(theirs), strict=True):
            assert torch.equal(own, expected)
