"""Whether a GPU may take kernels that are faster but give other last digits each time."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager

import torch


@contextmanager
def reproducible(device: torch.device, wanted: bool) -> Generator[None, None, None]:
    """Set torch's switches inside the block, and puts them back behind it.

    On the CPU all kernels in use give the same numbers each time, so nothing is set.

    Args:
        device: where to compute.
        wanted: True takes reproducible kernels alone, and warns of what has none; False lets cuDNN try out which
            kernels are the fastest.
    """
    if device.type != "cuda":
        yield
        return
    cudnn = torch.backends.cudnn
    before = cudnn.deterministic, cudnn.benchmark, torch.are_deterministic_algorithms_enabled()
    warned = torch.is_deterministic_algorithms_warn_only_enabled()
    if wanted:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS is first used
    cudnn.deterministic, cudnn.benchmark = wanted, not wanted
    torch.use_deterministic_algorithms(wanted, warn_only=True)
    try:
        yield
    finally:
        cudnn.deterministic, cudnn.benchmark = before[:2]
        torch.use_deterministic_algorithms(before[2], warn_only=warned)
