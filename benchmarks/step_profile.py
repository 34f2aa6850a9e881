"""Where the time of a training step and of a sample goes: prints tables of parts, milliseconds and shares.

    python benchmarks/step_profile.py --data mouse.yaml [--model yolo11n-pose.yaml] [--imgsz 640] [--batch 8]

The real loop is timed, in the second epoch of a short training (a CUDA device is waited for around each part, so the
sum is longer there than without); then the samples of an epoch, made one after the other by one thread; then the
network's kernels, as torch's own profiler counts them.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import cv2
import torch

from yolopose import YOLO
from yolopose.config import TrainOptions
from yolopose.criterion import base as criterion_module
from yolopose.criterion import losses as losses_module
from yolopose.train import Trainer, ema, nan_guard, precision, state
from yolopose.train.feed import image_cache, loader, operations, render, sampling
from yolopose.train.record import EpochLine

STEP: tuple[tuple[Any, str, str], ...] = (
    (state.TrainState, "_preprocess", "bytes to numbers of 0…1 on the device"),
    (criterion_module, "assign", "loss: assignment"),
    (losses_module.PoseCriterion, "_decode_sides", "loss: boxes of all anchors"),
    (losses_module.PoseCriterion, "_box_rows", "loss: boxes and distributions"),
    (criterion_module, "keypoint_loss", "loss: keypoints"),
    (criterion_module, "visibility_loss", "loss: visibility"),
    (criterion_module, "soft_targets", "loss: class targets"),
    (criterion_module.Criterion, "__call__", "loss: the rest"),
    (precision.Precision, "backward", "backward"),
    (precision, "clip_gradients", "norm of the gradients"),
    (precision.Precision, "step", "optimizer"),
    (ema.EMA, "update", "average"),
    (nan_guard.NanGuard, "record", "non-finite check"),
    (EpochLine, "update", "progress line"),
)
SAMPLE: tuple[tuple[Any, str, str], ...] = (
    (image_cache, "decode", "decode"),
    (sampling.SampleBuilder, "sample_params", "random parameters"),
    (sampling, "place_labels", "labels"),
    (sampling, "transform_labels", "labels"),
    (render, "_prefilter", "prefilter"),
    (render, "_warp", "warp"),
    (render, "_mask", "masks of rotated tiles"),
    (sampling, "cut_patch", "render: visible parts"),
    (sampling, "blit", "render: the rest"),
    (operations.HSV, "apply", "HSV"),
    (sampling.SampleBuilder, "render", "sample: the rest"),
    (loader, "make_batch", "collate"),
)


class Clock:
    """Seconds of wrapped functions by label, each without those that it calls."""

    def __init__(self, wait: Callable[[], object], now: Callable[[], float] = time.perf_counter) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._wait, self._now, self._open = wait, now, [0.0]

    @contextmanager
    def watching(self, parts: tuple[tuple[Any, str, str], ...]) -> Iterator[None]:
        honest = [(place, name, getattr(place, name)) for place, name, _ in parts]
        for (place, name, function), (_, _, label) in zip(honest, parts, strict=True):
            setattr(place, name, self.timed(function, label))
        try:
            yield
        finally:
            for place, name, function in honest:
                setattr(place, name, function)

    def timed(self, function: Callable[..., Any], label: str) -> Callable[..., Any]:
        def call(*args: Any, **named: Any) -> Any:
            self._wait()
            start = self._now()
            self._open.append(0.0)
            try:
                return function(*args, **named)
            finally:
                self._wait()
                whole = self._now() - start
                self.seconds[label] += whole - self._open.pop()
                self._open[-1] += whole

        return call

    def table(self, title: str, whole: float, count: int) -> None:
        rest = whole - sum(self.seconds.values())
        rows = sorted({**self.seconds, "all else": rest}.items(), key=lambda row: -row[1])
        print(f"\n| {title} | ms | share |\n|---|---|---|")
        for label, seconds in [*rows, ("together", whole)]:
            print(f"| {label} | {1000 * seconds / count:.2f} | {seconds / whole:.1%} |")


def profile_step(given: argparse.Namespace, options: dict[str, Any]) -> Trainer:
    """The second epoch of a training, part by part."""
    clock = Clock(_wait)
    model, watch, begun = YOLO(given.model), clock.watching(STEP), [0.0, 0.0]
    honest = loader.TrainBatches.epoch

    def epoch(self: Any, *args: Any, **named: Any) -> Iterator[Any]:
        made = iter(honest(self, *args, **named))
        following = clock.timed(lambda: next(made, None), "waiting for samples")
        while (batch := following()) is not None:
            yield batch

    def begin(trainer: Trainer) -> None:
        if trainer.epoch == 1:
            watch.__enter__()
            trainer._state._forward = clock.timed(trainer._state._forward, "forward")
            loader.TrainBatches.epoch = epoch
            begun[0] = time.perf_counter()

    def end(trainer: Trainer) -> None:
        if trainer.epoch == 1:
            _wait()
            begun[1] = time.perf_counter()
            watch.__exit__(None, None, None)
            loader.TrainBatches.epoch = honest

    model.add_callback("on_train_epoch_start", begin)
    model.add_callback("on_train_epoch_end", end)
    with tempfile.TemporaryDirectory() as folder:
        model.train(**options, epochs=2, val=False, plots=False, save=False, verbose=False, project=folder)
    trainer = model.trainer
    assert isinstance(trainer, Trainer)
    count = len(trainer._batches)
    clock.table(
        f"a step of {given.batch} images at {given.imgsz}, {trainer.compute_config}", begun[1] - begun[0], count
    )
    return trainer


def profile_sample(trainer: Trainer) -> None:
    """Two epochs of samples, with mosaic, in processor time of one thread that keeps what it decoded last."""
    clock = Clock(lambda: None, time.thread_time)
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    options = replace(trainer.args, cache=False)
    feed = loader.TrainBatches(
        trainer.data.train, trainer.data.spec, options, imgsz=_side(options), batch=trainer.batch_size
    )
    with clock.watching(SAMPLE):
        start = time.thread_time()
        for epoch in range(2):
            for spec in feed.batch_specs(epoch, multi_image=True):
                loader.make_batch(feed.builder, spec)
        whole = time.thread_time() - start
    cv2.setNumThreads(before)
    clock.table("a sample", whole, 2 * len(trainer.data.train))


def profile_kernels(trainer: Trainer, given: argparse.Namespace) -> None:
    """The network's kernels, forward and backward."""
    network, device = trainer.model.train(), trainer.device
    shape = (given.batch, 3, given.imgsz, given.imgsz)
    imgs = torch.rand(shape, device=device).contiguous(memory_format=torch.channels_last)

    def once() -> None:
        output = network.outputs(imgs)
        (output.boxes.sum() + output.scores.sum() + output.kpts.sum()).backward()
        network.zero_grad()

    with trainer.compute_config.apply():
        once()
        with torch.profiler.profile() as found:
            once()
    sort = "self_device_time_total" if device.type == "cuda" else "self_cpu_time_total"
    rows = sorted(found.key_averages(), key=lambda row: -getattr(row, sort))
    whole = sum(getattr(row, sort) for row in rows)
    print("\n| kernel of the bare network | calls | ms | share |\n|---|---|---|---|")
    for row in rows[:12]:
        spent = getattr(row, sort)
        print(f"| {row.key} | {row.count} | {spent / 1000:.1f} | {spent / whole:.1%} |")
    print(f"| together | | {whole / 1000:.1f} | |")


def _side(options: TrainOptions) -> int:
    return options.imgsz if isinstance(options.imgsz, int) else max(options.imgsz)


def _wait() -> None:
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--model", default="yolo11n-pose.yaml")
    parser.add_argument("--imgsz", type=int, default=640)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--device", default=None)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--fraction", type=float, default=1.0, help="share of the images, for a slow machine")
    parser.add_argument("--amp", default=None, help="fp32, bf16, fp16; chosen when left out")
    given = parser.parse_args()
    options: dict[str, Any] = {
        key: getattr(given, key) for key in ("data", "imgsz", "batch", "device", "workers", "fraction")
    }
    trainer = profile_step(given, options if given.amp is None else {**options, "amp": given.amp})
    profile_sample(trainer)
    profile_kernels(trainer, given)


if __name__ == "__main__":
    main()
