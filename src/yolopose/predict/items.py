"""What flows from a source into prediction: images to come, and images read."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from yolopose.results import Frame


@dataclass(frozen=True, slots=True)
class Item:
    """One image.

    Attributes:
        path: file that it came from, or a made-up name (`image0.jpg`).
        image: (H, W, 3) uint8 BGR; (0, 0, 3) when it could not be read.
        planes: (3, H, W) float32 RGB 0…1 when it was given as network input, which is not letterboxed; else None.
        error: why it could not be read, or None.
        frame: where it stands in a video or stream, or None.
        full: (height, width) of the file's image when `image` was decoded at a reduced scale, else None.
    """

    path: str
    image: npt.NDArray[np.uint8]
    planes: npt.NDArray[np.float32] | None = None
    error: str | None = None
    frame: Frame | None = None
    full: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """An image that a source promises.

    Attributes:
        path: as in `Item`.
        load: reads it; may run in another thread. Raises `SourceError`, `NotFoundError` or `DownloadError`.
    """

    path: str
    load: Callable[[], Item]


def _nothing() -> None:
    """What a source does at its end that reads nothing in the background."""


@dataclass(frozen=True, slots=True)
class Source:
    """Everything that is to be predicted, in order.

    Attributes:
        entries: the images, gone through once, by one thread; may be made while it is read (frames of a video are
            decoded by the `next` that asks for them).
        count: how many there are; None when that shows only at the end.
        live: whether images appear by themselves (cameras, streams): then none is asked for before the engine is
            free for it, so that it sees the newest.
        together: images that belong into one call (as many as there are streams).
        close: ends what reads in the background; called once, when no more images are wanted.
    """

    entries: Iterable[Entry]
    count: int | None
    live: bool = False
    together: int = 1
    close: Callable[[], None] = _nothing
