"""What training prints: a progress line and a metrics row per epoch, and the report at the end."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any

import torch

from yolopose.base.log import LOGGER
from yolopose.base.memory import peak_process_memory, process_memory
from yolopose.base.progress import format_duration, is_terminal
from yolopose.criterion import PoseCriterion
from yolopose.evaluate import PoseMetrics
from yolopose.evaluate.console import pixel_lines, table_head, table_rows

HEADER_EVERY = 10
"""Epochs after which the column headers are repeated."""
_GIB = 2**30
_COLUMN_WIDTH = 8  # characters; a longer header widens its column
_BAR_WIDTH = 40  # characters of bar, batch counter and remaining time next to the text
_TIME_WIDTH = 14  # characters of percentage and remaining time, on terminals too narrow for a bar
_CHANCE = 0.005  # an mAP50 below this is what an untrained network reaches


def epoch_header(losses: Iterable[str] = PoseCriterion.terms) -> str:
    """Return the column headers of the progress lines.

    Args:
        losses: names of the losses, with or without `_loss`.
    """
    names = _column_names(losses)
    return _format_columns(names, names)


class EpochLine:
    """Progress line of an epoch: live on a terminal, logged once at its end.

    It shows the epoch, memory, mean losses, instances, input size, images per second and remaining time.

    Args:
        epoch: epoch from 1.
        epochs: number of epochs.
        batches: number of batches to come.
        enabled: False prints nothing.
        header: whether to print the column headers first.
        losses: names of the losses, with or without `_loss`.
        time_left: returns the seconds until the end of the run, which the line at the end of the epoch shows; for
            epochs without validation, whose row would show them otherwise.

    Attributes:
        text: the current line, without header and bar.
    """

    def __init__(
        self,
        epoch: int,
        epochs: int,
        batches: int,
        *,
        enabled: bool = True,
        header: bool = True,
        losses: Iterable[str] = PoseCriterion.terms,
        time_left: Callable[[], float] | None = None,
    ) -> None:
        self._header = epoch_header(losses)
        self._name = f"{epoch}/{epochs}"
        self._batches = batches
        self._enabled = enabled
        self._with_header = header
        self._time_left = time_left
        self._live: Any = None
        self._task: Any = None
        self._max_text: int | None = None  # characters that a narrow terminal has room for
        self._images = 0
        self._start = time.monotonic()
        self.text = ""

    def __enter__(self) -> EpochLine:
        if self._enabled:
            if self._with_header:
                LOGGER.info(self._header)
            if is_terminal(sys.stdout):
                self._start_live()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
        if self._enabled and self.text and kind is None:
            remaining = "" if self._time_left is None else _format_time_left(self._time_left())
            LOGGER.info(self.text + remaining)

    def update(self, losses: Mapping[str, float], instances: int, size: Sequence[int], images: int) -> None:
        """Show a finished batch.

        Args:
            losses: mean of each loss over the epoch so far.
            instances: instances in the batch.
            size: (height, width) of the input, pixels.
            images: images in the batch.
        """
        self._images += images
        rate = self._images / max(time.monotonic() - self._start, 1e-9)
        size_text = size[0] if size[0] == size[1] else f"{size[0]}x{size[1]}"
        loss_texts = [_format_loss(value) for value in losses.values()]
        values = (self._name, f"{_memory_gib():.2f}G", *loss_texts, instances, size_text, f"{rate:.1f}")
        self.text = _format_columns(_column_names(losses), values)
        if self._live is not None:
            self._live.update(self._task, advance=1, description=self.text[: self._max_text])

    def _start_live(self) -> None:
        from rich import get_console  # rich takes 60 ms to import, and only terminals need it
        from rich import progress as bars

        width = get_console().width
        text = bars.TextColumn("{task.description}", markup=False)
        if width >= len(self._header) + _BAR_WIDTH:
            columns = (text, bars.BarColumn(12), bars.MofNCompleteColumn(), bars.TimeRemainingColumn())
        else:
            # the end of the text is cut off: a wrapped line would not be overwritten by the next update
            columns = (text, bars.TaskProgressColumn(), bars.TimeRemainingColumn())
            self._max_text = max(width - _TIME_WIDTH, 0)
        self._live = bars.Progress(*columns, refresh_per_second=5, transient=True)
        self._live.start()
        self._task = self._live.add_task(_format_columns(("Epoch",), (self._name,)), total=self._batches)


def epoch_summary(metrics: PoseMetrics, images: int, time_left: float, *, header: bool) -> str:
    """Return the metrics of an epoch for all classes, and the remaining time of the run.

    Args:
        metrics: metrics of this epoch.
        images: number of validation images.
        time_left: estimated seconds until the end of the run; 0 after the last epoch.
        header: whether the column headers come first.
    """
    row = table_rows(metrics, images)[0] + _format_time_left(time_left)
    return f"{table_head()}\n{row}" if header else row


def final_report(metrics: PoseMetrics, images: int, steps: int, *, fresh: bool = True) -> str:
    """Return the table of the best network, with advice if it has learned nothing yet.

    Args:
        metrics: metrics of the best network.
        images: number of validation images.
        steps: optimizer steps of the run.
        fresh: whether the run began from random weights.
    """
    return "\n".join(
        [table_head(), *table_rows(metrics, images), *pixel_lines(metrics), *_advice(metrics, steps, fresh)]
    )


def _advice(metrics: PoseMetrics, steps: int, fresh: bool) -> list[str]:
    boxes, poses = (part.map50 >= _CHANCE for part in (metrics.box, metrics.pose))
    if boxes and poses:
        return []
    if boxes:
        problem = "The network detects boxes but no correct pose yet (pose mAP is 0): keypoints follow boxes."
    else:
        problem = "The network detects nothing of this data set yet (mAP is 0)."
    mostly = ", mostly from random weights (a .yaml)" if fresh else ""
    pretrained = ", and start from pretrained weights (model=yolo11n-pose.pt)" if fresh else ""
    return [
        f"{problem} This is usual after few optimizer steps (here {steps}; thousands are common){mostly}: train longer "
        f"(epochs=100 or more){pretrained}. If it does not change, check train_batch0.jpg in the run folder: boxes and "
        "keypoints must match the images."
    ]


def _format_time_left(seconds: float) -> str:
    return f"   about {format_duration(seconds)} left" if seconds > 0 else ""


def _column_names(losses: Iterable[str]) -> list[str]:
    return ["Epoch", "memory", *(name.removesuffix("_loss") for name in losses), "instances", "size", "images/s"]


def _format_columns(names: Sequence[str], values: Sequence[object]) -> str:
    return " ".join(f"{value:>{max(_COLUMN_WIDTH, len(name))}}" for name, value in zip(names, values, strict=True))


def _format_loss(value: float) -> str:
    """Return a loss with four digits, or with three if four and an exponent would be wider than the column."""
    text = f"{value:.4g}"
    return text if len(text) <= _COLUMN_WIDTH else f"{value:.2e}"


def _memory_gib() -> float:
    """Return the GiB that torch has reserved on GPUs or, if none, that this process uses."""
    if torch.cuda.is_initialized():  # is_available would be slow in every batch
        reserved = sum(torch.cuda.memory_reserved(index) for index in range(torch.cuda.device_count()))
        if reserved:
            return reserved / _GIB
    return (process_memory() or peak_process_memory() or 0) / _GIB
