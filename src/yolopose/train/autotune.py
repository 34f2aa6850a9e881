"""Measuring the fastest plan: a few steps in each way, once for each machine and kind of network.

What is found is kept in the user's cache folder. A measurement takes some seconds and never more than `_BUDGET` and the
step it is at; a way that takes the lead must be a good deal faster, so that chance does not decide.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from yolopose.base.cpu import available_cpus, cpu_name, physical_cores
from yolopose.base.errors import OutputError
from yolopose.base.files import write_text
from yolopose.base.log import LOGGER
from yolopose.base.settings import cache_dir
from yolopose.config import TrainOptions
from yolopose.nn import PoseModel
from yolopose.train.compute_config import ComputeConfig, default_config, workers_given
from yolopose.train.data import TrainData
from yolopose.train.feed.loader import TrainBatches, make_batch
from yolopose.train.precision import Precision

_FORMAT = 1  # of the files in the cache
_BUDGET = 20.0  # seconds after which no further way is tried
_LEAD = 1.05  # a way must be that much faster to be taken
_PIXELS = 4 * 320 * 320  # of the images of a step that is timed
_LONG = 1.0  # seconds; where a step takes longer, smaller images are timed
_SAMPLES = 6  # that are timed
_THREAD_WISHES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True, slots=True)
class Tunable:
    """What the options leave open, and a measurement may thus choose.

    Attributes:
        threads: whether the caller has not chosen a number.
        amp: whether 16 bits may be taken.
        channels_last: whether the memory format may.
        workers: whether the number of processes may.
    """

    threads: bool
    amp: bool
    channels_last: bool
    workers: bool

    @classmethod
    def by(cls, options: TrainOptions) -> Tunable:
        """Return from the options and the state of torch."""
        return cls(not _threads_given(), options.amp is True, options.channels_last is None, not workers_given(options))


def autotune(network: PoseModel, data: TrainData, options: TrainOptions, device: torch.device) -> ComputeConfig:
    """Make the plan of a new run; measured where the options allow it, and only once.

    Measured is on the CPU, with `deterministic=False` and without `compile`: on a GPU cuDNN tries its kernels itself.

    Args:
        network: it is copied.
        data: what is trained on.
        options: settled options.
        device: where to compute.
    """
    fixed, free = default_config(options, device), Tunable.by(options)
    anything = any((free.threads, free.amp, free.channels_last, free.workers))
    if options.deterministic or options.compile or device.type != "cpu" or not anything:
        return fixed
    about = _about(network, options, fixed, free)
    place = cache_dir() / "plans" / f"{hashlib.sha256(about.encode()).hexdigest()[:24]}.json"
    known = recall(place, about)
    if known is not None:
        return replace(known, origin="measured before on this machine")
    began = time.perf_counter()
    timer = StepTimer(network, options)
    plan, rate = fastest(fixed, free, timer.rate)
    if free.workers:
        plan = replace(plan, workers=workers_needed(sample_seconds(data, options), 1 / rate, fixed.workers))
    seconds = time.perf_counter() - began
    keep(place, about, plan)
    return replace(plan, origin=f"measured in {seconds:.0f} s; deterministic=True takes what is fixed")


def fastest(fixed: ComputeConfig, free: Tunable, rate: Callable[[ComputeConfig], float]) -> tuple[ComputeConfig, float]:
    """Choose the fastest plan: one thing after the other is changed, and kept where that leads.

    Args:
        fixed: where it starts from.
        free: what may be changed.
        rate: images a second of a plan; 0 where there is no time to find out.

    Returns:
        The plan, and its rate.
    """
    best, speed = fixed, rate(fixed)

    def attempt(**change: Any) -> None:
        nonlocal best, speed
        other = replace(best, **change)
        found = rate(other) if other != best else 0.0
        if found > _LEAD * speed:
            best, speed = other, found

    if free.amp:
        attempt(amp="fp32" if fixed.amp == "bf16" else "bf16")
    if free.channels_last:
        attempt(channels_last=not fixed.channels_last)
    if free.threads:
        for threads in _fewer(fixed.threads):
            attempt(threads=threads)
    return best, speed


def workers_needed(sample: float, image: float, most: int) -> int:
    """Return the processes that keep up with the network.

    Args:
        sample: seconds that one process takes for a sample.
        image: seconds that the network takes for an image.
        most: no more than these.
    """
    return min(most, max(1, int(np.ceil(1.25 * sample / max(image, 1e-9)))))


def recall(place: Path, about: str) -> ComputeConfig | None:
    """Read a plan from the cache; None where there is none, or it cannot be what was written."""
    try:
        held = json.loads(place.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # not there, or damaged: it is measured anew
        return None
    if not isinstance(held, dict) or held.get("format") != _FORMAT or held.get("about") != about:
        return None
    plan = ComputeConfig.from_state(held.get("plan"), "")
    return plan if plan is not None and max(plan.threads, plan.workers) <= available_cpus() else None


def keep(place: Path, about: str, plan: ComputeConfig) -> None:
    """Write a plan into the cache; where that cannot be done, it is measured again another time."""
    try:
        write_text(place, json.dumps({"format": _FORMAT, "about": about, "plan": plan.state_dict()}, indent=1))
    except OutputError as error:
        LOGGER.warning(f"The measured plan is not kept for later runs. {error}")


class StepTimer:
    """Times steps of a copy of a network on made-up images, until its time is over.

    Args:
        network: it is copied.
        options: settled options; of them the input size and the batch are taken.
    """

    def __init__(self, network: PoseModel, options: TrainOptions) -> None:
        self._network = copy.deepcopy(network).train().requires_grad_(True)
        self._stride = max(network.stride)
        side = options.imgsz if isinstance(options.imgsz, int) else max(options.imgsz)
        most = int(options.batch) if options.batch >= 1 else 16
        self._side, self._count = side, min(max(round(_PIXELS / side**2), 1), most)
        self._end = time.perf_counter() + _BUDGET
        self._best = 0.0  # seconds of the fastest step so far; 0 before the first

    def rate(self, plan: ComputeConfig) -> float:
        """Return images a second, 0 where the time is over or the plan is far behind."""
        if self._best and time.perf_counter() > self._end:
            return 0.0
        with plan.apply():
            if not self._best:
                self._best = self._shrunk(plan)
            warm = self._seconds(plan)
            if warm > 3 * self._best:  # 16 bits without instructions for them take ten times as long
                return 0.0
            found = min(warm, *(self._seconds(plan) for _ in range(3)))
        self._best = min(self._best, found)
        return self._count / found

    def _shrunk(self, plan: ComputeConfig) -> float:
        """Seconds of a first step; with smaller images where it takes too long."""
        while True:
            seconds = self._seconds(plan)
            smaller = self._side // 2 // self._stride * self._stride
            if seconds <= _LONG or smaller < 2 * self._stride:
                return seconds
            self._side = smaller

    def _seconds(self, plan: ComputeConfig) -> float:
        order = torch.channels_last if plan.channels_last else torch.contiguous_format
        network = self._network.to(memory_format=order)  # pyright: ignore[reportCallIssue]  # the stub lacks it
        noise = torch.Generator().manual_seed(0)  # the global one is left to the run
        images = torch.rand((self._count, 3, self._side, self._side), generator=noise).contiguous(memory_format=order)
        precision = Precision(plan.amp, torch.device("cpu"))
        start = time.perf_counter()
        with precision.forward():
            output = network.outputs(images)
        (output.boxes.float().mean() + output.scores.float().mean() + output.kpts.float().mean()).backward()
        seconds = time.perf_counter() - start
        network.zero_grad()
        return seconds


def sample_seconds(data: TrainData, options: TrainOptions) -> float:
    """Return the seconds that one thread takes for a sample, its images read from their files."""
    side = options.imgsz if isinstance(options.imgsz, int) else max(options.imgsz)
    count = min(_SAMPLES, len(data.train))
    batches = TrainBatches(data.train, data.spec, replace(options, cache=False), imgsz=side, batch=count)
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        start = time.perf_counter()
        made = make_batch(batches.builder, batches.batch_specs(0, mosaic=options.mosaic > 0)[0])
        return (time.perf_counter() - start) / len(made)
    finally:
        cv2.setNumThreads(before)


def _about(network: PoseModel, options: TrainOptions, fixed: ComputeConfig, free: Tunable) -> str:
    """All that the fastest plan depends on, in words."""
    parts = (
        cpu_name(), physical_cores(), available_cpus(), torch.__version__, network.name, json.dumps(network.yaml),
        network.spec.nc, network.spec.keypoints.shape, options.imgsz, min(options.batch, 16), fixed.state_dict(), free,
    )  # fmt: skip
    return " | ".join(map(str, parts))


def _fewer(threads: int) -> Iterable[int]:
    """Numbers of threads to try beside all: one core left free, and half."""
    return sorted({threads - 1, threads // 2} - {0}, reverse=True)


def _threads_given() -> bool:
    """Whether somebody has chosen torch's threads: by the environment, or in the program."""
    cores = {physical_cores(), available_cpus(), os.cpu_count() or 1}
    return any(os.environ.get(name) for name in _THREAD_WISHES) or torch.get_num_threads() not in cores
