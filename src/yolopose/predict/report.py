"""What a prediction run says while it goes."""

from __future__ import annotations

from dataclasses import dataclass, field

from yolopose.base.log import LOGGER
from yolopose.results import Results


@dataclass(slots=True)
class Report:
    """Log lines of a run, and its times.

    Attributes:
        total: images to come, or None where that is not known.
        verbose: False leaves out all but the images that could not be read.
        shown: images so far.
        read: those of them that could be read.
        spent: milliseconds of each part so far.
    """

    total: int | None
    verbose: bool
    shown: int = 0
    read: int = 0
    spent: dict[str, float] = field(default_factory=dict[str, float])

    def add(self, result: Results, size: tuple[int, int]) -> None:
        """Log one result; `size` is its (height, width) as network input."""
        self.shown += 1
        place = self._place(result)
        if result.error is not None:
            LOGGER.warning(f"{place}: {result.verbose().rstrip(', ')}")
            return
        self.read += 1
        for part, value in result.speed.items():
            self.spent[part] = self.spent.get(part, 0.0) + (value or 0.0)
        if self.verbose:
            milliseconds = result.speed["inference"] or 0.0
            LOGGER.info(f"{place}: {size[0]}x{size[1]} {result.verbose()}{milliseconds:.1f}ms")

    def _place(self, result: Results) -> str:
        frame = result.frame
        if frame is None:
            return f"image {self.shown}/{self.total or '?'} {result.path}"
        if frame.live:
            return f"stream {frame.video + 1} (frame {frame.number}) {result.path}"
        return f"video {frame.video + 1} (frame {frame.number}/{frame.total or '?'}) {result.path}"

    def close(self) -> None:
        """Log the mean times."""
        if self.verbose and self.read:
            parts = ", ".join(f"{value / self.read:.1f}ms {part}" for part, value in self.spent.items())
            LOGGER.info(f"Speed: {parts} per image")
