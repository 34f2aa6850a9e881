"""Learning rate, momentum and gradient accumulation of every batch of a run."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from torch.optim import Optimizer

from yolopose.config import TrainSettings
from yolopose.train.optimizer import BIAS, OptimizerConfig, nominal_accumulation, resolved_batch


@dataclass(frozen=True)
class BatchRates:
    """Hyperparameters of one batch.

    Attributes:
        lr: learning rate of weights and norm weights.
        bias_lr: learning rate of biases.
        momentum: momentum of the optimizers that have one; β₁ of the Adam kinds is constant.
        accumulation: batches whose gradients are summed before a step.
    """

    lr: float
    bias_lr: float
    momentum: float
    accumulation: int


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Rates of every batch of a run, a pure function of the batch index.

    Attributes:
        config: hyperparameters of the optimizer after warm-up.
        epochs: length of the run.
        batches: batches of an epoch.
        nominal: batches that make up the nominal batch.
        lrf: learning rate at the end, as a share of that at the start.
        cosine: cosine decay instead of linear decay.
        warmup_epochs: length of warm-up; at least one epoch follows it.
        warmup_momentum: momentum at the first batch.
    """

    config: OptimizerConfig
    epochs: int
    batches: int
    nominal: int
    lrf: float
    cosine: bool
    warmup_epochs: float
    warmup_momentum: float

    @property
    def warmup_batches(self) -> int:
        """Batches of warm-up; 0 in a run of one epoch."""
        return round(min(self.warmup_epochs, self.epochs - 1) * self.batches)

    @property
    def accumulation(self) -> int:
        """Batches per optimizer step after warm-up; at most the batches of the run."""
        return min(self.nominal, self.batches * self.epochs)

    def factor(self, epoch: int) -> float:
        """Return the share of the base learning rate in an epoch (from 0): from 1 down to `lrf`."""
        progress = min(epoch / self.epochs, 1.0)
        decay = (1 + math.cos(math.pi * progress)) / 2 if self.cosine else 1 - progress
        return self.lrf + (1 - self.lrf) * decay

    def at(self, i: int) -> BatchRates:
        """Return the rates of batch i, counted from 0 over the whole run."""
        lr = self.config.lr * self.factor(i // self.batches)
        if i >= self.warmup_batches:  # the last batch of warm-up already has the full rates
            return BatchRates(lr, lr, self.config.momentum, self.accumulation)
        progress = i / self.warmup_batches
        return BatchRates(
            lr=lr * progress,
            bias_lr=_interpolate(self.config.warmup_bias_lr, lr, progress),
            momentum=_interpolate(self.warmup_momentum, self.config.momentum, progress),
            # Multiply integers before dividing, so that halves are exact: Python rounds them to even, as the reference
            # schedule does.
            accumulation=max(1, round(1 + (self.accumulation - 1) * i / self.warmup_batches)),
        )

    def apply(self, optimizer: Optimizer, i: int) -> int:
        """Set learning rate and momentum of each parameter group for batch i; return the accumulation."""
        rates = self.at(i)
        for group in optimizer.param_groups:
            group["lr"] = (rates.bias_lr if group["role"] == BIAS else rates.lr) * group.get("gain", 1.0)
            if "momentum" in group:
                group["momentum"] = rates.momentum
        return rates.accumulation

    def scaled(self, factor: float) -> Schedule:
        """Return the schedule with all learning rates times `factor`."""
        lr = self.config.lr * factor
        warmup_bias_lr = self.config.warmup_bias_lr * factor
        return replace(self, config=replace(self.config, lr=lr, warmup_bias_lr=warmup_bias_lr))

    def with_epochs(self, epochs: int) -> Schedule:
        """Return the schedule for another number of epochs, which a time limit determines during the run."""
        return replace(self, epochs=max(epochs, 1))


def make_schedule(settings: TrainSettings, config: OptimizerConfig, batches: int) -> Schedule:
    """Make the schedule of a run.

    Args:
        settings: `batch` must be a number of images.
        config: hyperparameters of the optimizer.
        batches: batches of an epoch, at least 1.

    Raises:
        UsageError: `batch` is not a number of images.
    """
    return Schedule(
        config=config,
        epochs=settings.epochs,
        batches=batches,
        nominal=nominal_accumulation(resolved_batch(settings), settings.nbs),
        lrf=settings.lrf,
        cosine=settings.cos_lr,
        warmup_epochs=settings.warmup_epochs,
        warmup_momentum=settings.warmup_momentum,
    )


def step_due(i: int, last: int, accumulation: int) -> bool:
    """Return whether the optimizer steps after batch i.

    Args:
        i: batch, counted from 0 over the whole run.
        last: batch of the previous step; -1 at the start.
        accumulation: of batch i.
    """
    return i - last >= accumulation


def _interpolate(start: float, end: float, progress: float) -> float:
    """Linear interpolation, `progress` in [0, 1]."""
    return start + (end - start) * progress
