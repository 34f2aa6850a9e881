"""What choices of training (optimizer, rate, assigner …) learn from the same data, beside the first of them.

    python benchmarks/variants.py --data data.yaml --model yolo11n-pose.pt --log FILE --seeds 0 1 2 \\
        --each "optimizer=AdamW" "optimizer=SGD" "optimizer=MuSGD" "assigner=oks" -- epochs=20 imgsz=320

Each run is a process of its own; the numbers are those which `train` returns (of best.pt). `--jobs` makes several at
a time, each with its share of the processors. They are added to FILE (JSON Lines) as they come, seed by seed, and
runs found there are not made again. The table gives mean and spread of a choice over the seeds that all of them have,
its mean difference to the first choice (paired by seed) with the 95 % interval, and seconds a run.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from threading import Lock

import numpy as np
from accuracy import MEASURES, interval, value

_PROGRAM = """
import json, os, sys
cores, model, data, options, folder, target = sys.argv[1:]
os.sched_setaffinity(0, json.loads(cores))  # before torch counts them
from yolopose import YOLO
metrics = YOLO(model).train(data=data, project=folder, plots=False, verbose=False, **json.loads(options))
json.dump({"box": metrics.box.map, "pose": metrics.pose.map}, open(target, "w"))
"""


def run(given: argparse.Namespace, choice: str, seed: int, cores: list[int]) -> dict[str, float]:
    options = {**given.options, **dict(value(word) for word in choice.split()), "seed": seed}
    with tempfile.TemporaryDirectory() as place:
        target = Path(place) / "metrics.json"
        texts = [json.dumps(cores), given.model, given.data, json.dumps(options), place, str(target)]
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", _PROGRAM, *texts], check=True, stdout=subprocess.DEVNULL)
        return {**json.loads(target.read_text()), "seconds": round(time.perf_counter() - start, 1)}


def report(found: dict[tuple[str, int], dict[str, float]], choices: list[str], seeds: list[int]) -> None:
    seeds = [seed for seed in seeds if all((choice, seed) in found for choice in choices)]
    print(f"seeds {seeds}")
    for measure in MEASURES:
        first = np.array([found[choices[0], seed][measure] for seed in seeds])
        for choice in choices:
            values = np.array([found[choice, seed][measure] for seed in seeds])
            line = f"{measure:5} {choice:32} {values.mean():.3f}"
            if len(seeds) > 1:
                mean, low, high = interval(values - first)
                line += f" (spread {values.std(ddof=1):.3f})  {mean:+.3f} ({low:+.3f} … {high:+.3f})"
            seconds = np.median([found[choice, seed]["seconds"] for seed in seeds])
            print(f"{line}  {seconds:.0f} s   " + " ".join(f"{one:.3f}" for one in values))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("data", "model", "log"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--each", nargs="+", required=True, help="the choices: options of one, parted by spaces")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("options", nargs="*", help="options of all runs: key=value")
    given = parser.parse_args()
    given.options = dict(value(text) for text in given.options)
    log = Path(given.log)
    lines = [json.loads(line) for line in log.read_text().splitlines()] if log.is_file() else []
    found = {(line["choice"], line["seed"]): line for line in lines}
    writing, free = Lock(), SimpleQueue()
    available_cpus = sorted(os.sched_getaffinity(0))
    for job in range(given.jobs):
        free.put(available_cpus[job :: given.jobs] or available_cpus)

    def make(choice: str, seed: int) -> None:
        cores = free.get()
        try:
            line = {"choice": choice, "seed": seed, **run(given, choice, seed, cores)}
        finally:
            free.put(cores)
        with writing, log.open("a") as file:
            found[choice, seed] = line
            file.write(json.dumps(line) + "\n")
            print(line, flush=True)

    with ThreadPoolExecutor(given.jobs) as pool:
        wanted = [(choice, seed) for seed in given.seeds for choice in given.each if (choice, seed) not in found]
        for _ in pool.map(lambda one: make(*one), wanted):
            pass
    report(found, given.each, given.seeds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
