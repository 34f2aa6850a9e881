"""Automatic batch size: measure the memory of two training steps and extrapolate linearly."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

import numpy as np
import torch

from yolopose.base.log import LOGGER
from yolopose.base.memory import available_memory, process_memory
from yolopose.config import TrainSettings
from yolopose.nn import PoseModel
from yolopose.train.data import TrainData
from yolopose.train.feed import TrainBatch
from yolopose.train.process import empty_cache, is_out_of_memory
from yolopose.train.state import TrainState

DEFAULT_BATCH = 16
"""Batch size where the memory cannot be measured."""
DEFAULT_SHARE = 0.6
"""Share of the free memory that `batch=-1` fills; loaders, validation and other programs need the rest."""

_PROBES = (2, 4)  # images of the two measured steps
_MAX_BATCH = 1024
_GIB = 2**30
_MIB = 2**20


class MemoryMeter(Protocol):
    """Measures the memory of a device."""

    def free(self) -> int:
        """Return the available bytes."""
        ...

    def peak(self, work: Callable[[], object]) -> int:
        """Return the peak of allocated bytes during a call, minus those allocated when the meter was created."""
        ...


def auto_batch_size(network: PoseModel, data: TrainData, settings: TrainSettings, device: torch.device) -> int:
    """Return the number of images per step that fits the memory, and log the measurement.

    Args:
        network: it is copied.
        data: training data.
        settings: `batch` is -1, or the share of the free memory to fill, 0…1.
        device: where to compute.

    Returns:
        At least 1, at most the number of training images.
    """
    request = settings.batch
    share = request if 0 < request < 1 else DEFAULT_SHARE
    meter = memory_meter(device)
    if meter is None:
        LOGGER.warning(f"batch={request:g}: this system does not report its memory, so {DEFAULT_BATCH} is used.")
        return DEFAULT_BATCH
    free = meter.free()
    limit = min(len(data.train), _MAX_BATCH)
    try:
        peaks = _step_peaks(network, data, settings, device, meter)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        peaks = None
    empty_cache(device)
    if peaks is None:
        LOGGER.warning(f"batch={request:g}: {_PROBES[-1]} images do not fit the memory of {device}, so 1 is used.")
        return 1
    base, per_image = fit_line(_PROBES, peaks)
    spread = 0.5 if settings.multi_scale is True else float(settings.multi_scale)
    per_image *= (1 + spread) ** 2  # the largest size that multi_scale may select
    batch = limit if per_image <= 0 else min(max(int((share * free - base) / per_image), 1), limit)
    note = " (the largest allowed)" if batch == limit else ""
    LOGGER.info(
        f"batch={request:g}: using {share:.0%} of {free / _GIB:.1f} GiB free memory; a step takes {base / _GIB:.2f} "
        f"GiB plus {per_image / _MIB:.0f} MiB per image, so batch={batch}{note}."
    )
    return batch


def fit_line(counts: tuple[int, int], peaks: tuple[int, int]) -> tuple[float, float]:
    """Return the line through two measurements: bytes without images, at least 0, and bytes per image."""
    slope = (peaks[1] - peaks[0]) / (counts[1] - counts[0])
    return max(peaks[0] - slope * counts[0], 0.0), slope


def _step_peaks(
    network: PoseModel, data: TrainData, settings: TrainSettings, device: torch.device, meter: MemoryMeter
) -> tuple[int, int]:
    """Return the peak bytes of a step with each of `_PROBES` images, optimizer state and EMA included."""
    settings = replace(settings, batch=_PROBES[-1], compile=False, multi_scale=0.0)
    state = TrainState(copy.deepcopy(network), data, settings, device, 1)
    state.begin_epoch(0, 1)

    def step(count: int) -> None:
        state.precision.backward(state.losses(_random_batch(data, settings.imgsz, count), 0, 0).total)
        state.step(0)

    step(_PROBES[0])  # the first step selects kernels and allocates the optimizer state
    small, large = (meter.peak(lambda count=count: step(count)) for count in _PROBES)
    return small, large


def _random_batch(data: TrainData, side: int, count: int) -> TrainBatch:
    """Return noise images with as many instances as a mosaic of four average images of the data set."""
    rng = np.random.default_rng(0)
    per_image = max(round(4 * len(data.train.classes) / len(data.train)), 1)
    instances = count * per_image
    points = rng.uniform(0, 1, (instances, data.spec.keypoints.count, 3)).astype(np.float32)
    points[..., 2] = 2
    centers, sizes = rng.uniform(0.2, 0.8, (instances, 2)), rng.uniform(0.05, 0.3, (instances, 2))
    return TrainBatch(
        images=torch.from_numpy(rng.integers(0, 255, (count, data.spec.channels, side, side), dtype=np.uint8)),
        batch_idx=torch.arange(instances) // per_image,
        classes=torch.zeros(instances, dtype=torch.int64),
        boxes=torch.from_numpy(np.concatenate((centers, sizes), 1).astype(np.float32)),
        keypoints=torch.from_numpy(points),
        index=torch.zeros(count, dtype=torch.int64),
    )


def memory_meter(device: torch.device) -> MemoryMeter | None:
    """Return the meter of a device; None where its memory cannot be measured."""
    if device.type == "cuda":
        return _GpuMeter(device)
    if device.type == "cpu" and None not in (available_memory(), process_memory()):
        return _HostMeter()
    return None


class _GpuMeter:
    """Memory of a GPU, as counted by torch's allocator."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._start = torch.cuda.memory_allocated(device)

    def free(self) -> int:
        cached = torch.cuda.memory_reserved(self._device) - self._start  # the allocator reuses these blocks
        return torch.cuda.mem_get_info(self._device)[0] + cached

    def peak(self, work: Callable[[], object]) -> int:
        torch.cuda.reset_peak_memory_stats(self._device)
        work()
        torch.cuda.synchronize(self._device)
        return torch.cuda.max_memory_allocated(self._device) - self._start


class _HostMeter:
    """Resident memory of this process, polled every millisecond by a thread."""

    def __init__(self) -> None:
        self._start = process_memory() or 0

    def free(self) -> int:
        return available_memory() or 0

    def peak(self, work: Callable[[], object]) -> int:
        peak = 0
        finished = threading.Event()

        def poll() -> None:
            nonlocal peak
            while not finished.wait(0.001):
                peak = max(peak, process_memory() or 0)

        thread = threading.Thread(target=poll, daemon=True)
        thread.start()
        try:
            work()
        finally:
            finished.set()
            thread.join()
        return max(peak, process_memory() or 0) - self._start
