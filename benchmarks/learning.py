"""Compare what trainings learn from the same data: packages, recipes, options, seed by seed, with intervals.

    python benchmarks/learning.py --data mouse.yaml coco-mini.yaml --model yolo11n-pose.pt --log runs.jsonl \\
        --reference PYTHON --seeds 0 1 2 3 4 --variants "ours = yolopose" "expert = ultralytics batch=8 nbs=8" \\
        -- epochs=20 imgsz=320

A variant is `NAME = PACKAGE [option=value …]`; the options after `--` apply to all. PYTHON is the interpreter of an
environment with the `ultralytics` package. Each run is a process on its own share of the cores (`--jobs` at a time);
variants are interleaved, seed by seed. Runs are appended to the log (JSON Lines) and not repeated.

Per run: mAP50-95 of boxes and poses that `train` returns for best.pt, and the pixel error of best.pt on the validation
images, counted for both packages by this program as DeepLabCut does: Euclidean distance in pixels of the original image
over labeled points. In an image with one instance the detection with the highest confidence is taken; with several,
each instance takes the detection of highest IoU, if that is at least 0.5. The table gives means over the seeds that all
variants of a data set have, and paired differences to the first variant with their 95 % interval (Student's t).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from threading import Lock
from typing import Any

import numpy as np

MEASURES = ("box", "pose", "px_mean", "px_median", "pck2", "pck5", "pck10", "seconds")
# 97.5 % quantiles of Student's t, by number of pairs
T_QUANTILE = {
    2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262, 11: 2.228, 12: 2.201,
    13: 2.179, 14: 2.160, 15: 2.145, 16: 2.131, 17: 2.120, 18: 2.110, 19: 2.101, 20: 2.093,
}  # fmt: skip

PROGRAM = """
import importlib, json, os, sys, time
package, cores, model, data, options, images, folder, target = sys.argv[1:]
os.sched_setaffinity(0, json.loads(cores))  # before torch counts them
YOLO = importlib.import_module(package).YOLO
start = time.perf_counter()
trained = YOLO(model)
metrics = trained.train(data=data, project=folder, plots=False, verbose=False, **json.loads(options))
seconds = time.perf_counter() - start
imgsz = json.loads(options).get("imgsz", 640)
detections = {}
for path in json.loads(images):
    result = trained.predict(path, imgsz=imgsz, conf=0.01, verbose=False)[0]
    detections[path] = [
        {"box": box, "conf": conf, "kpts": kpts}
        for box, conf, kpts in zip(
            result.boxes.xyxy.tolist(), result.boxes.conf.tolist(), result.keypoints.xy.tolist()
        )
    ]
