"""The reference protocol with every runtime: mAP with torch, ONNX and OpenVINO, beside that of the reference package.

    python benchmarks/protocol.py --shared FOLDER [--imgsz 640]

FOLDER contains `checkpoints/yolo11n-pose.pt`, `data/coco-mini` (copied first) and `eval/numbers.json`. Files are
exported with dynamic=True, so that all runtimes use the same rectangular batches. Exits with status 1 if two values
differ by more than .001.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path

from yolopose import YOLO

KEYS = ("box_map", "box_map50", "pose_map", "pose_map50")
TOLERANCE = 0.001


def measure(model: YOLO, data: Path, imgsz: int) -> list[float]:
    metrics = model.val(data=str(data), imgsz=imgsz, plots=False, verbose=False)
    return [metrics.box.map, metrics.box.map50, metrics.pose.map, metrics.pose.map50]


def table_row(name: str, values: list[float]) -> str:
    return f"| {name} | {' | '.join(f'{value:.5f}' for value in values)} |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", required=True, type=Path)
    parser.add_argument("--imgsz", type=int, default=640, help="the reference is compared only at 640")
    args = parser.parse_args()
    rows: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as work:
        data = Path(shutil.copytree(args.shared / "data/coco-mini", Path(work) / "set")) / "coco-mini.yaml"
        weights = shutil.copy(args.shared / "checkpoints/yolo11n-pose.pt", work)
        print("| runtime | box mAP50-95 | box mAP50 | pose mAP50-95 | pose mAP50 |\n|---|---|---|---|---|")
        for name in ("torch", "onnx", "openvino"):
            file = weights if name == "torch" else YOLO(weights).export(format=name, dynamic=True, verbose=False)
            rows[name] = measure(YOLO(file), data, args.imgsz)
            print(table_row(name, rows[name]), flush=True)
    if args.imgsz == 640:
        published = json.loads((args.shared / "eval/numbers.json").read_text())
        reference = next(value for key, value in published.items() if "reference protocol" in key)
        # the reference sorts images of equal aspect ratio in an order that depends on the machine
        stable = reference["with_stable_sort_of_aspect_ratios"]
        rows["reference"] = [stable[key] for key in KEYS]
        print(table_row(f"{reference['source'].split(',')[0]}, images in a fixed order", rows["reference"]))
    difference = max(max(column) - min(column) for column in zip(*rows.values(), strict=True))
    print(f"\nlargest difference {difference:.5f}")
    return int(difference > TOLERANCE)


if __name__ == "__main__":
    sys.exit(main())
