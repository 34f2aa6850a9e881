"""The progress line of an epoch: live on a terminal, one line at its end elsewhere."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

from yolopose.base.log import LOGGER
from yolopose.criterion import PoseCriterion

_GIB = 2**30
_WIDTH = 8  # of a column, in characters; a longer head makes its column wider
_BAR_ROOM = 40  # characters that bar, batches and time left take beside the text
_TIME_ROOM = 14  # those that percent and time left take where a bar has no place


def header(names: Iterable[str] = PoseCriterion.terms) -> str:
    """Return the head line that the lines of the epochs stand under.

    Args:
        names: of the losses, with or without `_loss`.
    """
    heads = _heads(names)
    return _columns(heads, heads)


class EpochLine:
    """Shows how an epoch goes: epoch, memory, mean losses, instances, input size, images a second, time left.

    Args:
        epoch: its number from 1.
        epochs: how many there are.
        batches: batches to come.
        enabled: False shows nothing.
        head: whether the head line comes first; one is enough for a run.
        names: of the losses, with or without `_loss`.
    """

    def __init__(
        self,
        epoch: int,
        epochs: int,
        batches: int,
        *,
        enabled: bool = True,
        head: bool = True,
        names: Iterable[str] = PoseCriterion.terms,
    ) -> None:
        self._header = header(names)
        self._name, self._batches, self._enabled, self._head = f"{epoch}/{epochs}", batches, enabled, head
        self._live: Any = None
        self._task: Any = None
        self._room: int | None = None  # characters of the text that a narrow terminal has place for
        self._images = 0
        self._start = time.monotonic()
        self.text = ""

    def __enter__(self) -> EpochLine:
        if self._enabled:
            if self._head:
                LOGGER.info(self._header)
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
        """Note a batch that is done.

        Args:
            losses: mean of each term over the epoch so far.
            instances: objects in the batch.
            size: (height, width) of the input, pixels.
            images: images in the batch.
        """
        self._images += images
        rate = self._images / max(time.monotonic() - self._start, 1e-9)
        shown = size[0] if size[0] == size[1] else f"{size[0]}x{size[1]}"
        numbers = [_number(value) for value in losses.values()]
        values = (self._name, f"{_memory():.2f}G", *numbers, instances, shown, f"{rate:.1f}")
        self.text = _columns(_heads(losses), values)
        if self._live is not None:
            self._live.update(self._task, advance=1, description=self.text[: self._room])

    def _begin_live(self) -> None:
        from rich import get_console  # rich costs 60 ms to import, and only a terminal needs it
        from rich import progress as bars

        width, text = get_console().width, bars.TextColumn("{task.description}", markup=False)
        if width >= len(self._header) + _BAR_ROOM:
            columns = (text, bars.BarColumn(12), bars.MofNCompleteColumn(), bars.TimeRemainingColumn())
        else:  # the end of the text gives way, so that the line stays one and still says how far it is
            columns = (text, bars.TaskProgressColumn(), bars.TimeRemainingColumn())
            self._room = max(width - _TIME_ROOM, 0)
        self._live = bars.Progress(*columns, refresh_per_second=5, transient=True)
        self._live.start()
        self._task = self._live.add_task(_columns(("Epoch",), (self._name,)), total=self._batches)


def _heads(losses: Iterable[str]) -> list[str]:
    return ["Epoch", "memory", *(name.removesuffix("_loss") for name in losses), "instances", "size", "images/s"]


def _columns(heads: Sequence[str], values: Sequence[object]) -> str:
    return " ".join(f"{value:>{max(_WIDTH, len(head))}}" for head, value in zip(heads, values, strict=True))


def _number(value: float) -> str:
    """A loss with four digits, or with three where they and a power of ten would be wider than the column."""
    text = f"{value:.4g}"
    return text if len(text) <= _WIDTH else f"{value:.2e}"


def _memory() -> float:
    """GiB that torch holds on GPUs, or, where it holds none, that this process holds."""
    if torch.cuda.is_initialized():  # asking whether one is available would be slow in each batch
        held = sum(torch.cuda.memory_reserved(index) for index in range(torch.cuda.device_count()))
        if held:
            return held / _GIB
    with suppress(OSError, IndexError, ValueError):
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / _GIB
    return _peak_memory()


def _peak_memory() -> float:
    """GiB that this process held at most, for systems without /proc; 0 where nothing says it."""
    try:
        import resource  # not there on Windows
    except ImportError:
        return 0.0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / _GIB
