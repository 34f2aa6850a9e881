"""Independence from the program that calls: processes that it forks, and numpy's error state.

A forked process (gunicorn --preload, multiprocessing) has the memory of its parent, but only one thread. A thread pool
of the parent is dead there, and a caller that hands work to it waits for ever. So engines that have threads are opened
again in the child, and libraries that cannot start their threads again compute in one.

Exponentials that underflow to 0 and comparisons with NaN are part of the computations here. With
`np.seterr(all="raise")`, which some test suites and simulation programs set, they would raise errors.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator
from functools import partial, wraps
from typing import ParamSpec, TypeVar

T = TypeVar("T")
P = ParamSpec("P")


def after_fork(function: Callable[[], object]) -> None:
    """Call a function in each process that will be forked from this one, right after the fork."""
    if hasattr(os, "register_at_fork"):  # not on Windows, which cannot fork
        os.register_at_fork(after_in_child=function)


def default_errors(function: Callable[P, T]) -> Callable[P, T]:
    """Decorate a function so that it runs with the default error state."""

    @wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        import numpy as np  # deferred: most commands of the command line need no numpy

        with np.errstate(divide="warn", over="warn", under="ignore", invalid="warn"):
            return function(*args, **kwargs)

    return wrapped


def with_default_errors(items: Generator[T, None, None] | Iterator[T]) -> Generator[T, None, None]:
    """Yield the items of a generator, each computed with the default error state; the caller keeps its own."""
    following = default_errors(partial(next, items))
    try:
        while True:
            try:
                item = following()
            except StopIteration:
                return
            yield item
    finally:
        if isinstance(items, Generator):
            items.close()
