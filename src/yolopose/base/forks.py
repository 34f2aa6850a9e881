"""Processes forked from this one (gunicorn --preload, multiprocessing): they have its memory, but only one thread.

A thread pool of the parent is dead in the child, and whoever hands work to it waits for ever. So an engine that has
threads is opened again in the child, and libraries that cannot start their threads again compute in one.
"""

from __future__ import annotations

import os
from collections.abc import Callable


def after_fork(function: Callable[[], object]) -> None:
    """Call a function in each process that will be forked from this one, right after the fork."""
    if hasattr(os, "register_at_fork"):  # not on Windows, which cannot fork
        os.register_at_fork(after_in_child=function)
