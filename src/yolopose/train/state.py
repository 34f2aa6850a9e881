"""All that learning changes: the network, its average, the optimizer, and where they stand in the schedule."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from yolopose.base.errors import TrainError
from yolopose.base.log import LOGGER
from yolopose.config import TrainOptions
from yolopose.criterion import Gains, LossTerms, Targets, build_criterion
from yolopose.nn import PoseModel
from yolopose.nn.recompute import recompute_saved_maps
from yolopose.train.data import TrainData, class_weights
from yolopose.train.distributed import ProcessGroup
from yolopose.train.ema import EMA
from yolopose.train.feed import TrainBatch
from yolopose.train.freeze import freeze_layers
from yolopose.train.optimizer import make_optimizer
from yolopose.train.precision import Precision
from yolopose.train.process import empty_cache, is_out_of_memory
from yolopose.train.scalars import is_async
from yolopose.train.schedule import make_schedule, step_due

CLIP = 10.0
"""Largest norm of all gradients together."""


class TrainState:
    """The handles that the loop turns.

    Args:
        network: where it starts from; trained in place.
        data: what is learned from.
        options: settled options.
        device: where to compute.
        batches: batches of an epoch.
        group: the processes that share each batch; one alone when left out.

    Attributes:
        model: the network.
        ema: its average.
        optimizer: the optimizer with the numbers it was made from.
        schedule: the rates of every batch.
        rate: share of the learning rates that the options say; 1 unless the weights ran away.
        parts: pieces in which a batch goes through the network; 1 unless the memory was full.
        precision: the number format of the forward pass.
        device: where it computes.
        criterion: the losses.
    """

    def __init__(
        self,
        network: PoseModel,
        data: TrainData,
        options: TrainOptions,
        device: torch.device,
        batches: int,
        group: ProcessGroup | None = None,
    ) -> None:
        self._options, self.device, self._group = options, device, group or ProcessGroup()
        self._ahead = is_async(device)
        self._maps = recompute_saved_maps if device.type == "cpu" and not options.compile else nullcontext
        self.model = network.to(device)
        if options.channels_last is not False:  # 20 % faster on the CPU, more on GPUs with tensor cores
            self.model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]  # the stub lacks it
        self._frozen = freeze_layers(self.model, options.freeze)
        self._run: Any = _compiled(self.model.outputs, options.compile) if options.compile else self.model.outputs
        self.ema = EMA(self.model)
        self.optimizer = make_optimizer(self.model, options, images=len(data.train), nc=data.spec.nc)
        self.schedule = make_schedule(options, self.optimizer.choice, batches)
        self.precision = Precision(options.amp, device)
        self.criterion = build_criterion(
            self.model,
            data.spec,
            Gains(**{field.name: getattr(options, field.name) for field in fields(Gains)}),
            class_weights(data.train, data.spec.nc, options.cls_pw),
            options.assigner,
        )
        self.rate, self.parts = 1.0, 1
        self._last_step = -1
        self._begun = False  # whether gradients of the batch in work are added to those before it

    def begin_epoch(self, epoch: int, epochs: int) -> None:
        """Put the network into training mode, frozen statistics aside.

        Args:
            epoch: counted from 0.
            epochs: how many there will be.
        """
        self.criterion.begin_epoch(epoch, epochs)
        self.model.train()
        self._frozen.hold()

    def learn(self, batch: TrainBatch, epoch: int, number: int) -> LossTerms:
        """Add the gradients of a batch; those of a loss that is no number are left out.

        Where the memory is full the batch, and every later one, goes through the network in twice as many parts,
        whose gradients are summed: the step is made of as many images as before.

        Args:
            batch: the samples.
            epoch: the epoch from 0; with `number` it seeds the size of `multi_scale`.
            number: the batch in the epoch.

        Raises:
            TrainError: the memory is full with a single image.
        """
        while True:
            try:
                return self._learn_in_parts(batch, epoch, number)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            self._halve(batch)  # out here, where the error no longer holds the tensors of the attempt

    def _learn_in_parts(self, batch: TrainBatch, epoch: int, number: int) -> LossTerms:
        self._begun = False
        size = self._part_size(batch)
        found: list[tuple[int, LossTerms]] = []
        for start in range(0, max(len(batch), 1), size):
            part = batch if size == len(batch) else batch.slice_images(start, start + size)
            mine = self.losses(part, epoch, number)
            terms = self._of_all(mine)
            # ahead of the device a loss that is no number spoils the gradients, and the device leaves out the step
            if not (self._ahead or bool(torch.isfinite(terms.total))):
                self._mend_statistics()
            elif len(part):
                self._begun = True
                self.precision.backward(mine.total)
            found.append((len(part), terms))
        if len(found) == 1:
            return found[0][1]
        total = torch.stack([terms.total for _, terms in found]).sum()
        values = torch.stack([terms.stack() * count for count, terms in found]).sum(0) / len(batch)
        return LossTerms.from_values(total, self.criterion.terms, values)

    def _of_all(self, mine: LossTerms) -> LossTerms:
        """The losses of a batch that several processes share, without gradient."""
        if self._group.size == 1:
            return LossTerms(mine.total.detach(), mine.items)
        values = self._group.sum(torch.cat((mine.total.detach()[None], mine.stack())))
        return LossTerms.from_values(values[0], self.criterion.terms, values[1:])

    def _part_size(self, batch: TrainBatch) -> int:
        return max(-(-len(batch) // self.parts), 1)

    def _halve(self, batch: TrainBatch) -> None:
        size = self._part_size(batch)
        if self._group.size > 1:
            raise TrainError(
                f"Out of memory on {self.device} with {size} images of {tuple(batch.images.shape[2:])} pixels, the "
                f"share of one of {self._group.size} processes: choose a smaller batch or imgsz."
            )
        if size == 1:
            raise TrainError(
                f"Out of memory on {self.device} with a single image of {tuple(batch.images.shape[2:])} pixels at "
                "once: choose a smaller imgsz or a smaller network, or close what else uses the memory."
            )
        self.parts *= 2
        lost = ""
        if self._begun:  # they are mixed with those of the attempt
            self.optimizer.torch.zero_grad()
            lost = " The gradients since the last step are given up."
        empty_cache(self.device)
        LOGGER.warning(
            f"Out of memory with {size} images at once: from here on {self._part_size(batch)} go through the network "
            f"at once and their gradients are summed, so a step is made of as many images as before.{lost}"
        )

    @torch.no_grad()
    def _mend_statistics(self) -> None:
        """Take statistics of norms that a bad batch turned into no numbers back from the average."""
        pairs = zip(self.model.buffers(), self.ema.model.buffers(), strict=True)
        live, average = zip(*((one, other) for one, other in pairs if one.is_floating_point()), strict=True)
        flat, kept = (torch.cat([one.flatten() for one in buffers]) for buffers in (live, average))
        mended = torch.where(torch.isfinite(flat), flat, kept).split([one.numel() for one in live])
        copy = torch._foreach_copy_  # pyright: ignore[reportPrivateImportUsage]
        copy(live, [one.view_as(like) for one, like in zip(mended, live, strict=True)])

    def slow_down(self, rate: float) -> None:
        """Set all learning rates to a share of what the options say."""
        self.schedule = self.schedule.slowed(rate / self.rate)
        self.rate = rate

    def losses(self, batch: TrainBatch, epoch: int, number: int) -> LossTerms:
        """Run the network on a batch.

        Args:
            batch: the samples.
            epoch: the epoch from 0; with `number` it seeds the size of `multi_scale`.
            number: the batch in the epoch.
        """
        if not len(batch):  # the last batch of an epoch may be too small for all processes
            return self.criterion.empty(self.device, self._group.sum)
        images = self._pixels(batch.images, epoch, number)
        labels = batch.batch_idx, batch.classes, batch.boxes, batch.keypoints
        targets = Targets.from_normalized(*labels, (images.shape[2], images.shape[3]))
        with self.precision.forward(), self._maps():
            output = self._run(images)
        return self.criterion(output, targets, self._group.sum if self._group.size > 1 else None)

    def step_due(self, i: int, accumulation: int) -> bool:
        """Whether the optimizer steps after batch i of the run."""
        return step_due(i, self._last_step, accumulation)

    def step(self, i: int) -> bool | Tensor:
        """Let optimizer and average step after batch i of the run.

        Returns:
            False where the gradients were no numbers and nothing was changed; on a GPU a tensor that says so.
        """
        self._last_step = i
        if not self._group.gather(self.model):  # each loss of it was left out
            return True
        fine = self.precision.step(self.optimizer.torch, self.model.parameters(), CLIP, ahead=self._ahead)
        self.optimizer.torch.zero_grad()
        if self._ahead:
            self._mend_statistics()  # what is not known yet cannot be asked for; the average must not see it
        if isinstance(fine, Tensor) or fine:
            self.ema.update()
        return fine

    def gather(self) -> None:
        """Bring gradients that wait for a step together in rank 0, whose state is kept; before each `state_dict`."""
        if self._group.size > 1 and self._group.gather(self.model) and not self._group.leads:
            self.optimizer.torch.zero_grad()

    def at_rest(self, i: int) -> bool:
        """Whether the state after batch i may be kept: where processes share the gradients, after a step alone."""
        return self._group.size == 1 or i == self._last_step

    def _pixels(self, images: Tensor, epoch: int, number: int) -> Tensor:
        """(B, 3, H, W) uint8 → float 0…1 on the device, with `multi_scale` at a size drawn for this batch."""
        images = images.to(self.device, non_blocking=True)
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
        """Return what a resumed run needs, but for the average's weights, which a checkpoint holds as its own."""
        gradients = [parameter.grad for parameter in self.model.parameters()]
        return {
            "last_step": self._last_step,
            "rate": self.rate,
            "parts": self.parts,
            "model": self.model.state_dict(),
            "updates": self.ema.updates,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.precision.state_dict(),
            # summed since the last step: an epoch need not end on a step
            "gradients": gradients if any(gradient is not None for gradient in gradients) else None,
        }

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Go on from `state_dict()`; the network must hold the average's weights at this moment.

        Raises:
            WeightsError: the state is of another network or optimizer.
            TrainError: it is damaged.
        """
        try:
            self.ema.load_state_dict({"updates": saved["updates"], "model": self.model.state_dict()})
            self.model.load_state_dict(saved["model"])
            self.optimizer.load_state_dict(saved["optimizer"])
            self.precision.load_state_dict(saved["scaler"])
            gradients = saved["gradients"] or [None] * len(list(self.model.parameters()))
            for parameter, gradient in zip(self.model.parameters(), gradients, strict=True):
                # in the parameter's memory order, which fused kernels take for granted
                parameter.grad = (
                    None if gradient is None else torch.empty_like(parameter, requires_grad=False).copy_(gradient)
                )
            self._last_step = int(saved["last_step"])
            self.slow_down(float(saved.get("rate", 1.0)))  # runs of earlier versions know neither
            self.parts = int(saved.get("parts", 1))
        except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            raise TrainError(f"The state of the interrupted run cannot be read ({error}). {_ANEW}") from error


def _compiled(function: Any, how: bool | str) -> Any:
    return torch.compile(function, mode=how) if isinstance(how, str) else torch.compile(function)


_ANEW = "Begin a new run from its weights: model=last.pt without resume."
