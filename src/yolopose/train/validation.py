"""Validation during training: the average network on the validation images, with its losses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from yolopose.base.callbacks import Callbacks
from yolopose.base.log import LOGGER
from yolopose.config import TrainOptions, ValOptions
from yolopose.criterion import Criterion, Targets
from yolopose.data import ValBatch
from yolopose.evaluate import PoseMetrics, validate
from yolopose.formats.pytorch import TorchRuntime
from yolopose.nn import PoseModel
from yolopose.nn.head import HeadOutput
from yolopose.train.data import TrainData
from yolopose.train.optimizer import settled_batch
from yolopose.train.process import empty_cache, is_out_of_memory


@dataclass(frozen=True, slots=True)
class ValidationResult:
    """Numbers of a validation.

    Attributes:
        metrics: boxes and poses.
        losses: each term, averaged over the batches.
    """

    metrics: PoseMetrics
    losses: Mapping[str, float]

    @property
    def fitness(self) -> float:
        """What `best` is chosen by: box mAP50-95 + pose mAP50-95."""
        return self.metrics.fitness

    def numbers(self) -> dict[str, float]:
        """Return `metrics/…` and `val/…_loss` by their column names."""
        found = {key: value for key, value in self.metrics.results_dict.items() if key != "fitness"}
        return {**found, **{f"val/{term}_loss": value for term, value in self.losses.items()}}


class _LossRuntime(TorchRuntime):
    """Keeps the raw output of the last batch, so that losses need no second pass."""

    output: HeadOutput

    keep_branches = True  # the losses need both branches of a head

    def forward(self, values: Tensor) -> Tensor:
        self.output = self.network.outputs(values)
        return self.network.head.decode(self.output)


def measure(
    network: PoseModel,
    data: TrainData,
    options: TrainOptions,
    criterion: Criterion,
    device: torch.device,
    *,
    callbacks: Callbacks | None = None,
    save_dir: Path | None = None,
    check: Callable[[], object] = lambda: None,
) -> ValidationResult:
    """Validate a network on the validation images, with fewer at once where the memory is full.

    Args:
        network: the average network; it is copied.
        data: the data; `val` must be there.
        options: of the training.
        criterion: the losses.
        device: where to compute.
        callbacks: functions for the events of validation.
        save_dir: folder for what `plots` and `save_json` ask for; None writes nothing.
        check: called after each batch; what it raises ends the validation.

    Raises:
        DataError: an image cannot be read any more.
    """
    batch = 2 * settled_batch(options)
    while True:
        try:
            return _measured(network, data, options, criterion, device, batch, callbacks, save_dir, check)
        except (RuntimeError, MemoryError) as error:
            if batch == 1 or not is_out_of_memory(error):
                raise
        empty_cache(device)  # out here, where the error no longer holds the tensors of the attempt
        LOGGER.warning(f"Out of memory while measuring {batch} images at once: {batch // 2} are tried.")
        batch //= 2


def _measured(
    network: PoseModel,
    data: TrainData,
    options: TrainOptions,
    criterion: Criterion,
    device: torch.device,
    batch: int,
    callbacks: Callbacks | None,
    save_dir: Path | None,
    check: Callable[[], object],
) -> ValidationResult:
    runtime = _LossRuntime(network, device, options.half)
    criterion = criterion.for_network(runtime.network)
    sums = torch.zeros(len(criterion.terms))
    batches = 0

    def add_loss(made: ValBatch) -> None:
        nonlocal batches
        check()
        batches += 1
        sums.add_(criterion(runtime.output, _targets(made)).stack().cpu())

    with torch.no_grad():
        metrics = validate(
            runtime,
            _val_options(options, batch, files=save_dir is not None),
            data.dataset,
            labels=data.val,
            callbacks=callbacks,
            loss=add_loss,
            save_dir=save_dir,
        )
    return ValidationResult(metrics, dict(zip(criterion.terms, (sums / max(batches, 1)).tolist(), strict=True)))


def _val_options(options: TrainOptions, batch: int, files: bool) -> ValOptions:
    shared = ("imgsz", "split", "conf", "iou", "max_det", "single_cls", "workers", "half")
    values: dict[str, Any] = {key: getattr(options, key) for key in shared}
    return ValOptions(
        data=options.data,
        batch=batch,
        rect=True,
        plots=files and options.plots,
        save_json=files and options.save_json,
        verbose=False,
        **values,
    )


def _targets(batch: ValBatch) -> Targets:
    return Targets(
        torch.from_numpy(batch.batch_idx),
        torch.from_numpy(batch.classes).long(),
        torch.from_numpy(batch.boxes),
        torch.from_numpy(batch.keypoints),
    )
