"""All that learning changes: the network, its average, the optimiser, and where they stand in the schedule."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from yolopose.base.errors import TrainError
from yolopose.config import TrainOptions
from yolopose.criterion import TERMS, Gains, LossTerms, PoseCriterion, Targets
from yolopose.nn import PoseModel
from yolopose.train.ema import EMA
from yolopose.train.feed import TrainBatch
from yolopose.train.freeze import freeze_layers
from yolopose.train.optimiser import make_optimiser
from yolopose.train.precision import Precision
from yolopose.train.schedule import make_schedule, step_due
from yolopose.train.settle import TrainData, class_weights

CLIP = 10.0
"""Largest norm of all gradients together."""


class Learner:
    """The handles that the loop turns.

    Args:
        network: where it starts from; trained in place.
        data: what is learned from.
        options: settled options.
        device: where to compute.
        batches: batches of an epoch.

    Attributes:
        model: the network.
        ema: its average.
        optimiser: the optimiser with the numbers it was made from.
        schedule: the rates of every batch.
        precision: the number format of the forward pass.
        criterion: the losses.
    """

    def __init__(
        self, network: PoseModel, data: TrainData, options: TrainOptions, device: torch.device, batches: int
    ) -> None:
        self._options, self._device = options, device
        self.model = network.to(device)
        if options.channels_last is not False:  # 20 % faster on the CPU, more on GPUs with tensor cores
            self.model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]  # the stub lacks it
        self._frozen = freeze_layers(self.model, options.freeze)
        self._run: Any = torch.compile(self.model.outputs) if options.compile else self.model.outputs
        self.ema = EMA(self.model)
        self.optimiser = make_optimiser(self.model, options, images=len(data.train), nc=data.spec.nc)
        self.schedule = make_schedule(options, self.optimiser.choice, batches)
        self.precision = Precision(options.amp, device)
        self.criterion = PoseCriterion(
            data.spec.nc,
            data.spec.keypoints.shape,
            self.model.stride,
            data.spec.keypoints.oks_sigmas.tolist(),
            Gains(**{term: getattr(options, term) for term in TERMS}),
            class_weights(data.train, data.spec.nc, options.cls_pw),
        )
        self._last_step = -1

    def begin_epoch(self) -> None:
        """Puts the network into training mode, frozen statistics aside."""
        self.model.train()
        self._frozen.hold()

    def losses(self, batch: TrainBatch, epoch: int, number: int) -> LossTerms:
        """Runs the network on a batch.

        Args:
            batch: the samples.
            epoch: the epoch from 0; with `number` it seeds the size of `multi_scale`.
            number: the batch in the epoch.
        """
        images = self._pixels(batch.images, epoch, number)
        labels = batch.batch_idx, batch.classes, batch.boxes, batch.keypoints
        targets = Targets.from_normalised(*labels, (images.shape[2], images.shape[3]))
        with self.precision.forward():
            output = self._run(images)
        return self.criterion(output, targets)

    def step_due(self, i: int, accumulation: int) -> bool:
        """Whether the optimiser steps after batch i of the run."""
        return step_due(i, self._last_step, accumulation)

    def step(self, i: int) -> None:
        """Lets optimiser and average step after batch i of the run."""
        self.precision.step(self.optimiser.torch, self.model.parameters(), CLIP)
        self.optimiser.torch.zero_grad()
        self.ema.update()
        self._last_step = i

    def _pixels(self, images: Tensor, epoch: int, number: int) -> Tensor:
        """(B, 3, H, W) uint8 → float 0…1 on the device, with `multi_scale` at a size drawn for this batch."""
        images = images.to(self._device, non_blocking=True)
        form = torch.contiguous_format if self._options.channels_last is False else torch.channels_last
        values = images.to(torch.float32, memory_format=form).div_(255)
        spread = 0.5 if self._options.multi_scale is True else float(self._options.multi_scale)
        if not spread:
            return values
        rng = np.random.default_rng((self._options.seed, epoch, number, 1))
        stride, gain = max(self.model.stride), rng.uniform(max(1 - spread, 0.1), 1 + spread)
        size = [max(round(side * gain / stride), 1) * stride for side in values.shape[2:]]
        return torch.nn.functional.interpolate(values, size, mode="bilinear", antialias=gain < 1)

    def state_dict(self) -> dict[str, Any]:
        """Returns what a resumed run needs, but for the average's weights, which a checkpoint holds as its own."""
        gradients = [parameter.grad for parameter in self.model.parameters()]
        return {
            "last_step": self._last_step,
            "model": self.model.state_dict(),
            "updates": self.ema.updates,
            "optimizer": self.optimiser.state_dict(),
            "scaler": self.precision.state_dict(),
            # summed since the last step: an epoch need not end on a step
            "gradients": gradients if any(gradient is not None for gradient in gradients) else None,
        }

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Goes on from `state_dict()`; the network must hold the average's weights at this moment.

        Raises:
            WeightsError: the state is of another network or optimiser.
            TrainError: it is damaged.
        """
        try:
            self.ema.load_state_dict({"updates": saved["updates"], "model": self.model.state_dict()})
            self.model.load_state_dict(saved["model"])
            self.optimiser.load_state_dict(saved["optimizer"])
            self.precision.load_state_dict(saved["scaler"])
            gradients = saved["gradients"] or [None] * len(list(self.model.parameters()))
            for parameter, gradient in zip(self.model.parameters(), gradients, strict=True):
                # in the parameter's memory order, which fused kernels take for granted
                parameter.grad = (
                    None if gradient is None else torch.empty_like(parameter, requires_grad=False).copy_(gradient)
                )
            self._last_step = int(saved["last_step"])
        except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            raise TrainError(f"The state of the interrupted run cannot be read ({error}). {_ANEW}") from error


_ANEW = "Begin a new run from its weights: model=last.pt without resume."
