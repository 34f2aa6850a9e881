"""What both packages learn from the same data with the same options, seed by seed; the difference with its interval.

    python benchmarks/accuracy.py --reference PYTHON --data data.yaml --model yolo11n-pose.pt --log FILE \\
        --seeds 0 1 2 3 4 -- epochs=10 imgsz=320 lr0=2e-4

Each run is a process of its own; the numbers are those which `train` returns: of best.pt, by the package's own
validation. They are added to FILE (JSON Lines) as they come, and runs found there are not made again; `--jobs` makes
several at a time. Ends with status 1 where the lower end of the 95 % interval of the mean difference (Student's t,
paired by seed) is below -0.02.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock

import numpy as np

MEASURES = ("box", "pose")
ALLOWED = -0.02
_T = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262, 11: 2.228, 12: 2.201}
_T |= {13: 2.179, 14: 2.160, 15: 2.145, 16: 2.131, 17: 2.120, 18: 2.110, 19: 2.101, 20: 2.093}  # 97.5 %, by runs

_PROGRAM = """
import importlib, json, sys
package, model, data, options, folder, target = sys.argv[1:]
options = {**json.loads(options), "data": data, "project": folder, "plots": False, "verbose": False}
metrics = importlib.import_module(package).YOLO(model).train(**options)
json.dump({"box": metrics.box.map, "pose": metrics.pose.map}, open(target, "w"))
"""


def run(python: str, package: str, given: argparse.Namespace, seed: int) -> dict[str, float]:
    options = json.dumps({**given.options, "seed": seed})
    with tempfile.TemporaryDirectory() as place:
        target = Path(place) / "metrics.json"
        command = [python, "-c", _PROGRAM, package, given.model, given.data, options, place, str(target)]
        start = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return {**json.loads(target.read_text()), "seconds": round(time.perf_counter() - start, 1)}


def interval(differences: np.ndarray) -> tuple[float, float, float]:
    """Mean of paired differences, and the ends of its 95 % interval."""
    mean, count = float(differences.mean()), len(differences)
    half = _T[count] * float(differences.std(ddof=1)) / count**0.5
    return mean, mean - half, mean + half


def report(found: dict[tuple[str, int], dict[str, float]], seeds: list[int]) -> bool:
    """Print the table; whether no measure may be worse by more than what is allowed."""
    fine = True
    for measure in MEASURES:
        ours, theirs = (np.array([found[side, seed][measure] for seed in seeds]) for side in ("ours", "reference"))
        mean, low, high = interval(ours - theirs)
        fine &= low >= ALLOWED
        for name, values in (("ours", ours), ("reference", theirs)):
            print(f"{measure:5} {name:9} {values.mean():.4f}   " + " ".join(f"{value:.4f}" for value in values))
        print(f"{measure:5} difference {mean:+.4f}  95 % interval {low:+.4f} … {high:+.4f}")
    return fine


def value(text: str) -> tuple[str, object]:
    key, _, word = text.partition("=")
    try:
        return key, json.loads(word)
    except ValueError:
        return key, word


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("reference", "data", "model", "log"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("options", nargs="*", help="options of both trainings: key=value")
    given = parser.parse_args()
    given.options = dict(value(text) for text in given.options)
    log = Path(given.log)
    lines = [json.loads(line) for line in log.read_text().splitlines()] if log.is_file() else []
    found = {(line["side"], line["seed"]): line for line in lines}
    sides = (("ours", sys.executable, "yolopose"), ("reference", given.reference, "ultralytics"))
    writing = Lock()

    def make(seed: int, side: str, python: str, package: str) -> None:
        line = {"side": side, "seed": seed, **run(python, package, given, seed)}
        with writing, log.open("a") as file:
            found[side, seed] = line
            file.write(json.dumps(line) + "\n")
            print(line, flush=True)

    with ThreadPoolExecutor(given.jobs) as pool:
        wanted = [(seed, *side) for seed in given.seeds for side in sides if (side[0], seed) not in found]
        for _ in pool.map(lambda one: make(*one), wanted):
            pass
    return 0 if report(found, given.seeds) else 1


if __name__ == "__main__":
    sys.exit(main())
