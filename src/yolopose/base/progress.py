"""A progress line: a live bar on a terminal, silence elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

T = TypeVar("T")


def progress(items: Iterable[T], title: str, total: int | None = None, enabled: bool = True) -> Iterator[T]:
    """Yields the items while a bar shows how far it is.

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
