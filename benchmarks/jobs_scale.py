"""Images per second of jobs with 1 and 2 workers, local and on Ray, against one process that predicts.

    python benchmarks/jobs_scale.py --model yolo11n-pose.onnx [--images FOLDER | --count 400] [--imgsz 640]
        [--rounds 3] [--workers 1,2] [--engines local,ray] [--folder FOLDER]

Every worker, and the process that is compared with, has one core (`OMP_NUM_THREADS=1`). `one process` predicts all
images with `YOLO.predict(stream=True)` and times the loop after the first 20. Of a job, the time between the first and
the last finished shard counts, and the images of the shards after the first: the steady rate of a long job, without the
start of processes and networks, whose seconds are printed beside it. The rounds alternate; the medians are compared.
Efficiency is the rate of n workers over n times that of one process. Run it on idle cores.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import cv2

ONE = """
import json, sys, time
from yolopose import YOLO
model, folder, imgsz = sys.argv[1:]
count, start = 0, 0.0
for result in YOLO(model).predict(folder, stream=True, imgsz=int(imgsz), verbose=False):
    count += 1
    if count == 20:
        start = time.perf_counter()
print(json.dumps((count - 20) / (time.perf_counter() - start)))
"""


def make_images(folder: Path, count: int) -> None:
    """Write frames of drawn figures of 640 pixels as JPEG."""
    from yolopose.data.figures.sequences import FigureSequence

    folder.mkdir(parents=True)
    sequence = FigureSequence("crossing-2", 0)
    frames = [cv2.resize(sequence.render(number), (640, 480)) for number in range(1, 41)]
    for number in range(count):
        cv2.imwrite(str(folder / f"image{number:06d}.jpg"), frames[number % len(frames)])


def one_process(model: str, images: Path, imgsz: int) -> float:
    """Return images per second of one process with one core."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", ONE, model, str(images), str(imgsz)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout.splitlines()[-1]))


def job(
    model: str, images: Path, output: Path, imgsz: int, engine: str, workers: int, shard: int
) -> tuple[float, float]:
    """Return (images per second, seconds until the first shard was finished) of a job."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(workers)}  # cores of the cluster that engine=ray starts
    command = [
        sys.executable, "-m", "yolopose", "batch", f"model={model}", f"source={images}", f"output={output}",
        f"imgsz={imgsz}", f"engine={engine}", f"workers={workers}", "threads=1", f"shard={shard}",
    ]  # fmt: skip
    start = time.time()
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    times = sorted(file.stat().st_mtime for file in (output / "rows").iterdir())
    # the first shard of each worker contains its start
    rate = shard * (len(times) - workers) / (times[-1] - times[workers - 1])
    return rate, times[0] - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--images", type=Path)
    parser.add_argument("--count", type=int, default=400)
    parser.add_argument("--imgsz", type=int, default=640)
    parser.add_argument("--shard", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", default="1,2")
    parser.add_argument("--engines", default="local,ray")
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    folder = (options.folder or Path(tempfile.mkdtemp(prefix="jobs-scale-"))).absolute()
    images = options.images or folder / "images"
    if not images.is_dir():
        make_images(images, options.count)
    model = str(Path(options.model).absolute())
    rates: dict[tuple[str, int], list[float]] = defaultdict(list)
    starts: dict[tuple[str, int], list[float]] = defaultdict(list)
    for number in range(options.rounds):
        rates["one process", 1].append(one_process(model, images, options.imgsz))
        for engine in options.engines.split(","):
            for workers in map(int, options.workers.split(",")):
                output = folder / f"job-{number}-{engine}-{workers}"
                rate, start = job(model, images, output, options.imgsz, engine, workers, options.shard)
                rates[engine, workers].append(rate)
                starts[engine, workers].append(start)
    single = statistics.median(rates["one process", 1])
    print("| engine | workers | images/s (least … most) | efficiency | first shard after, s |\n|---|---|---|---|---|")
    for (engine, workers), values in rates.items():
        rate = statistics.median(values)
        first = f"{statistics.median(starts[engine, workers]):.1f}" if (engine, workers) in starts else "–"
        spread = f"{rate:.1f} ({min(values):.1f} … {max(values):.1f})"
        print(f"| {engine} | {workers} | {spread} | {rate / single / workers:.0%} | {first} |")


if __name__ == "__main__":
    main()
