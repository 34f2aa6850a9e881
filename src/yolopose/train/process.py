"""Process-wide state during training: Ctrl-C, deterministic kernels, full memory, asynchronous devices."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager

import torch

from yolopose.base.errors import YoloposeError

_SAME_SIGNAL_SECONDS = 3.0  # a SIGINT that a launcher forwards within this time is the same Ctrl-C
# Texts of torch's RuntimeError for host memory; GPUs have an exception type of their own.
_OUT_OF_MEMORY_TEXTS = ("can't allocate memory", "not enough memory", "out of memory")


class InterruptHandler:
    """Record Ctrl-C so that the loop can stop between two batches.

    Args:
        forwarded: a launcher may forward the same Ctrl-C a second time.

    Attributes:
        requested: whether Ctrl-C was pressed.
    """

    def __init__(self, forwarded: bool = False) -> None:
        self.requested = False
        self._forwarded = forwarded
        self._time = 0.0

    @contextmanager
    def installed(self) -> Generator[None, None, None]:
        """Record the first Ctrl-C inside the block and raise `KeyboardInterrupt` on the second.

        Python delivers signals to the main thread only; in other threads the block changes nothing.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def handle(number: int, frame: object) -> None:
            if not self._forwarded:
                signal.signal(signal.SIGINT, previous)
            elif self.requested and time.monotonic() - self._time > _SAME_SIGNAL_SECONDS:
                raise KeyboardInterrupt
            elif not self.requested:
                self._time = time.monotonic()
            self.requested = True

        previous = signal.signal(signal.SIGINT, handle)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, previous)


@contextmanager
def deterministic_kernels(device: torch.device, deterministic: bool) -> Generator[None, None, None]:
    """Set torch's determinism switches inside the block and restore them afterwards.

    CPU kernels in use are deterministic, so nothing changes on the CPU.

    Args:
        device: where to compute.
        deterministic: True selects deterministic kernels and warns about operations without one; False lets cuDNN
            benchmark its kernels.
    """
    if device.type != "cuda":
        yield
        return
    cudnn = torch.backends.cudnn
    previous_cudnn = cudnn.deterministic, cudnn.benchmark
    previous = torch.are_deterministic_algorithms_enabled()
    previous_warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    if deterministic:
        # cuBLAS reads it when it creates its first workspace
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    cudnn.deterministic = deterministic
    cudnn.benchmark = not deterministic
    torch.use_deterministic_algorithms(deterministic, warn_only=True)
    try:
        yield
    finally:
        cudnn.deterministic, cudnn.benchmark = previous_cudnn
        torch.use_deterministic_algorithms(previous, warn_only=previous_warn_only)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error means that the memory of the CPU or of a GPU was full."""
    if isinstance(error, YoloposeError):  # its text may quote the memory error of another process
        return False
    if isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error).lower() for text in _OUT_OF_MEMORY_TEXTS)


def empty_cache(device: torch.device) -> None:
    """Return cached blocks of torch's allocator to a GPU."""
    if device.type == "cuda":
        torch.cuda.empty_cache()


def is_async(device: torch.device) -> bool:
    """Return whether the host queues work and continues, so that reading a value would make it wait."""
    return device.type == "cuda"
