"""What flows from a source into prediction: pictures to come, and pictures read."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from yolopose.base.errors import DownloadError, NotFoundError, SourceError
from yolopose.results import Frame


@dataclass(frozen=True, slots=True)
class Item:
    """One picture.

    Attributes:
        path: file that it came from, or a made-up name (`image0.jpg`).
        image: (H, W, 3) uint8 BGR; (0, 0, 3) when it could not be read.
        planes: (3, H, W) float32 RGB 0…1 when it was given as network input, which is not letterboxed; else None.
        error: why it could not be read, or None.
        frame: where it stands in a video or stream, or None.
        full: (height, width) of the file's picture when `image` was decoded at a reduced scale, else None.
    """

    path: str
    image: npt.NDArray[np.uint8]
    planes: npt.NDArray[np.float32] | None = None
    error: str | None = None
    frame: Frame | None = None
    full: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """A picture that a source promises.

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
        entries: the pictures, gone through once, by one thread; may be made while it is read (frames of a video are
            decoded by the `next` that asks for them).
        count: how many there are; None when that shows only at the end.
        live: whether pictures appear by themselves (cameras, streams): then none is asked for before the engine is
            free for it, so that it sees the newest.
        together: pictures that belong into one call (as many as there are streams).
        close: ends what reads in the background; called once, when no more pictures are wanted.
    """

    entries: Iterable[Entry]
    count: int | None
    live: bool = False
    together: int = 1
    close: Callable[[], None] = _nothing


def load_all(source: Source, ahead: int) -> Generator[Item, None, None]:
    """Yields the pictures of a source in its order, while threads decode the next ones.

    Args:
        source: what to read.
        ahead: pictures that may be read before they are asked for; bounds the memory.

    Raises:
        SourceError, NotFoundError, DownloadError: the only picture of the source cannot be read. Among others such a
            picture is yielded as an `Item` with an error, so that results line up with sources.
    """
    if source.count == 1:
        for entry in source.entries:
            yield entry.load()
        return
    pool = ThreadPoolExecutor(min(4, os.cpu_count() or 1), thread_name_prefix="yolopose-decode")
    waiting: deque[Future[Item]] = deque()
    try:
        for entry in source.entries:
            waiting.append(pool.submit(_load, entry))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _load(entry: Entry) -> Item:
    try:
        return entry.load()
    except (SourceError, NotFoundError, DownloadError) as error:
        return Item(entry.path, np.zeros((0, 0, 3), np.uint8), error=str(error))
