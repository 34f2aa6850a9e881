"""`autotune=True`: measure the fastest compute configuration once per machine and kind of network.

Results are kept in the user's cache folder. A measurement takes some seconds and at most `_BUDGET` plus the step in
progress. A setting is adopted only if it is at least 5 % faster, so that noise does not decide.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import torch

from yolopose.base.cpu import available_cpus, cpu_name, physical_cores
from yolopose.base.errors import OutputError
from yolopose.base.files import write_text
from yolopose.base.log import LOGGER
from yolopose.base.settings import cache_dir
from yolopose.config import TrainSettings
from yolopose.nn import PoseModel
from yolopose.train.compute_config import ComputeConfig, default_config
from yolopose.train.data import TrainData
from yolopose.train.feed.loader import TrainBatches, make_batch
from yolopose.train.precision import Precision

_FORMAT = 2  # of the cache files
_BUDGET = 20.0  # seconds after which no further setting is tried
_MIN_SPEEDUP = 1.05
_PIXELS = 4 * 320 * 320  # of all images of a timed step
_MAX_STEP_SECONDS = 1.0  # smaller images are timed where a step takes longer
_TIMED_SAMPLES = 6
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True, slots=True)
class Tunable:
    """Parts of the configuration that the user has not chosen, so that a measurement may.

    Attributes:
        threads: number of torch's threads.
        amp: 16-bit precision.
        channels_last: memory format.
        workers: number of processes that make samples.
    """

    threads: bool
    amp: bool
    channels_last: bool
    workers: bool

    @classmethod
    def from_settings(cls, settings: TrainSettings) -> Tunable:
        """Read them from settings, environment and torch's state."""
        return cls(not _threads_given(), settings.amp is True, settings.channels_last is None, settings.workers is None)

    def __bool__(self) -> bool:
        return self.threads or self.amp or self.channels_last or self.workers


def autotune(network: PoseModel, data: TrainData, settings: TrainSettings, device: torch.device) -> ComputeConfig:
    """Return the fastest configuration for a new run, measured or from the cache.

    Only the CPU is measured, and not with `compile`: on a GPU `deterministic=False` lets cuDNN select its kernels.

    Args:
        network: it is copied.
        data: training data.
        settings: of the run.
        device: where to compute.
    """
    default = default_config(settings, device)
    tunable = Tunable.from_settings(settings)
    if settings.compile or device.type != "cpu" or not tunable:
        return default
    key = _cache_key(network, settings, default, tunable)
    path = cache_dir() / "autotune" / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.json"
    cached = load_cached(path, key)
    if cached is not None:
        return replace(cached, origin="autotune, measured before on this machine")
    start = time.perf_counter()
    timer = StepTimer(network, settings)
    config, rate = search(default, tunable, timer.rate)
    if tunable.workers:
        workers = workers_needed(sample_seconds(data, settings), 1 / rate, default.workers)
        config = replace(config, workers=workers)
    store(path, key, config)
    return replace(config, origin=f"autotune, measured in {time.perf_counter() - start:.0f} s")


def search(
    default: ComputeConfig, tunable: Tunable, rate: Callable[[ComputeConfig], float]
) -> tuple[ComputeConfig, float]:
    """Search greedily: change one setting after the other and keep each change that is faster.

    Args:
        default: where the search starts.
        tunable: what may be changed.
        rate: images per second of a configuration; 0 if the budget is spent.

    Returns:
        The fastest configuration and its rate.
    """
    best = default
    best_rate = rate(default)

    def attempt(**change: Any) -> None:
        nonlocal best, best_rate
        candidate = replace(best, **change)
        candidate_rate = rate(candidate) if candidate != best else 0.0
        if candidate_rate > _MIN_SPEEDUP * best_rate:
            best = candidate
            best_rate = candidate_rate

    if tunable.amp:
        attempt(amp="fp32" if default.amp == "bf16" else "bf16")
    if tunable.channels_last:
        attempt(channels_last=not default.channels_last)
    if tunable.threads:
        for threads in _fewer_threads(default.threads):
            attempt(threads=threads)
    return best, best_rate


def workers_needed(sample: float, image: float, limit: int) -> int:
    """Return the number of processes that keep up with the network.

    Args:
        sample: seconds that one process takes per sample.
        image: seconds that the network takes per image.
        limit: largest number.
    """
    return min(limit, max(1, math.ceil(1.25 * sample / max(image, 1e-9))))


