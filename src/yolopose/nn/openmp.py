"""torch's threads are made to wait for each other politely.

Inside a layer the threads of torch wait by spinning: the GNU OpenMP library turns a loop 300 000 times before it
sleeps. That is quick while nothing else wants the cores. As soon as another process, a decoding thread or a second
network does, the spinning takes the time away from the very thread that is waited for, and an image of 60 ms takes
a second. A shorter spin costs a few per cent on an idle machine and keeps a busy one alive (measured in
benchmarks/RESULTS.md).

The library reads the number once, from the environment, when torch is loaded. It is set for that moment alone, and
not at all where the user has set any of these variables or torch is loaded already.
"""

from __future__ import annotations

import os
import sys

_SPINS = "10000"
_WISHES = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "KMP_BLOCKTIME")


def load_torch() -> None:
    """Load torch with a short spin."""
    if "torch" in sys.modules or any(name in os.environ for name in _WISHES):
        return
    os.environ["GOMP_SPINCOUNT"] = _SPINS
    try:
        import torch  # noqa: F401  # pyright: ignore[reportUnusedImport]
    finally:
        del os.environ["GOMP_SPINCOUNT"]


load_torch()
