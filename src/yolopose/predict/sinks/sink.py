"""What the kinds of output have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from yolopose.results import Results


class Place:
    """A result on its way into files.

    Args:
        result: the result.
        folder: the run folder.
        stem: name of its source (image, video or stream), which no other source of the run has.
        style: arguments of `Results.plot`.
    """

    def __init__(self, result: Results, folder: Path, stem: str, style: dict[str, Any]) -> None:
        self.result, self.folder, self.stem = result, folder, stem
        self._style = style

    @property
    def name(self) -> str:
        """The stem; for a frame with its number, `STEM_12`."""
        frame = self.result.frame
        return self.stem if frame is None else f"{self.stem}_{frame.number}"

    @cached_property
    def drawn(self) -> npt.NDArray[np.uint8]:
        """(H, W, 3) BGR: the image with what was found in it, drawn once for all that want it."""
        return self.result.plot(**self._style)


class Sink(ABC):
    """A kind of output."""

    def takes(self, result: Results) -> bool:
        """Whether a result is for it; one of an image that could not be read is not."""
        return result.error is None

    @abstractmethod
    def write(self, place: Place) -> None:
        """Write one result.

        Raises:
            OutputError: it cannot be written; nothing half-written stands under a final name.
        """

    def close(self) -> None:  # noqa: B027  # most files are whole when they are written
        """Finish what is open; may be called again.

        Raises:
            OutputError: it cannot be written.
        """

    @property
    @abstractmethod
    def words(self) -> str:
        """What was written, `"12 images"`; empty for nothing."""


def counted(number: int, noun: str) -> str:
    """Return `"1 image"`, `"12 images"`; empty text for none."""
    return f"{number} {noun}{'' if number == 1 else 's'}" if number else ""
