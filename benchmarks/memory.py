"""Memory of a long run: prints what the process holds while frames go by.

    python benchmarks/memory.py --model yolo11n-pose.pt --source VIDEO [VIDEO …] --frames 20000 [--imgsz 64]

The videos are given over and over until there are enough frames. Small inputs let many frames pass in little time; what
is held for each frame does not depend on their size.
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--source", required=True, nargs="+")
    parser.add_argument("--frames", type=int, default=20_000)
    parser.add_argument("--imgsz", type=int, default=64)
    given = parser.parse_args()
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
