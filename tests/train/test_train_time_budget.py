"""Runs with a time limit, on a simulated clock: how many epochs are planned, and when a run ends."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import pytest
from train_worlds import FAST, make_world

from yolopose import YOLO
from yolopose.config import TrainOptions, train_settings
from yolopose.train.time_budget import TimeBudget, make_budget


class Clock:
    """A clock that only moves when it is told to."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


class Run:
    """A training of simulated durations that obeys its budget."""

    def __init__(self, limit: float, batches: int, *, batch: float, end: float, slow: float = 0.0, **more: float):
        self.clock = Clock()
        self.budget = TimeBudget(limit, batches, clock=self.clock, **more)
        self.batch, self.end, self.slow = batch, end, slow
        self.done = 0
        self.epochs = 100
        self.planned: list[int] = []

    @property
    def elapsed(self) -> float:
        return self.clock.now - Clock.now

    def train(self) -> float:
        """Return the seconds from the start to the end of the last validation, which takes as long as the others."""
        self.budget.start()
        epoch = 0
        stop = False
        while epoch < self.epochs and not stop:
            for number in range(self.budget.batches):
                self.clock.now += self.batch + (self.slow if self.done == 0 else 0)
                self.done += 1
                self.budget.batch_done()
                if self.budget.is_spent(self.elapsed) and number + 1 < self.budget.batches:
                    stop = True
                    break
            self.clock.now += self.end
            self.budget.validation_done()
            epoch += 1
            self.epochs = self.budget.epochs(epoch, self.elapsed)
            self.planned.append(self.epochs)
            self.budget.epoch_done()
        self.clock.now += self.end + self.budget.files
        return self.elapsed


@pytest.mark.parametrize("slow", [0, 8])
@pytest.mark.parametrize(("batches", "batch", "end"), [(100, 0.12, 2), (100, 0.3, 8), (9, 1.0, 1), (400, 2.5, 50)])
def test_ends_within_the_limit_and_uses_it(batches: int, batch: float, end: float, slow: float) -> None:
    run = Run(240, batches, batch=batch, end=end, slow=slow, files=6, validation_batches=end / batch)
    seconds = run.train()
    assert seconds <= 240
    assert seconds > 240 - batches * batch - end - 1 or run.done < batches  # less than an epoch is left
    assert seconds > 0.7 * 240


def test_plan_is_stable_from_the_first_epoch_on() -> None:
    run = Run(240, 100, batch=0.12, end=1, slow=10)
    run.train()
    assert set(run.planned) == {17}  # 10 + 17 * 13 + 1 seconds


def test_plans_fewer_epochs_on_a_machine_that_becomes_slower() -> None:
    run = Run(240, 100, batch=0.1, end=1)
    plan = run.budget.epochs

    def epochs(completed: int, elapsed: float) -> int:
        run.batch = 0.1 if completed < 5 else 0.2
        return plan(completed, elapsed)

    run.budget.epochs = epochs  # type: ignore[method-assign]
    assert run.train() <= 240
    assert run.planned[0] == 21
    assert run.planned[-1] == len(run.planned) == 13  # 5 * 11 + 8 * 21 seconds


@pytest.mark.parametrize(("limit", "batches"), [(1e-3, 1), (100, 32)])
def test_a_long_validation_leaves_half_of_the_time(limit: float, batches: int) -> None:
    run = Run(limit, 50, batch=1.5, end=300, validation_batches=200)
    run.train()
    assert run.done == pytest.approx(batches, abs=1)


def test_epochs_without_validation_do_not_count_as_validated() -> None:
    clock = Clock()
    budget = TimeBudget(240, 100, clock=clock)
    for epoch in range(1, 4):
        for _ in range(100):
            clock.now += 0.1
            budget.batch_done()
        if epoch == 1:
            clock.now += 5
            budget.validation_done()
        clock.now += 0.2
        budget.epoch_done()
    elapsed = clock.now - Clock.now
    assert budget.epochs(3, elapsed) == 3 + math.floor((240 - elapsed - 5) / 10.2)


def test_budget_of_the_settings() -> None:
    def budget(**options: Any) -> TimeBudget:
        return make_budget(train_settings(TrainOptions(data="few.yaml", **options), 32), 10, 40)

    unlimited = budget(plots=False)
    assert not unlimited.is_spent(1e9)
    limited = budget(time=0.1, batch=8)
    assert limited.limit == pytest.approx(360)
    assert limited.files > budget(time=0.1, plots=False).files == 0
    usual = limited.files
    limited.start()  # a resumed run writes no files at its start
    assert limited.files == usual
    limited.start(opening=10)  # a slow machine
    assert limited.files > 2 * usual


class TwoEpochs(TimeBudget):
    """A budget that is spent after the first batch of the second epoch."""

    seen = 0

    def batch_done(self) -> None:
        self.seen += 1

    def is_spent(self, elapsed: float) -> bool:
        return self.seen == 3

    def epochs(self, completed: int, elapsed: float) -> int:
        return 7


def test_an_epoch_that_does_not_fit_ends_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, model_yaml = make_world(tmp_path / "blocks")  # two batches an epoch
    budget = TwoEpochs(1000, 2)
    monkeypatch.setattr("yolopose.train.loop.make_budget", lambda *_: budget)
    model = YOLO(model_yaml)
    metrics = model.train(data=data, project=tmp_path, **{**FAST, "epochs": 3, "time": 1.0})
    assert budget.seen == 3
    assert (model.trainer.epoch, model.trainer.batch_i, model.trainer.epochs) == (1, 0, 7)
    with (tmp_path / "train/results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert metrics is not None
    assert float(rows[model.trainer.best_epoch]["metrics/mAP50(B)"]) == pytest.approx(metrics.box.map50, abs=1e-5)
    assert model.trainer.ema.updates == 3
