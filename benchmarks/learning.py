"""Compare what trainings learn from the same data: packages, recipes, options, seed by seed, with intervals.

    python benchmarks/learning.py --data mouse.yaml coco-mini.yaml --model yolo11n-pose.pt --log runs.jsonl \\
        --reference PYTHON --seeds 0 1 2 3 4 --variants "ours = yolopose" "expert = ultralytics batch=8 nbs=8" \\
        -- epochs=20 imgsz=320

A variant is `NAME = PACKAGE [option=value …]`; the options after `--` apply to all. PYTHON is the interpreter of an
environment with the `ultralytics` package. Each run is a process on its own share of the cores (`--jobs` at a time);
variants are interleaved, seed by seed. Runs are appended to the log (JSON Lines) and not repeated.

Per run: mAP50-95 of boxes and poses that `train` returns for best.pt, and the keypoint errors of best.pt in pixels of
the original validation images, counted for both packages by `yolopose.evaluate.PixelErrors`. The table contains means
over the seeds that all variants of a data set have, and paired differences to the first variant with their 95 %
interval (Student's t).
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

from yolopose.data import load_dataset, load_labels, read_image
from yolopose.data.labels import ImageLabels
from yolopose.evaluate import PixelErrors, RecordBuilder
from yolopose.geometry import Letterbox, cxcywh_to_xyxy
from yolopose.runtime.nms import Detections
from yolopose.schema import PoseSpec

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
        {"box": box, "conf": conf, "cls": int(cls), "kpts": kpts}
        for box, conf, cls, kpts in zip(
            result.boxes.xyxy.tolist(), result.boxes.conf.tolist(), result.boxes.cls.tolist(),
            result.keypoints.xy.tolist(),
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


def parse_option(word: str) -> tuple[str, Any]:
    key, _, text = word.partition("=")
    try:
        return key, json.loads(text)
    except ValueError:
        return key, {"True": True, "False": False}.get(text, text)


@dataclass(frozen=True)
class ValidationSet:
    """Labels of the `val` split by path, boxes and keypoints in pixels of the original images."""

    spec: PoseSpec
    labels: dict[str, ImageLabels]
    sizes: dict[str, tuple[int, int]]  # (height, width)

    @classmethod
    def load(cls, data: str) -> ValidationSet:
        dataset = load_dataset(data)
        labels = load_labels(dataset, "val")
        entries: dict[str, ImageLabels] = {}
        sizes: dict[str, tuple[int, int]] = {}
        for path, entry in zip(labels.files, labels, strict=True):
            height, width = read_image(path).shape[:2]
            scale = np.array([width, height], dtype=np.float32)
            boxes = cxcywh_to_xyxy(entry.boxes) * np.tile(scale, 2)
            keypoints = entry.keypoints * np.append(scale, np.float32(1))
            entries[str(path)] = ImageLabels(entry.classes, boxes, keypoints)
            sizes[str(path)] = height, width
        return cls(dataset.spec, entries, sizes)

    def pixel_errors(self, detections: dict[str, list[dict[str, Any]]]) -> PixelErrors:
        """Return the keypoint errors of detections (`box`, `conf`, `cls`, `kpts`) in pixels of the original images."""
        builder = RecordBuilder(self.spec)
        shape = self.spec.keypoints.count, 2
        for path, gt in self.labels.items():
            rows = sorted(detections[path], key=lambda row: -row["conf"])
            image_detections = Detections(
                boxes=np.array([row["box"] for row in rows], np.float32).reshape(-1, 4),
                scores=np.array([row["conf"] for row in rows], np.float32),
                classes=np.array([row["cls"] for row in rows], np.int64),
                points=np.array([row["kpts"] for row in rows], np.float32).reshape(-1, *shape),
            )
            size = self.sizes[path]
            builder.add(path, image_detections, gt, Letterbox(size, size, 0, 0, size))
        return PixelErrors.from_record(builder.finish())


def run(args: argparse.Namespace, data: str, variant: Variant, seed: int, cores: list[int]) -> dict[str, float]:
    """Train once in a new process and return the measures."""
    python = sys.executable if variant.package == "yolopose" else args.reference
    options = {**args.options, **variant.options, "seed": seed}
    val = ValidationSet.load(data)
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "result.json"
        texts = [
            json.dumps(cores),
            args.model,
            data,
            json.dumps(options),
            json.dumps(list(val.labels)),
            folder,
            str(target),
        ]
        environment = {**os.environ, "OMP_NUM_THREADS": str(len(cores)), "YOLO_OFFLINE": "true"}
        command = [python, "-c", PROGRAM, variant.package, *texts]
        done = subprocess.run(command, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment)
        if done.returncode:
            raise SystemExit(f"{variant.name}, seed {seed}, {data} failed:\n{done.stderr.decode()[-2000:]}")
        result = json.loads(target.read_text())
    errors = val.pixel_errors(result["detections"])
    return {
        **result["numbers"],
        "px_mean": errors.mean,
        "px_median": errors.median,
        **{f"pck{limit}": share for limit, share in errors.pck.items()},
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
