"""Two processes train as one does: the same samples, losses, gradients, weights and metrics. Played by threads."""

from __future__ import annotations

import copy
import csv
import shutil
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from thread_group import run_ranks
from train_worlds import DUAL_MODEL, FAST, MODEL, make_world

from yolopose.base.callbacks import Callbacks
from yolopose.config import make_options, train_settings
from yolopose.nn import build_network
from yolopose.train.data import TrainData, load_data
from yolopose.train.distributed import ProcessGroup
from yolopose.train.feed import TrainBatch, TrainBatches
from yolopose.train.loop import Trainer
from yolopose.train.state import TrainState
from yolopose.weights import read_checkpoint

ONE = threading.Lock()  # there is one generator of random numbers
CPU = torch.device("cpu")
EXACT = {"optimizer": "SGD", "lr0": 0.01, "warmup_epochs": 0}


@pytest.fixture
def world(tmp_path: Path) -> tuple[Path, Path]:
    return make_world(tmp_path / "blocks", images=9)


@pytest.fixture
def still(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches norms in evaluation mode: what a process makes of its images does not depend on how many it has."""
    usual = TrainState.begin_epoch

    def begin(self: TrainState, epoch: int, epochs: int) -> None:
        usual(self, epoch, epochs)
        for module in self.model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.eval()

    monkeypatch.setattr(TrainState, "begin_epoch", begin)


def parts(world: tuple[Path, Path], **options: Any) -> tuple[Any, TrainData, Any]:
    """Network, data and settled options."""
    chosen = train_settings(make_options("train", {**FAST, **EXACT, "data": str(world[0]), **options}), 32)
    with ONE:
        data = load_data(chosen, 3)
        torch.manual_seed(0)
        return build_network(world[1], spec=data.spec), data, chosen


def samples(data: TrainData, options: Any, share: tuple[int, int] = (0, 1), epoch: int = 0) -> list[TrainBatch]:
    made = TrainBatches(data.train, data.spec, options, imgsz=64, batch=options.batch, share=share)
    return list(made.epoch(epoch))


@pytest.mark.parametrize(("batch", "size"), [(4, 2), (4, 4), (6, 3)])
@pytest.mark.parametrize("rect", [False, True])
def test_shares_of_a_batch_are_disjoint_and_complete(world, batch, size, rect):
    _, data, options = parts(world, batch=batch, rect=rect)
    for epoch in (0, 1):
        whole = samples(data, options, epoch=epoch)
        shares = [samples(data, options, (rank, size), epoch) for rank in range(size)]
        assert {len(share) for share in shares} == {len(whole)}
        assert sorted(torch.cat([part.index for share in shares for part in share]).tolist()) == list(range(9))
        for number, one in enumerate(whole):
            together_ = [share[number] for share in shares]
            assert max(map(len, together_)) - min(map(len, together_)) <= 1
            for name in ("index", "images", "classes", "boxes", "keypoints"):
                assert torch.equal(torch.cat([getattr(part, name) for part in together_]), getattr(one, name))


def learned(
    world: tuple[Path, Path], group: ProcessGroup, **options: Any
) -> tuple[list[torch.Tensor], dict[str, torch.Tensor]]:
    """The losses of each batch of an epoch, and the gradients of all of them."""
    network, data, chosen = parts(world, **options)
    state = TrainState(network, data, chosen, CPU, 3, group)
    state.begin_epoch(0, 1)
    losses = []
    for number, batch in enumerate(samples(data, chosen, (group.rank, group.size))):
        terms = state.forward_backward(batch, 0, number)
        losses.append(torch.cat((terms.total[None], terms.values)))
    state._group.all_reduce_gradients(state.model)
    return losses, {name: one.grad.clone() for name, one in state.model.named_parameters() if one.grad is not None}


@pytest.mark.parametrize("model_yaml", [MODEL, DUAL_MODEL], ids=["one branch", "two branches"])
@pytest.mark.parametrize(("batch", "size"), [(4, 2), (4, 4)])
def test_losses_and_gradients_equal_those_of_one_process(world, still, model_yaml, batch, size):
    """The last batch of the 9 images leaves some processes without an image."""
    world[1].write_text(model_yaml)
    losses, gradients = learned(world, ProcessGroup(), batch=batch)
    assert all(float(loss[0]) > 0 for loss in losses)
    for ours, theirs in run_ranks(lambda group: learned(world, group, batch=batch), size):
        for one, other in zip(losses, ours, strict=True):
            torch.testing.assert_close(other, one, rtol=1e-5, atol=1e-6)
        assert theirs.keys() == gradients.keys()
        for name, gradient in gradients.items():
            scale = max(float(gradient.abs().max()), 1e-3)
            torch.testing.assert_close(theirs[name] / scale, gradient / scale, rtol=1e-5, atol=1e-5)


def run(
    world: tuple[Path, Path], folder: Path, group: ProcessGroup, state: Any = None, calls: Any = None, **options: Any
):
    """Train, or goes on; returns the trainer."""
    network, data, chosen = parts(world, **{"nbs": 8, "val": False, **options})
    if state:
        network.load_state_dict(state["average"])
        state = state["state"] if group.is_main else {**state["state"], "gradients": None}
    callbacks = Callbacks()
    for event, function in (calls or {}).items() if group.is_main else ():
        callbacks.add(event, function)
    folder.mkdir(exist_ok=True)
    trainer = Trainer(network, data, chosen, CPU, folder, callbacks=callbacks, state=copy.deepcopy(state), group=group)
    trainer.train()
    return trainer


def rows(folder: Path) -> list[dict[str, float]]:
    with (folder / "results.csv").open() as file:
        found = list(csv.DictReader(file))
    return [{key: float(value or "nan") for key, value in row.items() if key != "time"} for row in found]


def weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    """Those of the network and of its average; how many batches a norm has seen is of no use to anybody."""
    every = {**trainer.model.state_dict(), **{f"ema.{k}": v for k, v in trainer.ema.model.state_dict().items()}}
    return {name: value for name, value in every.items() if value.is_floating_point()}


def test_two_processes_train_like_one(world, still, tmp_path):
    alone = run(world, tmp_path / "one", ProcessGroup(), val=True)
    first, second = run_ranks(lambda group: run(world, tmp_path / "two", group, val=True))
    for one, two in zip(rows(tmp_path / "one"), rows(tmp_path / "two"), strict=True):
        assert two == pytest.approx(one, rel=1e-3, abs=1e-4, nan_ok=True)  # nothing detected: no pixel errors
    torch.testing.assert_close(weights(first), weights(alone), rtol=1e-4, atol=1e-5)
    assert first.metrics == pytest.approx(alone.metrics, rel=1e-3, abs=1e-4)
    best = read_checkpoint(tmp_path / "two/weights/best.pt").state
    torch.testing.assert_close(dict(second.ema.model.state_dict()), dict(best), rtol=0, atol=0)
    assert first.epoch == alone.epoch == 1
    assert (second.validator, second.metrics) == (None, {})


def test_all_ranks_hold_equal_weights_and_one_writes(world, tmp_path):
    """With norms that learn their statistics from the images of each process."""
    first, second = run_ranks(lambda group: run(world, tmp_path / "two", group, save=False))
    torch.testing.assert_close(weights(second), weights(first), rtol=0, atol=0)
    one, two = first.optimizer.state_dict(), second.optimizer.state_dict()
    torch.testing.assert_close(two["state"], one["state"], rtol=0, atol=0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["blocks", "two"]
    assert [row["epoch"] for row in rows(tmp_path / "two")] == [1, 2]


def test_stop_set_in_rank_0_applies_to_all(world, tmp_path):
    def enough(trainer: Trainer) -> None:
        trainer.stop = trainer.epoch == 1

    found = run_ranks(lambda group: run(world, tmp_path / "two", group, calls={"on_fit_epoch_end": enough}, epochs=5))
    assert [trainer._state.ema.updates for trainer in found] == [found[0].ema.updates] * 2
    assert len(rows(tmp_path / "two")) == 2


def test_the_time_limit_of_rank_0_applies_to_all(world, tmp_path):
    first, second = run_ranks(lambda group: run(world, tmp_path / "two", group, epochs=50, time=1e-6))
    assert first.epochs == second.epochs == 1


@pytest.mark.parametrize("size", [1, 2])
def test_resumes_with_another_number_of_processes(world, still, tmp_path, size):
    """Gradients that wait for a step are kept: 3 batches an epoch, a step after each second one."""
    world, kept = make_world(tmp_path / "ten", images=10), {}

    def keep(trainer: Trainer) -> None:
        if trainer.epoch == 0:
            state = trainer.state_dict(1, 0)
            shutil.copytree(trainer.save_dir, tmp_path / "on")
            kept.update(copy.deepcopy({"state": state, "average": trainer.ema.model.state_dict()}))

    whole = run_ranks(lambda group: run(world, tmp_path / "whole", group, calls={"on_fit_epoch_end": keep}))[0]
    assert kept["state"]["gradients"] is not None
    assert any(gradient is not None and gradient.abs().sum() > 0 for gradient in kept["state"]["gradients"])
    if size == 2:
        found = run_ranks(lambda group: run(world, tmp_path / "on", group, kept))[0]
        torch.testing.assert_close(weights(found), weights(whole), rtol=0, atol=0)
    else:
        found = run(world, tmp_path / "on", ProcessGroup(), kept)
        torch.testing.assert_close(weights(found), weights(whole), rtol=1e-4, atol=1e-5)


def test_ctrl_c_in_one_rank_stops_all_after_a_step(world, tmp_path):
    left: list[str] = []

    def press(trainer: Trainer) -> None:
        trainer._interrupt.requested = trainer.epoch == 0

    def work(group: ProcessGroup) -> None:
        with pytest.raises(KeyboardInterrupt) as found:
            run(world, tmp_path / "two", group, calls={"on_train_batch_start": press})
        left.append(str(found.value))

    run_ranks(work)
    assert len(left) == 2
    assert left[0] == left[1]
    assert "before batch 3 of epoch 1" in left[0]


def test_all_ranks_skip_a_non_finite_loss(world, tmp_path, monkeypatch):
    """The loss of one process is none: all leave the batch out, or their steps would differ."""
    usual = TrainState.losses

    def losses(self: TrainState, batch: TrainBatch, epoch: int, number: int) -> Any:
        terms = usual(self, batch, epoch, number)
        return replace(terms, total=terms.total * np.nan) if (self._group.rank, epoch, number) == (1, 0, 0) else terms

    monkeypatch.setattr(TrainState, "losses", losses)
    first, second = run_ranks(lambda group: run(world, tmp_path / "two", group, save=False))
    torch.testing.assert_close(weights(second), weights(first), rtol=0, atol=0)
    assert all(torch.isfinite(one).all() for one in weights(first).values())
