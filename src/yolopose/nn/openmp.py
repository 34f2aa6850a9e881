"""Limit OpenMP spin-waiting, and threads after a fork; imported before torch.

Inside a layer, the threads of torch wait by spinning: GNU OpenMP runs 300 000 iterations before a thread sleeps. As
soon as another process, a decoding thread or a second network needs the cores, the spinning threads take time from
the thread they wait for, and an image of 60 ms takes a second. A shorter spin costs a few percent on an idle machine.

The library reads the value once, from the environment, while torch is loaded. It is set only for that moment, and not
at all where the user has set one of these variables or torch is already loaded.
"""

from __future__ import annotations

import os
import sys

from yolopose.base.isolation import after_fork
from yolopose.base.log import LOGGER

_SPIN_COUNT = "10000"
_USER_SETTINGS = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "KMP_BLOCKTIME")


def load_torch() -> None:
    """Import torch with a short spin."""
    if "torch" in sys.modules or any(name in os.environ for name in _USER_SETTINGS):
        return
    os.environ["GOMP_SPINCOUNT"] = _SPIN_COUNT
    try:
        import torch  # noqa: F401  # pyright: ignore[reportUnusedImport]
    finally:
        del os.environ["GOMP_SPINCOUNT"]


_has_computed = False


def note_computation() -> None:
    """Record that torch computes in this process, so that its threads exist."""
    global _has_computed
    _has_computed = True


def _use_one_thread() -> None:
    """In a forked process: compute in the calling thread, since the other threads of OpenMP exist only in the parent.

    OpenMP cannot start them again for the thread that has forked; a layer would wait for them for ever.
    """
    if _has_computed:
        import torch

        torch.set_num_threads(1)
        LOGGER.debug("This process was forked after torch had computed: torch uses one thread here.")


load_torch()
after_fork(_use_one_thread)
