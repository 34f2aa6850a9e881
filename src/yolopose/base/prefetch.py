"""Ordered prefetch: work on later items starts before earlier results are taken."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
Pending = TypeVar("Pending")
R = TypeVar("R")

_MAX_WAIT = 5.0  # seconds for the end of threads that have been joined


def prefetch(
    items: Iterable[T], start: Callable[[T], Pending], finish: Callable[[Pending], R], ahead: int
) -> Generator[R, None, None]:
    """Yield the result of each item in order, with up to `ahead` further items started.

    Args:
        items: consumed only as far as needed.
        start: begins the work on an item and returns at once.
        finish: waits for the work that `start` began.
        ahead: items started beyond the one that is finished next; 0 starts each when it is needed.
    """
    pending: deque[Pending] = deque()
    for item in items:
        pending.append(start(item))
        if len(pending) > ahead:
            yield finish(pending.popleft())
    while pending:
        yield finish(pending.popleft())


def map_ordered(
    function: Callable[[T], R], items: Iterable[T], *, threads: int, ahead: int | None = None, name: str = ""
) -> Generator[R, None, None]:
    """Yield `function(item)` for each item in order, computed by threads.

    Closing the generator cancels what has not started and waits for the rest.

    Args:
        function: called by several threads at once.
        items: consumed only as far as needed.
        threads: size of the thread pool.
        ahead: items in progress beyond the one that is yielded next; `threads` when None.
        name: prefix of the threads' names.
    """
    thread_ids: list[int] = []
    pool = ThreadPoolExecutor(threads, name, initializer=lambda: thread_ids.append(threading.get_native_id()))
    submit: Callable[[T], Future[R]] = partial(pool.submit, function)
    try:
        yield from prefetch(items, submit, Future.result, threads if ahead is None else ahead)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        wait_until_gone(thread_ids)


def wait_until_gone(thread_ids: Iterable[int]) -> None:
    """Wait until joined threads have left the process, on Linux.

    Until then they release what native libraries allocated for them, under locks of these libraries. A process that is
    forked at that moment inherits a lock that nobody releases; the next matrix product of MKL waits for it for ever.
    """
    end = time.monotonic() + _MAX_WAIT
    for number in thread_ids:
        while Path(f"/proc/self/task/{number}").exists() and time.monotonic() < end:
            time.sleep(0.0005)