numbers = {"box": metrics.box.map, "pose": metrics.pose.map, "seconds": seconds}
json.dump({"numbers": numbers, "detections": detections}, open(target, "w"))
"""


@dataclass(frozen=True)
class Variant:
    """One column of the table: a package and the options of its trainings."""

    name: str
    package: str
    options: dict[str, Any]

    @classmethod
    def parse(cls, text: str) -> Variant:
        """Parse `NAME = PACKAGE [option=value …]`."""
        name, _, rest = text.partition(" = ")
        package, *words = rest.split()
        return cls(name.strip(), package, dict(parse_option(word) for word in words))


@dataclass(frozen=True)
class GroundTruth:
    """Labeled instances of one validation image, in pixels of the original image."""

    boxes: np.ndarray  # (n, 4) xyxy
    keypoints: np.ndarray  # (n, K, 2)
    labeled: np.ndarray  # (n, K) bool


def parse_option(word: str) -> tuple[str, Any]:
    key, _, text = word.partition("=")
    try:
        return key, json.loads(text)
    except ValueError:
        return key, {"True": True, "False": False}.get(text, text)


def read_ground_truth(data: str) -> dict[str, GroundTruth]:
    """Return the ground truth of each image of the `val` split, by path."""
    from yolopose.data import load_dataset, load_labels, read_image

    dataset = load_dataset(data)
    labels = load_labels(dataset, "val")
    result: dict[str, GroundTruth] = {}
    for path, entry in zip(labels.files, labels, strict=True):
        height, width = read_image(path).shape[:2]
        center, size = entry.boxes[:, :2], entry.boxes[:, 2:4]
        scale = np.array([width, height])
        boxes = np.concatenate([(center - size / 2) * scale, (center + size / 2) * scale], axis=1)
        points = entry.keypoints
        states = points[..., 2] if points.shape[2] == 3 else np.abs(points).max(2)  # K x 2: 0 0 is not labeled
        result[str(path)] = GroundTruth(boxes, points[..., :2] * scale, states > 0)
    return result


def pixel_errors(truth: dict[str, GroundTruth], detections: dict[str, list[dict[str, Any]]]) -> np.ndarray:
    """Return the distance of every labeled keypoint of a matched instance, pixels."""
    distances: list[np.ndarray] = []
    for path, gt in truth.items():
        rows = detections[path]
        if not rows or not len(gt.boxes):
            continue
        if len(gt.boxes) == 1:
            pairs = [(0, int(np.argmax([row["conf"] for row in rows])))]
        else:
            overlaps = iou(gt.boxes, np.array([row["box"] for row in rows]))
            pairs = [(i, int(row.argmax())) for i, row in enumerate(overlaps) if row.max() >= 0.5]
        for i, j in pairs:
            kpts = np.array(rows[j]["kpts"])
            distances.append(np.linalg.norm(kpts - gt.keypoints[i], axis=1)[gt.labeled[i]])
    return np.concatenate(distances) if distances else np.empty(0)


def iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the IoU of boxes (n, 4) and (m, 4), xyxy."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    overlap = (high - low).clip(0).prod(2)
    area_a = (a[:, 2:] - a[:, :2]).prod(1)
    area_b = (b[:, 2:] - b[:, :2]).prod(1)
    return overlap / (area_a[:, None] + area_b[None] - overlap)


def run(args: argparse.Namespace, data: str, variant: Variant, seed: int, cores: list[int]) -> dict[str, float]:
    """Train once in a new process and return the measures."""
    python = sys.executable if variant.package == "yolopose" else args.reference
    options = {**args.options, **variant.options, "seed": seed}
    truth = read_ground_truth(data)
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "result.json"
        texts = [json.dumps(cores), args.model, data, json.dumps(options), json.dumps(list(truth)), folder, str(target)]
        environment = {**os.environ, "OMP_NUM_THREADS": str(len(cores)), "YOLO_OFFLINE": "true"}
        command = [python, "-c", PROGRAM, variant.package, *texts]
        done = subprocess.run(command, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment)
        if done.returncode:
            raise SystemExit(f"{variant.name}, seed {seed}, {data} failed:\n{done.stderr.decode()[-2000:]}")
        result = json.loads(target.read_text())
    distances = pixel_errors(truth, result["detections"])
    labeled = sum(int(gt.labeled.sum()) for gt in truth.values())
    return {
        **result["numbers"],
        "px_mean": float(distances.mean()) if len(distances) else float("nan"),
        "px_median": float(np.median(distances)) if len(distances) else float("nan"),
        # points of missed instances count as wrong
        **{f"pck{limit}": float((distances <= limit).sum() / max(labeled, 1)) for limit in (2, 5, 10)},
    }


def interval(differences: np.ndarray) -> tuple[float, float, float]:
    """Return mean and 95 % interval of paired differences."""
    mean = float(differences.mean())
    half = T_QUANTILE[len(differences)] * float(differences.std(ddof=1)) / len(differences) ** 0.5
    return mean, mean - half, mean + half


def print_table(runs: dict[tuple[str, str, int], dict[str, float]], data: str, names: list[str]) -> None:
    """Print a Markdown table of one data set."""
    seeds = sorted({seed for key, _, seed in runs if key == data})
    seeds = [seed for seed in seeds if all((data, name, seed) in runs for name in names)]
    print(
        f"\n{Path(data).stem}, seeds {seeds}\n\n| variant | {' | '.join(MEASURES)} |\n|{'---|' * (len(MEASURES) + 1)}"
    )
    for name in names:
        cells: list[str] = []
        for measure in MEASURES:
            values = np.array([runs[data, name, seed].get(measure, np.nan) for seed in seeds])
            first = np.array([runs[data, names[0], seed].get(measure, np.nan) for seed in seeds])
            digits = 0 if measure == "seconds" else 1 if measure.startswith("px") else 3
            cell = f"{values.mean():.{digits}f}" if seeds else "–"
            if len(seeds) > 1 and name != names[0]:
                mean, low, high = interval(values - first)
                cell += f" ({mean:+.{digits}f}: {low:+.{digits}f} … {high:+.{digits}f})"
            cells.append(cell)
        print(f"| {name} | {' | '.join(cells)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", required=True, help="data YAMLs with an absolute path: entry")
    parser.add_argument("--model", required=True)
    parser.add_argument("--log", required=True, type=Path)
    parser.add_argument("--reference", default="", help="interpreter of the reference's environment")
    parser.add_argument("--variants", nargs="+", required=True, type=Variant.parse)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("options", nargs="*", type=parse_option, help="options of all runs: key=value")
    args = parser.parse_args()
    args.options = dict(args.options)
    lines = [json.loads(line) for line in args.log.read_text().splitlines()] if args.log.is_file() else []
    runs = {(line["data"], line["variant"], line["seed"]): line for line in lines}
    writing = Lock()
    free: SimpleQueue[list[int]] = SimpleQueue()
    cpus = sorted(os.sched_getaffinity(0))
    for job in range(args.jobs):
        free.put(cpus[job :: args.jobs] or cpus)

    def make(data: str, variant: Variant, seed: int) -> None:
        cores = free.get()
        try:
            measures = run(args, data, variant, seed, cores)
        finally:
            free.put(cores)
        line = {"data": data, "variant": variant.name, "seed": seed, **measures}
        with writing, args.log.open("a") as file:
            runs[data, variant.name, seed] = line
            file.write(json.dumps(line) + "\n")
            print(line, flush=True)

    wanted = [(d, v, s) for s in args.seeds for d in args.data for v in args.variants if (d, v.name, s) not in runs]
    with ThreadPoolExecutor(args.jobs) as pool:
        list(pool.map(lambda task: make(*task), wanted))
    for data in args.data:
        print_table(runs, data, [variant.name for variant in args.variants])


if __name__ == "__main__":
    main()
