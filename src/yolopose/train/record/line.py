"""The progress line of an epoch: live on a terminal, one line at its end elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

from yolopose.base.log import LOGGER

_GIB = 2**30
_HEADS = ("Epoch", "memory", "box", "pose", "kobj", "cls", "dfl", "instances", "size", "images/s")


class EpochLine:
    """Shows how an epoch goes: epoch, memory, mean losses, instances, input size, images a second, time left.

    Args:
        epoch: its number from 1.
        epochs: how many there are.
        batches: batches to come.
        enabled: False shows nothing.
    """

    def __init__(self, epoch: int, epochs: int, batches: int, *, enabled: bool = True) -> None:
        self._name, self._batches, self._enabled = f"{epoch}/{epochs}", batches, enabled
        self._live: Any = None
        self._task: Any = None
        self._done = self._images = 0
        self._start = time.monotonic()
        self.text = ""

    def __enter__(self) -> EpochLine:
        if self._enabled:
            LOGGER.info(_columns(*_HEADS))
            if sys.stdout.isatty():
                self._begin_live()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
        if self._enabled and self.text and kind is None:
            LOGGER.info(self.text)

    def update(self, losses: Mapping[str, float], instances: int, size: Sequence[int], images: int) -> None:
        """Notes a batch that is done.

        Args:
            losses: mean of each term over the epoch so far.
            instances: objects in the batch.
            size: (height, width) of the input, pixels.
            images: pictures in the batch.
        """
        self._done += 1
        self._images += images
        rate = self._images / max(time.monotonic() - self._start, 1e-9)
        shown = size[0] if size[0] == size[1] else f"{size[0]}x{size[1]}"
        numbers = [f"{value:.4g}" for value in losses.values()]
        self.text = _columns(self._name, f"{_memory():.2f}G", *numbers, instances, shown, f"{rate:.1f}")
        if self._live is not None:
            self._live.update(self._task, advance=1, description=self.text)

    def _begin_live(self) -> None:
        from rich import progress as bars  # rich costs 60 ms to import, and only a terminal needs it

        columns = (
            bars.TextColumn("{task.description}"),
            bars.BarColumn(12),
            bars.MofNCompleteColumn(),
            bars.TimeRemainingColumn(),
        )
        self._live = bars.Progress(*columns, refresh_per_second=5, transient=True)
        self._live.start()
        self._task = self._live.add_task(_columns(self._name), total=self._batches)


def _columns(*values: object) -> str:
    return "".join(f"{value:>10}" for value in values)


def _memory() -> float:
    """GiB that torch holds on the GPU, or that this process holds."""
    if torch.cuda.is_available():
        return torch.cuda.memory_reserved() / _GIB
    with suppress(OSError, IndexError, ValueError):  # where the system says it
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * 4096 / _GIB
    return 0.0
