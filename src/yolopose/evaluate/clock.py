"""Where the time of a run goes."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")
PHASES = ("preprocess", "inference", "loss", "postprocess")


class Clock:
    """Seconds spent in each phase."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = dict.fromkeys(PHASES, 0.0)

    @contextmanager
    def phase(self, name: str) -> Generator[None, None, None]:
        """Adds the time of the block to a phase."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] += time.perf_counter() - start

    def waiting(self, items: Iterable[T], name: str) -> Iterator[T]:
        """Yields the items; the time until each is there belongs to a phase."""
        source = iter(items)
        while True:
            try:
                with self.phase(name):
                    item = next(source)
            except StopIteration:
                return
            yield item

    def per_picture(self, pictures: int) -> dict[str, float]:
        """Returns milliseconds a picture of each phase."""
        return {name: 1000 * seconds / max(pictures, 1) for name, seconds in self.seconds.items()}
