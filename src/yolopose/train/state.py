"""Training state: the network, its EMA, the optimizer and the schedule, and the operations of one batch on them."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from yolopose.base.errors import TrainError
from yolopose.base.log import LOGGER
from yolopose.config import TrainSettings
from yolopose.criterion import LossTerms, PreparedTargets, Targets, build_criterion
from yolopose.nn import HeadOutput, PoseModel
from yolopose.nn.openmp import note_computation
from yolopose.nn.recompute import recompute_saved_maps
from yolopose.train.data import TrainData, class_weights
from yolopose.train.distill import TERMS, make_distiller
from yolopose.train.distributed import ProcessGroup
from yolopose.train.distributed.process_group import GradientReducer
from yolopose.train.ema import EMA
from yolopose.train.feed import TrainBatch
from yolopose.train.optimizer import freeze_layers, make_optimizer
from yolopose.train.precision import Precision
from yolopose.train.process import empty_cache, is_async, is_out_of_memory
from yolopose.train.schedule import make_schedule

MAX_GRAD_NORM = 10.0
"""Largest norm of all gradients together."""


class TrainState:
    """Model, optimizer, EMA and schedule state used by the loop.

    Args:
        network: initial network; trained in place.
        data: training data.
        settings: resolved settings.
        device: where to compute.
        batches: batches of an epoch.
        group: the processes that share each batch; a single one by default.

    Attributes:
        model: the network.
        ema: its moving average.
        optimizer: the optimizer with its hyperparameters.
        schedule: the rates of every batch.
        last_step: batch of the run after which the optimizer last stepped; -1 before the first step.
        lr_scale: factor on all learning rates; below 1 after a rollback.
        micro_batches: parts in which a batch passes through the network; above 1 after the memory was full.
        precision: precision of the forward pass and gradient scaling.
        device: where it computes.
        criterion: the losses against the labels.
        distiller: the losses against a teacher; None without `distill_model`.
    """

    def __init__(
        self,
        network: PoseModel,
        data: TrainData,
        settings: TrainSettings,
        device: torch.device,
        batches: int,
        group: ProcessGroup | None = None,
    ) -> None:
        note_computation()
        self.device = device
        self._settings = settings
        self._group = group or ProcessGroup()
        self._async = is_async(device)
        self._recompute_context = recompute_saved_maps if device.type == "cpu" and not settings.compile else nullcontext
        self.model = network.to(device)
        if settings.channels_last is not False:
            self.model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]  # the stub lacks it
        self._frozen = freeze_layers(self.model, settings.freeze)
        self._has_pseudo = data.pseudo is not None
        self._reduce_fn = self._group.all_reduce if self._group.size > 1 else None
        self._forward: Any = self.model.outputs_with_features if settings.distill_model else self.model.outputs
        # network and losses as one graph; the losses of several processes include a collective operation
        self._compiled: Any = None
        if settings.compile:
            whole = self._group.size == 1 and not settings.distill_model and not self._has_pseudo
            target = self._output_and_losses if whole else self._forward
            compiled = _compile(target, settings.compile)
            self._forward, self._compiled = (self._forward, compiled) if whole else (compiled, None)
        self.ema = EMA(self.model, settings.ema_decay, settings.ema_tau)
        self.distiller = make_distiller(settings, self.model, data.spec, device)
        # what is trained: with a teacher also the adapters, which do not belong to the network
        self._trained: nn.Module = (
            nn.ModuleList([self.model, self.distiller.adapters]) if self.distiller else self.model
        )
        adapters = list(self.distiller.adapters.parameters()) if self.distiller else []
        self.optimizer = make_optimizer(self.model, settings, images=len(data.train), nc=data.spec.nc, further=adapters)
        self.schedule = make_schedule(settings, self.optimizer.config, batches)
        self.precision = Precision(settings.amp, device)
        self.criterion = build_criterion(
            self.model,
            data.spec,
            settings,
            class_weights(data.train, data.spec.nc, settings.cls_pw),
            settings.assigner,
        )
        self.lr_scale = 1.0
        self.micro_batches = 1
        self._reducer = GradientReducer(self._trained, self._group) if self._group.size > 1 else None
        self.last_step = -1
        # listed once: walking through all modules takes a millisecond
        self._parameters = list(self._trained.parameters())
        buffers = zip(self.model.buffers(), self.ema.model.buffers(), strict=True)
        self._norm_statistics = [(buffer, average) for buffer, average in buffers if buffer.is_floating_point()]
        self._has_partial_gradients = False  # whether the current batch has added gradients to those before it

    @property
    def terms(self) -> tuple[str, ...]:
        """Names of the losses of a batch."""
        return (*self.criterion.terms, *(TERMS if self.distiller else ()))

    def begin_epoch(self, epoch: int, epochs: int) -> None:
        """Prepare the criterion and the network for an epoch; norms of frozen layers stay in eval mode.

        Args:
            epoch: counted from 0.
            epochs: length of the run.
        """
        self.criterion.begin_epoch(epoch, epochs)
        self.model.train()
        self._frozen.set_norms_to_eval()

    # -- one batch ------------------------------------------------------------------------------

    def forward_backward(self, batch: TrainBatch, epoch: int, number: int, *, step_follows: bool = False) -> LossTerms:
        """Compute the losses of a batch and accumulate their gradients, unless the loss is not finite.

        On out-of-memory, this batch and all later ones pass through the network in twice as many parts, whose
        gradients are accumulated: an optimizer step uses as many images as before.

        Args:
            batch: the samples.
            epoch: the epoch from 0; with `number` it seeds the size of `multi_scale`.
            number: the batch in the epoch.
            step_follows: whether `step` follows, so that processes reduce the gradients during the backward pass.

        Returns:
            The losses of the whole batch over all processes, without gradient.

        Raises:
            TrainError: a single image does not fit the memory.
        """
        while True:
            try:
                return self._forward_backward(batch, epoch, number, step_follows)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            self._split_further(batch)  # outside the handler, where the error no longer keeps the tensors alive

    def _forward_backward(self, batch: TrainBatch, epoch: int, number: int, step_follows: bool) -> LossTerms:
        self._has_partial_gradients = False
        size = self._micro_batch_size(batch)
        parts: list[tuple[int, LossTerms]] = []
        for start in range(0, max(len(batch), 1), size):
            part = batch if size == len(batch) else batch.slice_images(start, start + size)
            own_terms = self.losses(part, epoch, number)
            terms = self._all_reduce_terms(own_terms)
            # On an asynchronous device a non-finite loss makes the gradients non-finite, and the device skips the step.
            if self._async or bool(torch.isfinite(terms.total)):
                if self._reducer and step_follows:
                    self._reducer.start()
                if len(part):
                    self._has_partial_gradients = True
                    self.precision.backward(own_terms.total)
            else:
                self._replace_nonfinite_norm_statistics()
            parts.append((len(part), terms))
        if len(parts) == 1:
            return parts[0][1]
        total = torch.stack([terms.total for _, terms in parts]).sum()
        values = torch.stack([terms.values * count for count, terms in parts]).sum(0) / len(batch)
        return LossTerms(total, self.terms, values)

    def losses(self, batch: TrainBatch, epoch: int, number: int) -> LossTerms:
        """Run the network on a batch; with several processes, return this process's share of the losses.

        Args:
            batch: the samples.
            epoch: the epoch from 0; with `number` it seeds the size of `multi_scale`.
            number: the batch in the epoch.
        """
        if not len(batch):  # the last batch of an epoch may have fewer images than there are processes
            return self._no_losses()
        images = self._preprocess(batch.images, epoch, number)
        labels = batch.batch_idx, batch.classes, batch.boxes, batch.keypoints
        targets = Targets.from_normalized(*labels, (images.shape[2], images.shape[3]))
        if self._compiled is not None:
            shapes = tuple((images.shape[2] // stride, images.shape[3] // stride) for stride in self.model.stride)
            prepared = self.criterion.prepare(targets, shapes, len(images), self.device)
            # torch.compile makes graphs of their own for sizes 0 and 1; a smaller last batch is not worth one either
            if min(len(prepared.pairs.gt_idx), len(prepared.targets)) > 1 and len(images) == int(self._settings.batch):
                _mark_sizes(images, prepared)
                return self._compiled(images, prepared)
        with self.precision.autocast(), self._recompute_context():
            output, maps = self._forward(images) if self.distiller else (self._forward(images), [])
        if self._has_pseudo:
            terms = self._mixed_terms(output, targets, batch.num_pseudo)
        else:
            terms = self.criterion(output, targets, self._reduce_fn)
        if self.distiller is None:
            return terms
        with self.precision.autocast():
            total, values = self.distiller.losses(images, maps, output)
        return LossTerms(terms.total + total, self.terms, torch.cat((terms.values, values)))

    def _mixed_terms(self, output: HeadOutput, targets: Targets, num_pseudo: int) -> LossTerms:
        """Return the losses of a batch whose last images have pseudo labels, which have a weight of their own."""
        images = len(output.scores)
        count = images - num_pseudo
        ranges = ((0, count, 1.0), (count, images, self._settings.unlabeled_weight))
        parts: list[tuple[float, LossTerms]] = []
        for start, end, weight in ranges:
            if start == end:
                terms = self.criterion.empty(self.device, self._group.all_reduce)
            else:
                part = targets.slice_images(start, end)
                terms = self.criterion(output.slice_images(start, end), part, self._reduce_fn)
            parts.append((weight, terms))
        total = torch.stack([weight * terms.total for weight, terms in parts]).sum()
        sizes = (count / images, num_pseudo / images)
        values = [size * weight * terms.values for size, (weight, terms) in zip(sizes, parts, strict=True)]
        return LossTerms(total, self.criterion.terms, torch.stack(values).sum(0))

    def _no_losses(self) -> LossTerms:
        """Return the losses of a process without images, which takes part in the sums over all processes."""
        for _ in range(2 if self._has_pseudo else 1):
            self.criterion.empty(self.device, self._group.all_reduce)
        values = torch.zeros(1 + len(self.terms), device=self.device)
        return LossTerms(values[0], self.terms, values[1:])

    def _output_and_losses(self, images: Tensor, prepared: PreparedTargets) -> LossTerms:
        """Run the network and compute the losses, for `torch.compile`."""
        with self.precision.autocast():
            output = self.model.outputs(images)
        return self.criterion.compute(output, prepared)

    def _preprocess(self, images: Tensor, epoch: int, number: int) -> Tensor:
        """Convert (B, C, H, W) uint8 to float in [0, 1] on the device; with `multi_scale`, resize them randomly."""
        images = images.to(self.device, non_blocking=True)
        layout = torch.contiguous_format if self._settings.channels_last is False else torch.channels_last
        pixels = images.to(torch.float32, memory_format=layout).div_(255)
        spread = 0.5 if self._settings.multi_scale is True else float(self._settings.multi_scale)
        if not spread:
            return pixels
        rng = np.random.default_rng((self._settings.seed, epoch, number, 1))
        stride = max(self.model.stride)
        scale = rng.uniform(max(1 - spread, 0.1), 1 + spread)
        if self._settings.compile:  # each size is a graph
            scale = 1 + spread * round(2 * (scale - 1) / spread) / 2
        size = [max(round(side * scale / stride), 1) * stride for side in pixels.shape[2:]]
        return torch.nn.functional.interpolate(pixels, size, mode="bilinear", antialias=scale < 1)

    def _all_reduce_terms(self, terms: LossTerms) -> LossTerms:
        """Return the losses of the batch that the processes share, without gradient."""
        if self._group.size == 1:
            return LossTerms(terms.total.detach(), terms.names, terms.values)
        values = self._group.all_reduce(torch.cat((terms.total.detach()[None], terms.values)))
        return LossTerms(values[0], self.terms, values[1:])

    def _micro_batch_size(self, batch: TrainBatch) -> int:
        return max(-(-len(batch) // self.micro_batches), 1)

    def _split_further(self, batch: TrainBatch) -> None:
        """Double the number of micro-batches after the memory was full."""
        size = self._micro_batch_size(batch)
        pixels = tuple(batch.images.shape[2:])
        if self._group.size > 1:
            raise TrainError(
                f"Out of memory on {self.device} with {size} images of {pixels} pixels, the share of one of "
                f"{self._group.size} processes: choose a smaller batch or imgsz."
            )
        if size == 1:
            raise TrainError(
                f"Out of memory on {self.device} with a single image of {pixels} pixels: choose a smaller imgsz or "
                "network, or close other programs that use the memory."
            )
        self.micro_batches *= 2
        note = ""
        if self._has_partial_gradients:  # they cannot be separated from those of the failed attempt
            self.optimizer.torch.zero_grad()
            note = " The gradients accumulated since the last step are discarded."
        empty_cache(self.device)
        LOGGER.warning(
            f"Out of memory with {size} images at once: from now on {self._micro_batch_size(batch)} pass through the "
            f"network at once and their gradients are accumulated, so a step uses as many images as before.{note}"
        )

    # -- the step -------------------------------------------------------------------------------

    def step(self, i: int) -> bool | Tensor:
        """Update the weights and the EMA after batch i of the run.

        Returns:
            Whether the gradients were finite (otherwise nothing was changed); on a GPU as a tensor.
        """
        self.last_step = i
        if not self._reduce_gradients():  # every loss since the last step was skipped
            return True
        finite = self.precision.step(self.optimizer.torch, self._parameters, MAX_GRAD_NORM, on_device=self._async)
        self.optimizer.torch.zero_grad()
        if self._async:
            # Whether a batch was finite is not known on the host yet; the EMA must not average non-finite statistics.
            self._replace_nonfinite_norm_statistics()
        if isinstance(finite, Tensor) or finite:
            self.ema.update()
        return finite

    def _reduce_gradients(self) -> bool:
        """Sum the gradients over all processes; return whether there are any."""
        if self._reducer and self._reducer.active:
            self._reducer.finish()
            return True
        return self._group.all_reduce_gradients(self._trained)

    def collect_gradients(self) -> None:
        """Sum gradients that wait for a step into rank 0, whose state is saved; call it before `state_dict`."""
        if self._group.size > 1 and self._group.all_reduce_gradients(self._trained) and not self._group.is_main:
            self.optimizer.torch.zero_grad()

    def can_checkpoint(self, i: int) -> bool:
        """Return whether the state after batch i may be saved; with several processes only directly after a step."""
        return self._group.size == 1 or i == self.last_step

    @torch.no_grad()
    def _replace_nonfinite_norm_statistics(self) -> None:
        """Replace non-finite running statistics of norms, caused by a bad batch, by those of the EMA."""
        if not self._norm_statistics:
            return
        buffers, averages = zip(*self._norm_statistics, strict=True)
        # one kernel for all buffers instead of one for each
        flat = torch.cat([_flat(buffer) for buffer in buffers])
        average = torch.cat([_flat(average) for average in averages])
        restored = torch.where(torch.isfinite(flat), flat, average).split([buffer.numel() for buffer in buffers])
        copy = torch._foreach_copy_  # pyright: ignore[reportPrivateImportUsage]
        copy(buffers, [part.view(buffer.shape) for part, buffer in zip(restored, buffers, strict=True)])

    def scale_lr(self, lr_scale: float) -> None:
        """Set the factor on all learning rates."""
        self.schedule = self.schedule.scaled(lr_scale / self.lr_scale)
        self.lr_scale = lr_scale

    # -- checkpoints ----------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs, except for the EMA's weights, which are the network of the checkpoint."""
        gradients = [parameter.grad for parameter in self._trained.parameters()]
        return {
            "last_step": self.last_step,
            # key names of the checkpoint format; they differ from those of the attributes
            "rate": self.lr_scale,
            "parts": self.micro_batches,
            "model": self.model.state_dict(),
            "updates": self.ema.updates,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.precision.state_dict(),
            # accumulated since the last step: an epoch need not end with a step
            "gradients": gradients if any(gradient is not None for gradient in gradients) else None,
            **({"distiller": self.distiller.state_dict()} if self.distiller else {}),
        }

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Restore `state_dict()`; the network must hold the EMA's weights when this is called.

        Raises:
            TrainError: it is damaged, or belongs to another network or optimizer.
        """
        if self._reducer and self._reducer.active:  # after a rollback: other processes wait in this reduction
            self._reducer.finish()
        try:
            self.ema.load_state_dict({"updates": saved["updates"], "model": self.model.state_dict()})
            self.model.load_state_dict(saved["model"])
            if self.distiller:
                self.distiller.load_state_dict(saved["distiller"])
            self.optimizer.load_state_dict(saved["optimizer"])
            self.precision.load_state_dict(saved["scaler"])
            self._load_gradients(saved["gradients"])
            self.last_step = int(saved["last_step"])
            # earlier versions did not save these two
            self.scale_lr(float(saved.get("rate", 1.0)))
            # processes that share a batch never split it: each would run a different number of collectives
            self.micro_batches = int(saved.get("parts", 1)) if self._group.size == 1 else 1
        except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            raise TrainError(
                f"The state of the interrupted run cannot be read ({error}). Begin a new run from its weights: "
                "model=last.pt without resume."
            ) from error

    def _load_gradients(self, gradients: list[Tensor | None] | None) -> None:
        parameters = list(self._trained.parameters())
        for parameter, gradient in zip(parameters, gradients or [None] * len(parameters), strict=True):
            # in the parameter's memory format, which fused kernels assume
            parameter.grad = (
                None if gradient is None else torch.empty_like(parameter, requires_grad=False).copy_(gradient)
            )


def _mark_sizes(images: Tensor, prepared: PreparedTargets) -> None:
    """Mark the numbers of instances and pairs as dynamic, so that one graph serves all batches of an image size."""
    targets = prepared.targets
    for tensor in (images, prepared.points, prepared.strides):
        torch._dynamo.mark_static(tensor)
    for tensor in (targets.batch_idx, targets.classes, targets.boxes, targets.keypoints, *prepared.pairs):
        torch._dynamo.mark_dynamic(tensor, 0)


def _flat(buffer: Tensor) -> Tensor:
    return buffer if buffer.ndim == 1 else buffer.flatten()


def _compile(function: Any, mode: bool | str) -> Any:
    return torch.compile(function, mode=mode) if isinstance(mode, str) else torch.compile(function)
