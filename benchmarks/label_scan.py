"""Time the scan of labels, cold and warm, side by side with the reference; memory of a scan of 118 000 images.

    python benchmarks/label_scan.py --reference OTHER/bin/python --shared FOLDER [--images 5000] [--side 64]
    python benchmarks/label_scan.py --shared FOLDER --images 118000 --side 64 --rounds 1

The images are hard links to copies of coco-mini's, reduced to `--side` pixels if that is given; the label files are
made, 2000 different ones. Each scan is a process of its own, which measures its CPU time without imports, on all
threads. Cold: no cache of labels. Warm: with the cache of the scan before. The files are in the page cache of the
system in both cases.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

import cv2
import numpy as np

_LABEL_FILES = 2000  # different ones; the others are links to them

OURS = """
import json, sys, time
import cv2
from yolopose.base.memory import peak_process_memory, process_memory
from yolopose.data import load_dataset, load_labels
before = process_memory()
dataset = load_dataset(sys.argv[1])
start = time.process_time()
labels = load_labels(dataset, "train")
seconds = time.process_time() - start
print(json.dumps([seconds, len(labels.classes), (peak_process_memory() - before) / 2**20]))
"""
REFERENCE = """
import json, sys, time
from ultralytics.data import YOLODataset
from ultralytics.data.utils import check_det_dataset
data = check_det_dataset(sys.argv[1])
start = time.process_time()
labels = YOLODataset(img_path=data["train"], data=data, task="pose").labels
seconds = time.process_time() - start
print(json.dumps([seconds, sum(len(label["cls"]) for label in labels), 0]))
"""


def write_dataset(shared: Path, root: Path, count: int, side: int = 0) -> Path:
    """Link images, write labels and the data YAML.

    Args:
        shared: folder with coco-mini.
        root: folder of the data set.
        count: number of images.
        side: longer side of the images, pixels; 0 leaves them as they are.
    """
    originals = sorted((shared / "data/coco-mini/images").rglob("*.jpg"))
    for folder in ("images/train", "labels/train", "originals"):
        (root / folder).mkdir(parents=True)
    copies = [Path(shutil.copyfile(file, root / "originals" / file.name)) for file in originals]
    for copy in copies if side else ():
        image = cv2.imread(str(copy))
        scale = side / max(image.shape[:2])
        cv2.imwrite(str(copy), cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA))
    rng = np.random.default_rng(0)
    for index in range(count):
        os.link(copies[index % len(copies)], root / f"images/train/{index:012d}.jpg")
        label = root / f"labels/train/{index:012d}.txt"
        if index < _LABEL_FILES:
            label.write_text(label_rows(rng))
        else:
            os.link(root / f"labels/train/{index % _LABEL_FILES:012d}.txt", label)
    yaml = root / "data.yaml"
    flip = [0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15]
    yaml.write_text(
        f"path: {root}\ntrain: images/train\nval: images/train\nnames: {{0: person}}\nkpt_shape: [17, 3]\n"
        f"flip_idx: {flip}\n"
    )
    return yaml


def label_rows(rng: np.random.Generator) -> str:
    """Return the rows of one to four instances."""
    lines: list[str] = []
    for _ in range(int(rng.integers(1, 5))):
        box = rng.uniform(0.3, 0.6, 4)
        points = np.column_stack((rng.random((17, 2)), rng.integers(0, 3, 17)))
        lines.append(" ".join(["0", *(f"{v:.6f}" for v in box), *(f"{x:.6f} {y:.6f} {v:.0f}" for x, y, v in points)]))
    return "\n".join(lines) + "\n"


def scan(python: str, code: str, yaml: Path) -> tuple[float, int, float]:
    """Return seconds, instances and peak memory in MiB of one scan."""
    done = subprocess.run([python, "-c", code, str(yaml)], capture_output=True, text=True, check=True)
    seconds, instances, memory = json.loads(done.stdout.splitlines()[-1])
    return seconds, instances, memory


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, required=True)
    parser.add_argument("--reference", default="")
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--side", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="parent of the temporary data set")
    options = parser.parse_args()
    tools = {"yolopose": (sys.executable, OURS)}
    if options.reference:
        tools["reference"] = (options.reference, REFERENCE)
    times: dict[tuple[str, str], list[float]] = {}
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        yaml = write_dataset(options.shared, Path(folder) / "set", options.images, options.side)
        for _ in range(options.rounds):
            for name, (python, code) in tools.items():
                for cache in ("train.yolopose.cache", "train.cache"):
                    (yaml.parent / "labels" / cache).unlink(missing_ok=True)
                for kind in ("cold", "warm"):
                    seconds, instances, memory = scan(python, code, yaml)
                    times.setdefault((kind, name), []).append(seconds)
                    print(f"{kind} {name}: {seconds:.3f} s, {instances} instances, {memory:.0f} MiB", flush=True)
    for kind in ("cold", "warm"):
        ours = times[kind, "yolopose"]
        line = f"{kind}: yolopose {median(ours):.3f} s ({min(ours):.3f} … {max(ours):.3f})"
        if other := times.get((kind, "reference")):
            ratio = median(other) / median(ours)
            line += f", reference {median(other):.3f} s ({min(other):.3f} … {max(other):.3f}), ratio {ratio:.2f}"
        print(line)


if __name__ == "__main__":
    main()
