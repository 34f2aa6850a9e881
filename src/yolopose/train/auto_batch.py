"""The batch that fits the memory: two steps are measured, and a line is drawn through them."""

from __future__ import annotations

import copy
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from yolopose.base.log import LOGGER
from yolopose.base.memory import available_memory
from yolopose.config import TrainOptions
from yolopose.nn import PoseModel
from yolopose.train.data import DEFAULT_BATCH, TrainData
from yolopose.train.feed import TrainBatch
from yolopose.train.process import empty_cache, is_out_of_memory
from yolopose.train.state import TrainState

SHARE = 0.6
"""Share of the free memory that `batch=-1` fills; loaders, validation and other programs need some as well."""

_PROBES = (2, 4)  # images of the two steps
_MOST = 1024
_STATM = Path("/proc/self/statm")
_GIB = 2**30


class Meter(Protocol):
    """Tells of the memory of a device."""

    def free(self) -> int:
        """Return bytes that can be had."""
        ...

    def peak(self, work: Callable[[], object]) -> int:
        """Return the most bytes held while work is done, beyond those held when the meter was made."""
        ...


def auto_batch_size(network: PoseModel, data: TrainData, options: TrainOptions, device: torch.device) -> int:
    """Measure how many images a step of a training may have, and says so.

    Args:
        network: it is copied.
        data: what is trained on.
        options: `batch` is -1, or the share of the free memory to fill, 0…1; `imgsz` is settled to one side.
        device: where to compute.

    Returns:
        A number of images from 1, no more than there are to train on.
    """
    wish, share = options.batch, options.batch if 0 < options.batch < 1 else SHARE
    meter = _meter(device)
    if meter is None:
        LOGGER.warning(f"batch={wish:g}: this system does not tell of its memory, so {DEFAULT_BATCH} is used.")
        return DEFAULT_BATCH
    free = meter.free()
    most = min(len(data.train), _MOST)
    try:
        peaks = _peaks(network, data, options, device, meter)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        peaks = None
    empty_cache(device)
    if peaks is None:
        LOGGER.warning(f"batch={wish:g}: {_PROBES[-1]} images at once are too many for {device}, so 1 is used.")
        return 1
    base, each = line(_PROBES, peaks)
    spread = 0.5 if options.multi_scale is True else float(options.multi_scale)
    each *= (1 + spread) ** 2  # the largest size that may be drawn
    found = most if each <= 0 else min(max(int((share * free - base) / each), 1), most)
    limit = f" (no more than {most})" if found == most else ""
    LOGGER.info(
        f"batch={wish:g}: of {free / _GIB:.1f} GiB free memory {share:.0%} shall be used; a step takes "
        f"{base / _GIB:.2f} GiB and {each / 2**20:.0f} MiB an image, so the batch is {found}{limit}."
    )
    return found


def line(counts: tuple[int, int], peaks: tuple[int, int]) -> tuple[float, float]:
    """Return the line through two measurements: bytes without any image, at least 0, and bytes an image."""
    each = (peaks[1] - peaks[0]) / (counts[1] - counts[0])
    return max(peaks[0] - each * counts[0], 0.0), each


def _peaks(
    network: PoseModel, data: TrainData, options: TrainOptions, device: torch.device, meter: Meter
) -> tuple[int, int]:
    """Bytes that a step with each of `_PROBES` images takes, optimizer and average counted."""
    options = replace(options, batch=_PROBES[-1], compile=False, multi_scale=0.0)
    learner = TrainState(copy.deepcopy(network), data, options, device, 1)
    learner.begin_epoch(0, 1)
    side = options.imgsz if isinstance(options.imgsz, int) else max(options.imgsz)

    def step(count: int) -> None:
        learner.precision.backward(learner.losses(_made_up(data, side, count), 0, 0).total)
        learner.step(0)

    step(_PROBES[0])  # kernels are chosen, and the optimizer's averages made, in a first step
    small, large = (meter.peak(lambda count=count: step(count)) for count in _PROBES)
    return small, large


def _made_up(data: TrainData, side: int, count: int) -> TrainBatch:
    """Noise, with as many objects as a mosaic of four of the data set's images has."""
    rng = np.random.default_rng(0)
    objects = count * max(round(4 * len(data.train.classes) / len(data.train)), 1)
    points = rng.uniform(0, 1, (objects, data.spec.keypoints.count, 3)).astype(np.float32)
    points[..., 2] = 2
    corner, size = rng.uniform(0.2, 0.8, (objects, 2)), rng.uniform(0.05, 0.3, (objects, 2))
    return TrainBatch(
        images=torch.from_numpy(rng.integers(0, 255, (count, 3, side, side), dtype=np.uint8)),
        batch_idx=torch.arange(objects) // (objects // count),
        classes=torch.zeros(objects, dtype=torch.int64),
        boxes=torch.from_numpy(np.concatenate((corner, size), 1).astype(np.float32)),
        keypoints=torch.from_numpy(points),
        index=torch.zeros(count, dtype=torch.int64),
    )


def _meter(device: torch.device) -> Meter | None:
    if device.type == "cuda":
        return _Gpu(device)
    if device.type == "cpu" and _STATM.is_file() and available_memory() is not None:
        return _Host()
    return None


class _Gpu:
    """The memory of a GPU, as torch counts it."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._start = torch.cuda.memory_allocated(device)

    def free(self) -> int:
        kept = torch.cuda.memory_reserved(self._device) - self._start  # torch gives it to whoever asks next
        return torch.cuda.mem_get_info(self._device)[0] + kept

    def peak(self, work: Callable[[], object]) -> int:
        torch.cuda.reset_peak_memory_stats(self._device)
        work()
        torch.cuda.synchronize(self._device)
        return torch.cuda.max_memory_allocated(self._device) - self._start


class _Host:
    """The memory of this process, looked at each millisecond by a thread."""

    def __init__(self) -> None:
        self._start = self._held()

    def free(self) -> int:
        return available_memory() or 0

    def peak(self, work: Callable[[], object]) -> int:
        most, done = [0], threading.Event()

        def watch() -> None:
            while not done.wait(0.001):
                most.append(max(most.pop(), self._held()))

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            work()
        finally:
            done.set()
            watcher.join()
        return max(most[0], self._held()) - self._start

    @staticmethod
    def _held() -> int:
        with suppress(OSError, IndexError, ValueError):
            return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        return 0
