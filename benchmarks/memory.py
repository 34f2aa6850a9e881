"""Memory of a long run: prints what the process holds while frames or epochs go by.

    python benchmarks/memory.py --model yolo11n-pose.pt --source VIDEO [VIDEO …] --frames 20000 [--imgsz 64]
    python benchmarks/memory.py --model yolo11n-pose.yaml --data mouse.yaml --epochs 30 [--imgsz 64] [--batch 8]

The videos are given over and over until there are enough frames. Small inputs let much pass in little time; what is
held for each frame or batch does not depend on their size.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
from pathlib import Path

from yolopose import YOLO


def resident() -> float:
    """MB of memory that the process has in use."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


def train(given: argparse.Namespace) -> None:
    """Print what the process holds after each epoch, validation included."""
    model = YOLO(given.model)
    model.add_callback(
        "on_fit_epoch_end", lambda trainer: print(f"{trainer.epoch + 1:6d} epochs: {resident():.0f} MB", flush=True)
    )
    with tempfile.TemporaryDirectory() as folder:
        model.train(
            data=given.data, epochs=given.epochs, imgsz=given.imgsz, batch=given.batch, plots=False, verbose=False,
            project=folder, workers=0,
        )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--source", nargs="+")
    what.add_argument("--data")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--frames", type=int, default=20_000)
    parser.add_argument("--imgsz", type=int, default=64)
    given = parser.parse_args()
    if given.data:
        train(given)
        return
    many = list(itertools.islice(itertools.cycle(given.source), given.frames))  # more than are looked at
    with tempfile.TemporaryDirectory() as folder:
        results = YOLO(given.model).predict(
            many, stream=True, verbose=False, imgsz=given.imgsz, save_jsonl=True, project=folder
        )
        for number, _ in enumerate(itertools.islice(results, given.frames), start=1):
            if number in (1, 100, 1000) or number % 2000 == 0:
                print(f"{number:6d} frames: {resident():.0f} MB", flush=True)


if __name__ == "__main__":
    main()