def load_cached(path: Path, key: str) -> ComputeConfig | None:
    """Read a configuration from the cache; None where the file is missing, damaged or for another key."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(content, dict) or content.get("format") != _FORMAT or content.get("key") != key:
        return None
    config = ComputeConfig.from_state(content.get("config"), "")
    return config if config is not None and max(config.threads, config.workers) <= available_cpus() else None


def store(path: Path, key: str, config: ComputeConfig) -> None:
    """Write a configuration into the cache; a failure is logged, and the next run measures again."""
    try:
        write_text(path, json.dumps({"format": _FORMAT, "key": key, "config": config.state_dict()}, indent=1))
    except OutputError as error:
        LOGGER.warning(f"The autotune result cannot be kept for later runs. {error}")


class StepTimer:
    """Time training steps of a copy of a network on random images, within a total budget.

    Args:
        network: it is copied.
        settings: of the run; input size and batch are read.
    """

    def __init__(self, network: PoseModel, settings: TrainSettings) -> None:
        self._network = copy.deepcopy(network).train().requires_grad_(True)
        self._stride = max(network.stride)
        self._side = settings.imgsz
        max_images = int(settings.batch) if settings.batch >= 1 else 16
        self._images = min(max(round(_PIXELS / self._side**2), 1), max_images)
        self._end = time.perf_counter() + _BUDGET
        self._fastest = 0.0  # seconds of the fastest step so far; 0 before the first

    def rate(self, config: ComputeConfig) -> float:
        """Return images per second; 0 when the budget is spent or the configuration is far slower."""
        if self._fastest and time.perf_counter() > self._end:
            return 0.0
        with config.apply():
            if not self._fastest:
                self._fastest = self._shrink(config)
            warmup = self._step_seconds(config)
            if warmup > 3 * self._fastest:  # bfloat16 without instructions for it is ten times slower
                return 0.0
            seconds = min(warmup, *(self._step_seconds(config) for _ in range(3)))
        self._fastest = min(self._fastest, seconds)
        return self._images / seconds

    def _shrink(self, config: ComputeConfig) -> float:
        """Halve the images until a step is short enough; return its seconds."""
        while True:
            seconds = self._step_seconds(config)
            half = self._side // 2 // self._stride * self._stride
            if seconds <= _MAX_STEP_SECONDS or half < 2 * self._stride:
                return seconds
            self._side = half

    def _step_seconds(self, config: ComputeConfig) -> float:
        layout = torch.channels_last if config.channels_last else torch.contiguous_format
        network = self._network.to(memory_format=layout)  # pyright: ignore[reportCallIssue]  # the stub lacks it
        generator = torch.Generator().manual_seed(0)  # the run's global generator must not advance
        shape = (self._images, self._network.spec.channels, self._side, self._side)
        images = torch.rand(shape, generator=generator).contiguous(memory_format=layout)
        precision = Precision(config.amp, torch.device("cpu"))
        start = time.perf_counter()
        with precision.autocast():
            output = network.outputs(images)
        (output.boxes.float().mean() + output.scores.float().mean() + output.kpts.float().mean()).backward()
        seconds = time.perf_counter() - start
        network.zero_grad()
        return seconds


def sample_seconds(data: TrainData, settings: TrainSettings) -> float:
    """Return the seconds that one thread takes per sample, including reading the image files."""
    count = min(_TIMED_SAMPLES, len(data.train))
    batches = TrainBatches(data.train, data.spec, replace(settings, cache=False), imgsz=settings.imgsz, batch=count)
    previous = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        start = time.perf_counter()
        batch = make_batch(batches.builder, batches.batch_specs(0, multi_image=True)[0])
        return (time.perf_counter() - start) / len(batch)
    finally:
        batches.close()
        cv2.setNumThreads(previous)


def _cache_key(network: PoseModel, settings: TrainSettings, default: ComputeConfig, tunable: Tunable) -> str:
    """Return everything that the fastest configuration depends on, as text."""
    parts = (
        cpu_name(), physical_cores(), available_cpus(), torch.__version__, network.name, json.dumps(network.yaml),
        network.spec.nc, network.spec.keypoints.shape, network.spec.channels, settings.imgsz, min(settings.batch, 16),
        default.state_dict(), tunable,
    )  # fmt: skip
    return " | ".join(map(str, parts))


def _fewer_threads(threads: int) -> Iterable[int]:
    """Return thread counts to try besides all: one core free, and half."""
    return sorted({threads - 1, threads // 2} - {0}, reverse=True)


def _threads_given() -> bool:
    """Return whether the user has set torch's threads, by the environment or in the program."""
    defaults = {physical_cores(), available_cpus(), os.cpu_count() or 1}
    return any(os.environ.get(name) for name in _THREAD_VARIABLES) or torch.get_num_threads() not in defaults
