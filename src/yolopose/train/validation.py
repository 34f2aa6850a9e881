"""Validation during training: metrics and losses of the averaged network on the validation images."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from yolopose.base.callbacks import Callbacks
from yolopose.base.log import LOGGER
from yolopose.config import TrainSettings, ValOptions
from yolopose.criterion import Criterion, Targets
from yolopose.data import ValBatch
from yolopose.evaluate import PoseMetrics, validate
from yolopose.formats.pytorch import TorchRuntime
from yolopose.nn import PoseModel
from yolopose.nn.head import HeadOutput
from yolopose.train.data import TrainData
from yolopose.train.optimizer import resolved_batch
from yolopose.train.process import empty_cache, is_out_of_memory


@dataclass(frozen=True, slots=True)
class ValidationResult:
    """Metrics and losses of a validation.

    Attributes:
        metrics: of boxes and poses.
        losses: mean of each loss term over the batches.
    """

    metrics: PoseMetrics
    losses: Mapping[str, float]

    @property
    def fitness(self) -> float:
        """Box mAP50-95 + pose mAP50-95, by which `best.pt` is selected."""
        return self.metrics.fitness

    def to_dict(self) -> dict[str, float]:
        """Return `metrics/…`, `pixels/…` and `val/…_loss` by the column names of results.csv."""
        metrics = {key: value for key, value in self.metrics.results_dict.items() if key != "fitness"}
        return {**metrics, **{f"val/{term}_loss": value for term, value in self.losses.items()}}


class _LossRuntime(TorchRuntime):
    """Keeps the raw output of the last batch, so that the losses need no second forward pass."""

    output: HeadOutput

    keep_branches = True  # the losses need both branches of a head

    def forward(self, values: Tensor) -> Tensor:
        self.output = self.network.outputs(values)
        return self.network.head.decode(self.output)


def validate_epoch(
    network: PoseModel,
    data: TrainData,
    settings: TrainSettings,
    criterion: Criterion,
    device: torch.device,
    *,
    callbacks: Callbacks | None = None,
    save_dir: Path | None = None,
    check: Callable[[], object] = lambda: None,
) -> ValidationResult:
    """Validate a network on the validation images, in smaller batches where the memory is full.

    Args:
        network: the averaged network; it is copied.
        data: the data; `val` must not be None.
        settings: of the training.
        criterion: the losses.
        device: where to compute.
        callbacks: functions for the events of validation.
        save_dir: folder for the files of `plots` and `save_json`; None writes none.
        check: called after each batch; an exception from it ends the validation.

    Raises:
        DataError: an image cannot be read any more.
    """
    batch = 2 * resolved_batch(settings)  # a forward pass takes less than half the memory of a training step
    while True:
        val_options = _val_options(settings, batch, files=save_dir is not None)
        try:
            return _validate(network, data, val_options, criterion, device, callbacks, save_dir, check)
        except (RuntimeError, MemoryError) as error:
            if batch == 1 or not is_out_of_memory(error):
                raise
        # outside the handler, where the error no longer keeps the tensors of the attempt alive
        empty_cache(device)
        LOGGER.warning(f"Out of memory while validating {batch} images at once: continuing with {batch // 2}.")
        batch //= 2


def _validate(
    network: PoseModel,
    data: TrainData,
    options: ValOptions,
    criterion: Criterion,
    device: torch.device,
    callbacks: Callbacks | None,
    save_dir: Path | None,
    check: Callable[[], object],
) -> ValidationResult:
    runtime = _LossRuntime(network, device, options.half)
    criterion = criterion.for_network(runtime.network)
    sums = torch.zeros(len(criterion.terms))
    batches = 0

    def add_loss(batch: ValBatch) -> None:
        nonlocal batches
        check()
        batches += 1
        sums.add_(criterion(runtime.output, _targets(batch)).values.cpu())

    with torch.no_grad():
        metrics = validate(
            runtime, options, data.dataset, labels=data.val, callbacks=callbacks, loss=add_loss, save_dir=save_dir
        )
    return ValidationResult(metrics, dict(zip(criterion.terms, (sums / max(batches, 1)).tolist(), strict=True)))


def _val_options(settings: TrainSettings, batch: int, files: bool) -> ValOptions:
    shared = ("imgsz", "split", "conf", "iou", "max_det", "single_cls", "workers", "half")
    values: dict[str, Any] = {key: getattr(settings, key) for key in shared}
    return ValOptions(
        data=settings.data,
        batch=batch,
        rect=True,
        plots=files and settings.plots,
        save_json=files and settings.save_json,
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
