"""A progress line: a live bar on a terminal, silence elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")
ProgressCallback = Callable[[int], None]
"""Called with the progress since the last call."""


def progress(items: Iterable[T], title: str, total: int | None = None, enabled: bool = True) -> Iterator[T]:
    """Yield the items while a bar shows how far it is.

    Args:
        items: what to go through.
        title: words in front of the bar.
        total: how many there are; taken from `len(items)` where it has one.
        enabled: False shows nothing (`verbose=False`).
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    if not enabled or not sys.stdout.isatty():
        yield from items
        return
    from rich.progress import track  # rich costs 60 ms to import, and only a terminal needs it

    yield from track(items, description=title, total=total, transient=True)


def format_duration(seconds: float) -> str:
    """Return a length of time as people say it: `40 seconds`, `3 minutes`, `1.2 hours`, `2.5 days`."""
    for unit, size, limit in (("second", 1, 90), ("minute", 60, 5400), ("hour", 3600, 172_800), ("day", 86_400, 1e99)):
        if seconds < limit:
            count = seconds / size
            number = f"{count:.1f}" if size > 60 and count < 10 else f"{count:.0f}"
            return f"{number} {unit}{'' if number == '1' else 's'}"
    return "a very long time"


@contextmanager
def download_bar(title: str, total: int | None, start: int = 0) -> Generator[ProgressCallback, None, None]:
    """Show how many bytes of a file have come, and how fast; gives the function that is told of each lot.

    Args:
        title: words in front of the bar.
        total: bytes of the whole, where they are known.
        start: bytes that were there before.
    """
    if not sys.stdout.isatty():
        yield lambda _: None
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    columns = ("[progress.description]{task.description}", BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), transient=True) as shown:
        task = shown.add_task(title, total=total, completed=start)
        yield lambda count: shown.advance(task, count)
