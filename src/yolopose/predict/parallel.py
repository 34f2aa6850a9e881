"""Parallel execution of a run: images are loaded and predicted by threads, and results are returned in order.

A task is a window of consecutive images. Threads load and predict several windows at once, each on a replica of the
engine with its share of the cores; see `yolopose.runtime.replicas`. The number of windows in progress is limited, so a
long source does not fill the memory.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from itertools import islice
from typing import TypeVar

import numpy as np

from yolopose.base.cpu import physical_cores
from yolopose.base.errors import DownloadError, NotFoundError, SourceError
from yolopose.base.prefetch import map_ordered
from yolopose.predict.sources.base import ImageRef, LoadedImage, Source
from yolopose.runtime import Runtime, get_replicas
from yolopose.runtime.replicas import ReplicaPool

R = TypeVar("R")

_MIN_IMAGES = 8  # of a source that uses replicas, whose creation takes some engines a second
_LOADER_THREADS = 4  # threads that load images for an engine without replicas


def run_windows(
    source: Source,
    runtime: Runtime,
    work: Callable[[Runtime, list[LoadedImage]], R],
    size: int,
    *,
    replicate: bool = True,
) -> Generator[R, None, None]:
    """Apply a function to all images of a source.

    Args:
        source: the source; it is closed at the end.
        runtime: the engine.
        work: function of an engine and the images of a window; no other thread uses the engine at the same time.
        size: number of images of a window.
        replicate: whether several threads may call `work` at once, on replicas of the engine.

    Yields:
        The values of `work`, in source order.

    Raises:
        SourceError, NotFoundError, DownloadError: the only image of the source cannot be read. Among several images,
            such an image becomes a `LoadedImage` with an error, so that results match the sources.
    """
    try:
        if source.count == 1:
            for image in source.images:
                yield work(runtime, [image.load()])
        elif source.live:
            # No prefetch: the next frame is requested when the engine is idle, so that it is the newest.
            for window in _split(source.images, source.per_call):
                yield work(runtime, [_load(image) for image in window])
        else:
            is_long = source.count is None or source.count >= _MIN_IMAGES
            replicas = get_replicas(runtime, physical_cores()) if replicate and is_long else [runtime]
            yield from _run_parallel(_split(source.images, size), ReplicaPool(replicas), work)
    finally:
        if source.close is not None:
            source.close()


def _split(images: Iterable[ImageRef], size: int) -> Iterator[list[ImageRef]]:
    iterator = iter(images)
    while window := list(islice(iterator, size)):
        yield window


def _run_parallel(
    windows: Iterator[list[ImageRef]], pool: ReplicaPool, work: Callable[[Runtime, list[LoadedImage]], R]
) -> Generator[R, None, None]:
    def load_and_work(window: list[ImageRef]) -> R:
        images = [_load(image) for image in window]
        with pool.acquire() as runtime:
            return work(runtime, images)

    threads = max(len(pool), min(_LOADER_THREADS, physical_cores()))
    yield from map_ordered(load_and_work, windows, threads=threads, name="yolopose-predict")


def _load(image: ImageRef) -> LoadedImage:
    try:
        return image.load()
    except (SourceError, NotFoundError, DownloadError) as error:
        return LoadedImage(image.path, np.zeros((0, 0, 3), np.uint8), error=str(error))
