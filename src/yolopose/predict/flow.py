"""The flow of a run: images are read, predicted and given in order, as many at once as the machine has room for.

A job is a few images that follow each other. Where there are several jobs, threads read and predict them side by
side, each with an engine of its own share of the cores: two images at one core each take less time than one after
the other at two, since no core waits for another inside a layer, and decoding and drawing fill what is left. The
caller's thread takes the results in order. What is in flight is bounded, so a long source never fills the memory.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from queue import SimpleQueue
from typing import TypeVar

import numpy as np

from yolopose.base.cpu import physical_cores
from yolopose.base.errors import DownloadError, NotFoundError, SourceError
from yolopose.predict.items import Entry, Item, Source
from yolopose.runtime import Runtime, get_replicas

Done = TypeVar("Done")
Work = Callable[[Runtime, list[Item]], Done]

_WORTH_LANES = 8  # images: some engines take a second to set up replicas
_READERS = 4  # threads that decode ahead of an engine that has no use for more than one itself


def run_jobs(source: Source, runtime: Runtime, work: Work[Done], size: int) -> Generator[Done, None, None]:
    """Do the work on all images of a source.

    Args:
        source: what to read.
        runtime: the engine.
        work: what is done with the images of a job, on an engine that no other thread uses meanwhile.
        size: images of a job.

    Yields:
        What `work` returned, in the order of the source.

    Raises:
        SourceError, NotFoundError, DownloadError: the only image of the source cannot be read. Among others such a
            image becomes an `Item` with an error, so that results line up with sources.
    """
    try:
        if source.count == 1:
            for entry in source.entries:
                yield work(runtime, [entry.load()])
        elif source.live:
            for job in _jobs(source.entries, source.together):
                yield work(runtime, [_load(entry) for entry in job])
        else:
            several = source.count is None or source.count >= _WORTH_LANES
            engines = _Engines(get_replicas(runtime, physical_cores()) if several else [runtime])
            yield from _side_by_side(_jobs(source.entries, size), engines, work)
    finally:
        source.close()


def _jobs(entries: Iterable[Entry], size: int) -> Iterator[list[Entry]]:
    waiting = iter(entries)
    while job := list(islice(waiting, size)):
        yield job


def _side_by_side(jobs: Iterator[list[Entry]], engines: _Engines, work: Work[Done]) -> Generator[Done, None, None]:
    threads = max(len(engines), min(_READERS, physical_cores()))

    def do(job: list[Entry]) -> Done:
        items = [_load(entry) for entry in job]
        with engines.free() as engine:
            return work(engine, items)

    pool = ThreadPoolExecutor(threads, thread_name_prefix="yolopose-replica")
    waiting: deque[Future[Done]] = deque()
    try:
        for job in jobs:
            waiting.append(pool.submit(do, job))
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


class _Engines:
    """The engines that work side by side; each is used by one thread at a time."""

    def __init__(self, engines: Sequence[Runtime]) -> None:
        self._count = len(engines)
        self._idle: SimpleQueue[Runtime] = SimpleQueue()
        for engine in engines:
            self._idle.put(engine)

    def __len__(self) -> int:
        return self._count

    @contextmanager
    def free(self) -> Generator[Runtime, None, None]:
        """Return an engine that no other thread uses, as soon as there is one."""
        engine = self._idle.get()
        try:
            yield engine
        finally:
            self._idle.put(engine)


def _load(entry: Entry) -> Item:
    try:
        return entry.load()
    except (SourceError, NotFoundError, DownloadError) as error:
        return Item(entry.path, np.zeros((0, 0, 3), np.uint8), error=str(error))
