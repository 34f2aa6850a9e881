"""Ordered prefetch: work on later items starts before earlier results are taken."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TypeVar

T = TypeVar("T")
Pending = TypeVar("Pending")
R = TypeVar("R")


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
    pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
    submit: Callable[[T], Future[R]] = partial(pool.submit, function)
    try:
        yield from prefetch(items, submit, Future.result, threads if ahead is None else ahead)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
