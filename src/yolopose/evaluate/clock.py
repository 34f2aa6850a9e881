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
        """Add the time of the block to a phase."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] += time.perf_counter() - start

    def waiting(self, items: Iterable[T], name: str) -> Iterator[T]:
        """Yield the items; the time until each is there belongs to a phase."""
        source = iter(items)
        while True:
            try:
                with self.phase(name):
                    item = next(source)
            except StopIteration:
                return
            yield item

    def per_image(self, images: int) -> dict[str, float]:
        """Return milliseconds per image of each phase."""
        return {name: 1000 * seconds / max(images, 1) for name, seconds in self.seconds.items()}
