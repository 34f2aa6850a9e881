"""The course of a run: learning rate, momentum and accumulation of every batch."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from torch.optim import Optimizer

from yolopose.config import TrainOptions
from yolopose.train.optimizer import BIAS, OptimizerConfig, nominal_accumulation, settled_batch


@dataclass(frozen=True)
class Rates:
    """What holds for one batch.

    Attributes:
        lr: learning rate of weights and norm weights.
        bias_lr: learning rate of biases.
        momentum: momentum of the optimizers that have one; β₁ of the Adam kinds is never touched.
        accumulation: batches whose gradients are summed before a step.
    """

    lr: float
    bias_lr: float
    momentum: float
    accumulation: int


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Rates of every batch of a run, from numbers alone: batch i asked twice gives the same answer.

    Attributes:
        choice: the optimizer; its numbers are those after warm-up.
        epochs: length of the run.
        batches: batches of an epoch.
        nominal: batches that make up the nominal batch.
        lrf: learning rate at the end, as a share of that at the start.
        cosine: a cosine course instead of a line.
        warmup_epochs: length of warm-up; never the whole run.
        warmup_momentum: momentum at the first batch.
    """

    choice: OptimizerConfig
    epochs: int
    batches: int
    nominal: int
    lrf: float
    cosine: bool
    warmup_epochs: float
    warmup_momentum: float

    @property
    def warmup(self) -> int:
        """Batches of warm-up, N; 0 in a run of one epoch."""
        return round(min(self.warmup_epochs, self.epochs - 1) * self.batches)

    @property
    def accumulation(self) -> int:
        """Batches summed for a step once warm-up is over; no more than the run has."""
        return min(self.nominal, self.batches * self.epochs)

    def factor(self, epoch: int) -> float:
        """Return the share of the base learning rate in an epoch (from 0): from 1 towards `lrf`."""
        done = min(epoch / self.epochs, 1.0)
        left = (1 + math.cos(math.pi * done)) / 2 if self.cosine else 1 - done
        return self.lrf + (1 - self.lrf) * left

    def at(self, i: int) -> Rates:
        """Return the rates of batch i, counted from 0 over the whole run."""
        lr = self.choice.lr * self.factor(i // self.batches)
        if i >= self.warmup:  # the last batch of warm-up has the full rates already
            return Rates(lr, lr, self.choice.momentum, self.accumulation)
        done = i / self.warmup
        return Rates(
            lr=lr * done,
            bias_lr=_between(self.choice.warmup_bias_lr, lr, done),
            momentum=_between(self.warmup_momentum, self.choice.momentum, done),
            # whole numbers first, so that halves are exact; Python rounds them to even, as the recipe does
            accumulation=max(1, round(1 + (self.accumulation - 1) * i / self.warmup)),
        )

    def apply(self, optimizer: Optimizer, i: int) -> int:
        """Set learning rate and momentum of each group for batch i; returns the accumulation."""
        rates = self.at(i)
        for group in optimizer.param_groups:
            group["lr"] = (rates.bias_lr if group["role"] == BIAS else rates.lr) * group.get("gain", 1.0)
            if "momentum" in group:
                group["momentum"] = rates.momentum
        return rates.accumulation

    def slowed(self, share: float) -> Schedule:
        """Return the schedule with all learning rates times `share`."""
        choice = self.choice
        slower = replace(choice, lr=choice.lr * share, warmup_bias_lr=choice.warmup_bias_lr * share)
        return replace(self, choice=slower)

    def with_epochs(self, epochs: int) -> Schedule:
        """Return the schedule of a run of another length, as a time limit finds out on the way."""
        return replace(self, epochs=max(epochs, 1))


def make_schedule(options: TrainOptions, choice: OptimizerConfig, batches: int) -> Schedule:
    """Make the schedule of a run.

    Args:
        options: `batch` must be settled to a whole number.
        choice: the optimizer.
        batches: batches of an epoch, 1 or more.

    Raises:
        UsageError: `batch` is not settled.
    """
    return Schedule(
        choice=choice,
        epochs=options.epochs,
        batches=batches,
        nominal=nominal_accumulation(settled_batch(options), options.nbs),
        lrf=options.lrf,
        cosine=options.cos_lr,
        warmup_epochs=options.warmup_epochs,
        warmup_momentum=options.warmup_momentum,
    )


def step_due(i: int, last: int, accumulation: int) -> bool:
    """Whether the optimizer steps after batch i.

    Args:
        i: batch, counted from 0 over the whole run.
        last: the batch of the step before; -1 at the start.
        accumulation: of batch i.
    """
    return i - last >= accumulation


def _between(start: float, end: float, done: float) -> float:
    """A point on the line from start to end, `done` 0…1."""
    return start + (end - start) * done
