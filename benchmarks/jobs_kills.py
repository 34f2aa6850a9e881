"""Kill a job again and again, and compare its rows with those of a job that was left alone.

    python benchmarks/jobs_kills.py --model yolo11n-pose.onnx [--images 2000] [--kills 20] [--engine local|ray]
        [--imgsz 64] [--shard 50] [--seed 0] [--folder FOLDER]

Images are drawn figures of 96 pixels, one of them damaged. `yolo batch` computes them with two workers. At random times
a random one of its processes, workers and driver, is killed with SIGKILL; a killed driver is started again. At the end
every image must have exactly one row, and each file must equal, byte for byte, that of a job without kills.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np


def make_images(folder: Path, count: int) -> None:
    """Write figures on noise, and damage one file."""
    from yolopose.data.figures.sequences import FigureSequence

    folder.mkdir(parents=True)
    sequence = FigureSequence("crossing-2", 0)
    frames = [cv2.resize(sequence.render(number), (96, 72), interpolation=cv2.INTER_AREA) for number in range(1, 41)]
    random_numbers = np.random.default_rng(0)
    for number in range(count):
        image = np.roll(frames[number % len(frames)], number, axis=1)
        image = cv2.add(image, random_numbers.integers(0, 30, image.shape, dtype=np.uint8))
        cv2.imwrite(str(folder / f"image{number:06d}.jpg"), image)
    damaged = folder / f"image{count // 3:06d}.jpg"
    damaged.write_bytes(damaged.read_bytes()[:500])


def descendants(pid: int) -> list[int]:
    """Return the processes below a process."""
    pids: list[int] = []
    with suppress(OSError):
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            pids += [int(child), *descendants(int(child))]
    return pids


def is_worker(pid: int, engine: str) -> bool:
    """Return whether a process is one that computes shards."""
    with suppress(OSError):
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
        return b"ray::Actor" in command if engine == "ray" else b"yolopose.jobs.worker" in command
    return False


def count_done(output: Path) -> int:
    return len(list((output / "rows").glob("part-*.parquet"))) if (output / "rows").is_dir() else 0


def run_with_kills(command: list[str], output: Path, shards: int, kills: int, engine: str, seed: int) -> Counter[str]:
    """Run a job to its end; return how often workers and the driver were killed."""
    choice = random.Random(seed)  # noqa: S311
    counts: Counter[str] = Counter()
    points = sorted(choice.randrange(shards) for _ in range(kills))  # numbers of finished shards
    process = start(command)
    try:
        while True:
            wait = choice.uniform(0.05, 1.0)
            with suppress(subprocess.TimeoutExpired):
                if process.wait(wait) == 0:
                    return counts
            if process.returncode is not None:
                assert process.returncode == -signal.SIGKILL, f"the job ended with status {process.returncode}"
                process = start(command)
                continue
            if not points or count_done(output) < points[0]:
                continue
            workers = [pid for pid in descendants(process.pid) if is_worker(pid, engine)]
            if not workers:  # nothing is computed yet
                continue
            victim = choice.choice([process.pid, *workers])
            with suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)
                points.pop(0)
                counts["driver" if victim == process.pid else "worker"] += 1
                print(f"killed {'driver' if victim == process.pid else 'worker'} at {count_done(output)} shards")
    finally:
        if process.poll() is None:
            process.kill()


def start(command: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def compare(output: Path, reference: Path, images: Path) -> dict[str, Any]:
    """Check that each image has one row, and that all files are equal."""
    from yolopose.jobs import read_rows

    paths = Counter(row["path"] for row in read_rows(output))
    expected = {str(file.absolute()) for file in images.iterdir()}
    files = sorted(file.name for file in (reference / "rows").iterdir())
    left = [file.name for file in (output / "rows").iterdir() if file.name not in files]
    differing = [
        name for name in files if (output / "rows" / name).read_bytes() != (reference / "rows" / name).read_bytes()
    ]
    assert set(paths) == expected, "images without a row, or rows without an image"
    assert set(paths.values()) == {1}, "images with several rows"
    assert not differing, f"files that differ: {differing}"
    assert not left, f"files that were left: {left}"
    return {
        "images": len(expected),
        "files": len(files),
        "detections": sum(len(row["boxes"]) for row in read_rows(output) if row["error"] is None),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--engine", default="local", choices=("local", "ray"))
    parser.add_argument("--imgsz", type=int, default=64)
    parser.add_argument("--shard", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--conf", type=float, default=0.05)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="jobs-kills-"))
    images = folder / "images"
    if not images.is_dir():
        make_images(images, options.images)
    common = [
        sys.executable, "-m", "yolopose", "batch", f"model={options.model}", f"source={images}",
        f"imgsz={options.imgsz}", f"conf={options.conf}", f"shard={options.shard}",
    ]  # fmt: skip
    reference, output = folder / "unbroken", folder / f"killed-{options.engine}"
    subprocess.run([*common, f"output={reference}"], check=True, stdout=subprocess.DEVNULL)
    start_time = time.monotonic()
    command = [*common, f"output={output}", f"engine={options.engine}", "threads=1"]
    command += ["workers=2"] if options.engine == "local" else []
    counts = run_with_kills(command, output, count_done(reference), options.kills, options.engine, options.seed)
    figures = compare(output, reference, images)
    print(json.dumps({**figures, **counts, "seconds": round(time.monotonic() - start_time)}))


if __name__ == "__main__":
    main()
