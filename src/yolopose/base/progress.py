"""Progress bars on a terminal, nothing elsewhere; durations for messages."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")
ProgressCallback = Callable[[int], None]
"""Called with the progress since the last call."""


def is_terminal(stream: object) -> bool:
    """Return whether a standard stream is a terminal; it may be None, or an object that only has `write`."""
    isatty = getattr(stream, "isatty", None)
    try:
        return bool(isatty()) if callable(isatty) else False
    except ValueError:  # the stream is closed
        return False


def progress(items: Iterable[T], title: str, total: int | None = None, enabled: bool = True) -> Iterator[T]:
    """Yield the items with a progress bar.

    Args:
        items: the items.
        title: text in front of the bar.
        total: number of items; `len(items)` where that exists.
        enabled: False shows nothing (`verbose=False`).
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    if not enabled or not is_terminal(sys.stdout):
        yield from items
        return
    from rich.progress import track  # rich takes 60 ms to import, and only a terminal needs it

    yield from track(items, description=title, total=total, transient=True)


def format_duration(seconds: float) -> str:
    """Return a duration as text: `40 seconds`, `3 minutes`, `1.2 hours`, `2.5 days`."""
    for unit, size, limit in (("second", 1, 90), ("minute", 60, 5400), ("hour", 3600, 172_800), ("day", 86_400, 1e99)):
        if seconds < limit:
            count = seconds / size
            number = f"{count:.1f}" if size > 60 and count < 10 else f"{count:.0f}"
            return f"{number} {unit}{'' if number == '1' else 's'}"
    return "a very long time"


@contextmanager
def download_bar(title: str, total: int | None, start: int = 0) -> Generator[ProgressCallback, None, None]:
    """Show the progress and speed of a download; yield the function to call with the size of each block.

    Args:
        title: text in front of the bar.
        total: size of the file in bytes, where it is known.
        start: bytes received before.
    """
    if not is_terminal(sys.stdout):
        yield lambda _: None
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    columns = ("[progress.description]{task.description}", BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), transient=True) as bar:
        task = bar.add_task(title, total=total, completed=start)
        yield lambda count: bar.advance(task, count)
