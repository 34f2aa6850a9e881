"""Memory that is full: how to tell, and how to let go of what is not needed."""

from __future__ import annotations

import torch

from yolopose.base.errors import YoloposeError

# what torch says where it cannot have memory of the CPU; for GPUs it has an error type
_WORDS = ("can't allocate memory", "not enough memory", "out of memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that the memory of the CPU or of a GPU was full."""
    if isinstance(error, YoloposeError):  # it may tell of the memory of another process
        return False
    if isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in _WORDS)


def empty_cache(device: torch.device) -> None:
    """Return back to the device what torch keeps for later."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
