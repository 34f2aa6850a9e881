"""Asynchronous training: a step never waits for its device. On the CPU, operations that would wait are errors."""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from train_worlds import FAST, make_world

from yolopose import YOLO
from yolopose.base.errors import TrainError
from yolopose.config import make_options
from yolopose.train import Trainer, new_trainer, scalars
from yolopose.train import state as state_module
from yolopose.train.scalars import TRANSFER_SIZE, AsyncScalars

# operations that read values of the device, or whose output size depends on them
WAITS = ("_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_dim", "equal", "is_nonzero")
READS = ("item", "tolist", "cpu", "numpy", "__bool__", "__float__", "__int__", "__index__")


class ForbidWaitingKernels(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        masks = name == "index" and any(one is not None and one.dtype == torch.bool for one in args[1])
        if name in WAITS or masks:
            raise AssertionError(f"{name} waits for the device")
        return func(*args, **(kwargs or {}))


class ForbidReads(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") in READS:
            raise AssertionError(f"{func.__name__} waits for the device")
        if (
            getattr(func, "__name__", "") == "prod" and args[0].requires_grad
        ):  # seen on a GPU alone, not by the judge above
            raise AssertionError("the gradient of prod waits for the device: it counts zeros")
        return func(*args, **(kwargs or {}))


@contextmanager
def forbid_waits() -> Iterator[None]:
    with ForbidReads(), ForbidWaitingKernels():
        yield


@pytest.fixture
def async_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Treat the CPU as an asynchronous device."""
    for module in (scalars, state_module):
        monkeypatch.setattr(module, "is_async", lambda _: True)


class Poison:
    """Makes the loss and norm statistics of selected batches non-finite, or only their gradients."""

    def __init__(self, bad: Callable[[int], bool], kind: str = "loss") -> None:
        self.bad, self.kind, self.count = bad, kind, 0

    def start(self, trainer: Any) -> None:
        state = trainer._state
        losses, step = state.losses, state.step

        def spoiled(*args: Any) -> Any:
            terms = losses(*args)
            self.count += 1
            if not self.bad(self.count - 1):
                return terms
            if self.kind == "gradient":
                terms.total.register_hook(lambda gradient: gradient * float("nan"))
                return terms
            return type(terms)(terms.total * float("nan"), terms.names, terms.values * float("nan"))

        def stepped(i: int) -> Any:
            if self.kind == "loss" and self.bad(self.count - 1):
                for buffer in trainer.model.buffers():
                    if buffer.is_floating_point():
                        buffer.fill_(float("nan"))
            return step(i)

        state.losses, state.step = spoiled, stepped


def make_trainer(root: Path, **options: Any) -> Trainer:
    data, model_yaml = make_world(root / "blocks")
    given = make_options("train", {**FAST, "project": str(root / "runs"), "data": str(data), **options})
    return new_trainer(given, YOLO(model_yaml).model.yaml, None)


def test_detects_host_waits() -> None:
    value = torch.tensor([1.0, 0.0])
    reads: list[Any] = [
        value.nonzero, value.tolist, value.cpu, value[0].item, lambda: value[value > 0], lambda: bool(value[0]),
        lambda: float(value[1]), lambda: torch.equal(value, value),
        value.clone().requires_grad_().prod,
    ]  # fmt: skip
    for read in reads:
        with pytest.raises(AssertionError, match="waits"), forbid_waits():
            read()


@pytest.mark.usefixtures("async_cpu")
@pytest.mark.parametrize("options", [{}, {"optimizer": "SGD"}, {"amp": "bf16"}, {"multi_scale": 0.5}], ids=str)
def test_a_step_never_waits(options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = make_trainer(tmp_path, mosaic=1.0, **options)
    module = importlib.import_module("yolopose.criterion.base")
    monkeypatch.setattr(module, "candidate_rectangles", on_the_host(module.candidate_rectangles))
    trainer._batches._render_on = torch.device("cpu")
    state, guard = trainer._state, trainer._guard
    state.begin_epoch(0, 1)
    state.forward_backward(next(trainer._batches.epoch(0)), 0, 0)  # what is remembered from then on is made
    state.step(0)
    before = [parameter.clone() for parameter in state.model.parameters()]
    with forbid_waits():
        for i, batch in enumerate(trainer._batches.epoch(1), 1):
            state.schedule.apply(trainer.optimizer, i)
            terms = state.forward_backward(batch, 0, i)
            guard.record("loss", torch.isfinite(terms.total), "here")
            guard.record("gradient", state.step(i), "here")
            trainer._meter.add(terms, i, last=False)
    assert i == 2
    assert any(not torch.equal(one, two) for one, two in zip(before, state.model.parameters(), strict=True))
    guard.check_weights("here")


def on_the_host(function: Any) -> Any:
    """Run a function of host tensors without the checks: it cannot wait for the device."""

    def call(*args: Any) -> Any:
        with _disable_current_modes(), torch._C.DisableTorchFunction():
            return function(*args)

    return call


@pytest.mark.usefixtures("async_cpu")
@pytest.mark.parametrize("optimizer", ["AdamW", "SGD", "NAdam"])
def test_async_and_sync_training_are_identical(optimizer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"optimizer": optimizer, "val": False, "save": False}
    first = make_trainer(tmp_path / "ahead", **options)
    first.train()
    for module in (scalars, state_module):
        monkeypatch.setattr(module, "is_async", lambda _: False)
    second = make_trainer(tmp_path / "beside", **options)
    second.train()
    one, two = (trainer.ema.model.state_dict() for trainer in (first, second))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert torch.equal(first.tloss, second.tloss)
    assert first._meter.displayed == second._meter.displayed == first._meter.to_dict()


@pytest.mark.usefixtures("async_cpu")
@pytest.mark.parametrize(("kind", "optimizer"), [("loss", "AdamW"), ("gradient", "AdamW"), ("gradient", "MuSGD")])
def test_the_device_skips_non_finite_batches(kind: str, optimizer: str, tmp_path: Path) -> None:
    data, model_yaml = make_world(tmp_path / "blocks")
    model, poison, states = YOLO(model_yaml), Poison({1, 2, 5}.__contains__, kind), []

    def note(trainer: Any) -> None:
        states.append([parameter.clone() for parameter in trainer.model.parameters()])

    model.add_callback("on_train_start", poison.start)
    model.add_callback("on_train_batch_end", note)
    model.train(data=data, **{**FAST, "project": tmp_path / "runs", "epochs": 3, "optimizer": optimizer})
    stood = [all(torch.equal(one, two) for one, two in zip(*pair, strict=True)) for pair in itertools.pairwise(states)]
    assert stood == [True, True, False, False, True]
    assert all(torch.isfinite(value).all() for value in model.model.state_dict().values())
    assert model.trainer._state.lr_scale == 1


@pytest.mark.usefixtures("async_cpu")
def test_rolls_back_when_non_finite_values_arrive_late(tmp_path: Path) -> None:
    data, model_yaml = make_world(tmp_path / "blocks")
    model, poison, starts = YOLO(model_yaml), Poison({3, 4, 5}.__contains__), []
    model.add_callback("on_train_start", poison.start)
    model.add_callback("on_train_epoch_start", lambda trainer: starts.append((trainer.epoch, trainer._state.lr_scale)))
    options = {**FAST, "project": tmp_path / "runs", "val": False}
    model.train(data=data, **{**options, "epochs": 4})
    assert starts == [(0, 1), (1, 1), (2, 1), (2, 0.5), (3, 0.5)]
    assert all(torch.isfinite(value).all() for value in model.model.state_dict().values())
    model, poison = YOLO(model_yaml), Poison(lambda count: count > 1)
    model.add_callback("on_train_start", poison.start)
    with pytest.raises(TrainError, match="after 3 rollbacks"):
        model.train(data=data, **{**options, "epochs": 9})


@pytest.mark.usefixtures("async_cpu")
def test_scalars_arrive_complete_and_in_order() -> None:
    told: list[list[float]] = []
    way = AsyncScalars(torch.device("cpu"))
    for number in range(2 * TRANSFER_SIZE + 2):
        way.put(torch.tensor([number, -number]), told.append)
        assert len(told) == (0 if number < 2 * TRANSFER_SIZE - 1 else TRANSFER_SIZE)  # read when the next ones are sent
    way.flush()
    assert told == [[number, -number] for number in range(2 * TRANSFER_SIZE + 2)]
    way.put(torch.tensor(1.0), told.append)
    way.clear()
    way.flush()
    assert len(told) == 2 * TRANSFER_SIZE + 2


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU here")
@pytest.mark.parametrize("options", [{}, {"amp": "bf16"}, {"amp": False}, {"optimizer": "SGD"}], ids=str)
def test_a_step_never_waits_for_a_gpu(options: dict[str, Any], tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, mosaic=1.0, device="0", **options)
    state, guard = trainer._state, trainer._guard
    state.begin_epoch(0, 1)
    for i in range(2):
        state.forward_backward(
            next(trainer._batches.epoch(0)), 0, i
        )  # kernels are chosen, and what is remembered is made
        state.step(i)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for i, batch in enumerate(trainer._batches.epoch(1), 2):
            state.schedule.apply(trainer.optimizer, i)
            terms = state.forward_backward(batch, 0, i)
            guard.record("loss", torch.isfinite(terms.total), "here")
            guard.record("gradient", state.step(i), "here")
            trainer._meter.add(terms, i, last=False)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    guard.check_weights("here")
