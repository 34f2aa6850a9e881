"""The reference protocol through every engine: mAP with torch, ONNX and OpenVINO, beside the reference package's.

    python benchmarks/protocol.py --shared FOLDER [--imgsz 640]

FOLDER holds `checkpoints/yolo11n-pose.pt`, `data/coco-mini` and `eval/numbers.json`; data are copied first. Files are
exported with dynamic=True, so that they take the same rectangles. Ends with status 1 when two numbers differ by more
than .001.
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
WITHIN = 0.001


def measured(model: YOLO, data: Path, imgsz: int) -> list[float]:
    metrics = model.val(data=str(data), imgsz=imgsz, plots=False, verbose=False)
    return [metrics.box.map, metrics.box.map50, metrics.pose.map, metrics.pose.map50]


def line(name: str, values: list[float]) -> str:
    return f"| {name} | {' | '.join(f'{value:.5f}' for value in values)} |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", required=True, type=Path)
    parser.add_argument("--imgsz", type=int, default=640, help="published numbers are compared at 640 alone")
    given = parser.parse_args()
    rows: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as work:
        data = Path(shutil.copytree(given.shared / "data/coco-mini", Path(work) / "set")) / "coco-mini.yaml"
        weights = shutil.copy(given.shared / "checkpoints/yolo11n-pose.pt", work)
        print("| engine | box mAP50-95 | box mAP50 | pose mAP50-95 | pose mAP50 |\n|---|---|---|---|---|")
        for name in ("torch", "onnx", "openvino"):
            file = weights if name == "torch" else YOLO(weights).export(format=name, dynamic=True, verbose=False)
            rows[name] = measured(YOLO(file), data, given.imgsz)
            print(line(name, rows[name]), flush=True)
    if given.imgsz == 640:
        published = json.loads((given.shared / "eval/numbers.json").read_text())
        numbers = next(value for key, value in published.items() if "reference protocol" in key)
        stable = numbers["with_stable_sort_of_aspect_ratios"]
        rows["reference"] = [stable[key] for key in KEYS]
        print(line(f"{numbers['source'].split(',')[0]}, images in a fixed order", rows["reference"]))
    apart = max(max(column) - min(column) for column in zip(*rows.values(), strict=True))
    print(f"\nlargest difference {apart:.5f}")
    return int(apart > WITHIN)


if __name__ == "__main__":
    sys.exit(main())
