"""Rates of every batch against the recorded trainings, and against the formulas at the edges."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from yolopose.base.errors import UsageError
from yolopose.config import TrainOptions
from yolopose.train.optimizer import OptimizerConfig, make_optimizer
from yolopose.train.schedule import Schedule, make_schedule, step_due

SGD = OptimizerConfig("SGD", 0.01, 0.937, 0.1)


def schedule(batches: int = 10, optimizer: OptimizerConfig = SGD, **options: Any) -> Schedule:
    return make_schedule(TrainOptions(**options), optimizer, batches)


@pytest.mark.parametrize("run", ["auto_adamw", "sgd_linear", "sgd_cos", "warm_long"])
def test_equals_the_recorded_trainings(shared: Path, run: str) -> None:
    golden = json.loads((shared / "fixtures/schedule.json").read_text())[run]
    settings = dict(golden["settings"])
    images = settings.pop("images")
    options = TrainOptions(**settings)
    model = nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1))  # one group of each role
    optim = make_optimizer(model, options, images=images, nc=1)
    batches = math.ceil(images / settings["batch"])
    course = make_schedule(options, optim.config, batches)
    assert (batches, course.accumulation) == (golden["batches"], golden["accumulate"])
    assert len(golden["steps"]) == batches * options.epochs
    last, updates = -1, 0
    for i, expected in enumerate(golden["steps"]):
        accumulation = course.apply(optim.torch, i)
        if step_due(i, last, accumulation):
            last, updates = i, updates + 1
        groups = optim.torch.param_groups
        assert [group["lr"] for group in groups] == pytest.approx(expected["lr"], rel=1e-12, abs=0), i
        momentum = [group["momentum"] if "momentum" in group else group["betas"][0] for group in groups]
        assert momentum == pytest.approx(expected["momentum"], rel=1e-12, abs=0), i
        assert (accumulation, updates) == (expected["accumulate"], expected["ema_updates"]), i


@pytest.mark.parametrize("cosine", [False, True])
def test_decays_from_one_to_lrf(cosine: bool) -> None:
    course = schedule(epochs=8, lrf=0.2, cos_lr=cosine)
    factors = [course.factor(epoch) for epoch in range(12)]
    assert factors[0] == 1
    assert factors[4] == pytest.approx(0.6)
    assert factors[8:] == pytest.approx([0.2] * 4)  # also beyond the end
    assert factors[:9] == sorted(factors[:9], reverse=True)
    assert (factors[2] > 0.8) == cosine  # the cosine starts slower: .883 against .8


def test_warm_up_ends_at_its_last_batch() -> None:
    course = schedule(batches=7, epochs=10, warmup_epochs=1.5, batch=16)
    assert course.warmup_batches == 10  # 10.5, half to even
    before, end, after = (course.at(i) for i in (9, 10, 11))
    assert before.lr < before.bias_lr
    assert before.momentum < 0.937
    assert end == after
    assert end.lr == end.bias_lr == pytest.approx(0.01 * course.factor(1))
    assert (end.momentum, end.accumulation) == (0.937, 4)


@pytest.mark.parametrize("options", [{"epochs": 1}, {"epochs": 5, "warmup_epochs": 0}])
def test_without_warm_up_the_first_batch_has_the_full_rate(options: dict[str, Any]) -> None:
    rates = schedule(batch=16, **options).at(0)
    assert (rates.lr, rates.bias_lr, rates.momentum, rates.accumulation) == (0.01, 0.01, 0.937, 4)


def test_accumulation_rounds_halves_to_even_and_has_bounds() -> None:
    # nominal 4, warm-up of 6 batches: 1 + i/2
    course = schedule(batches=2, epochs=10, warmup_epochs=3, batch=16)
    assert [course.at(i).accumulation for i in range(8)] == [1, 2, 2, 2, 3, 4, 4, 4]
    assert schedule(batches=2, epochs=3, batch=1).accumulation == 6  # not more than the run has
    assert schedule(batch=500).accumulation == 1


def test_another_number_of_epochs_changes_decay_and_warm_up() -> None:
    course = schedule(epochs=100, warmup_epochs=3)
    shorter = course.with_epochs(3)
    assert (course.warmup_batches, shorter.warmup_batches) == (30, 20)
    assert shorter == schedule(epochs=3, warmup_epochs=3)
    assert shorter.at(25).lr < course.at(25).lr * 2
    assert course.with_epochs(0).epochs == 1


def test_betas_of_adam_are_constant() -> None:
    model = nn.Linear(1, 1)
    optim = make_optimizer(model, TrainOptions(optimizer="NAdam", momentum=0.9), images=8, nc=1)
    schedule(optimizer=optim.config).apply(optim.torch, 0)
    for group in optim.torch.param_groups:
        assert group["betas"] == (0.9, 0.999)
        assert "momentum" not in group
        assert group["lr"] == (0.1 if group["role"] == "bias" else 0)


def test_accumulated_gradients_are_summed() -> None:
    """Two batches then a step: the weights move by the sum of both gradients, not their mean."""
    weight = nn.Conv2d(1, 1, 1, bias=False)
    nn.init.zeros_(weight.weight)
    options = TrainOptions(optimizer="SGD", lr0=1, lrf=1, momentum=0, weight_decay=0, batch=32, warmup_epochs=0)
    optim = make_optimizer(weight, options, images=64, nc=1)
    course = make_schedule(options, optim.config, batches=4)
    last, seen = -1, list[float]()
    for i in range(4):
        accumulation = course.apply(optim.torch, i)
        weight(torch.full((1, 1, 1, 1), i + 1.0)).sum().backward()
        if step_due(i, last, accumulation):
            optim.torch.step()
            optim.torch.zero_grad()
            last = i
        seen.append(weight.weight.item())
    assert seen == [0, -3, -3, -10]


def test_refuses_an_unresolved_batch() -> None:
    with pytest.raises(UsageError, match="integer"):
        schedule(batch=-1)
