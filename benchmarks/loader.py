"""Samples per second that one worker makes: from JPEG files and from memory, rendered by the worker or by a GPU.

    python benchmarks/loader.py --data coco-mini.yaml [--imgsz 640] [--batch 16] [--workers 8] [--epochs 2] [--parts]
        [--rows "JPEG, worker renders;JPEG, fast_decode, worker renders"]

Times are CPU time of one thread, so other processes hardly matter. `decoded` is how often an image file is decoded per
sample, the first epoch included, where `--workers` processes make the batches in turn (all in this process here), each
with a cache of its own or with one that they share. `--parts` prints where the time goes.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import torch

from yolopose.config import make_options
from yolopose.train.data import load_data
from yolopose.train.feed import TrainBatches, image_cache
from yolopose.train.feed.batch import make_batch, make_deferred_batch
from yolopose.train.feed.loader import min_decoded_side


@dataclass
class Row:
    """One way to make samples.

    Attributes:
        title: printed name.
        cache: option `cache`.
        make: makes a batch.
        mosaic: probability of mosaic.
        shared: whether the workers share decoded images.
        fast_decode: option of that name, which concerns large JPEGs.
    """

    title: str
    cache: bool | str
    make: Callable[..., Any]
    mosaic: float = 1.0
    shared: bool = True
    fast_decode: bool = False


ROWS = (
    Row("JPEG, GPU renders", False, make_deferred_batch),
    Row("JPEG, GPU renders, caches not shared", False, make_deferred_batch, shared=False),
    Row("memory, GPU renders", "ram", make_deferred_batch),
    Row("JPEG, worker renders", False, make_batch),
    Row("JPEG, fast_decode, worker renders", False, make_batch, fast_decode=True),
    Row("memory, worker renders", "ram", make_batch),
    Row("JPEG, no mosaic, GPU renders", False, make_deferred_batch, 0.0),
    Row("JPEG, no mosaic, worker renders", False, make_batch, 0.0),
)


def measure(row: Row, args: Any, profile: cProfile.Profile) -> tuple[float, float]:
    """Return CPU seconds per sample, and decoded files per sample."""
    options = make_options(
        "train",
        {
            "data": args.data, "imgsz": args.imgsz, "batch": args.batch, "cache": row.cache, "mosaic": row.mosaic,
            "fast_decode": row.fast_decode,
        },
    )  # fmt: skip
    data = load_data(options, 3)
    decoded: list[int] = []
    original = image_cache.decode

    def counted(table: Any, index: int, *options: Any) -> Any:
        decoded.append(index)
        return original(table, index, *options)

    batches = TrainBatches(data.train, data.spec, options, imgsz=args.imgsz, batch=args.batch, workers=0)
    image_cache.decode = counted
    sources: list[Any] = [batches.builder._images]
    if not row.cache:
        limit = int(args.limit * 2**20)
        caches = 1 if row.shared else args.workers
        workers = args.workers if row.shared else 0
        side = min_decoded_side(options, args.imgsz) if row.fast_decode else None
        sources = [
            image_cache.FileImages(data.train, limit=limit, workers=workers, min_side=side) for _ in range(caches)
        ]
    count = 0
    seconds = 0.0
    try:
        for epoch in range(args.epochs):
            for number, spec in enumerate(batches.batch_specs(epoch, row.mosaic > 0)):
                batches.builder._images = sources[number % len(sources)]
                start = time.thread_time()
                profile.enable()
                row.make(batches.builder, spec)
                profile.disable()
                seconds += time.thread_time() - start
                count += len(spec.index)
    finally:
        image_cache.decode = original
    return seconds / count, len(decoded) / count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--imgsz", type=int, default=640)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--limit", type=float, default=192, help="MiB of decoded images per worker")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--parts", action="store_true")
    parser.add_argument("--rows", default="", help="titles of rows, separated by semicolons; all by default")
    args: Any = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    print("| samples | ms of one core | samples/s | decoded |\n|---|---|---|---|")
    titles = args.rows.split(";") if args.rows else [row.title for row in ROWS]
    for row in [row for title in titles for row in ROWS if row.title == title]:
        profile = cProfile.Profile(time.thread_time, subcalls=args.parts, builtins=args.parts)
        seconds, decoded = measure(row, args, profile if args.parts else _NoProfile())
        print(f"| {row.title} | {1000 * seconds:.2f} | {1 / seconds:.0f} | {decoded:.2f} |", flush=True)
        if args.parts:
            with tempfile.TemporaryFile("w+") as text:
                pstats.Stats(profile, stream=text).sort_stats("tottime").print_stats(16)
                text.seek(0)
                print("".join(line for line in text if line.strip())[-3000:])


class _NoProfile(cProfile.Profile):
    def enable(self, *_: Any, **__: Any) -> None:
        """Measure nothing."""

    def disable(self) -> None:
        """Measure nothing."""


if __name__ == "__main__":
    main()
