"""Compare detections of yolopose with those of the reference package, on the images of a folder.

    python benchmarks/agreement.py --reference PYTHON --images FOLDER --model yolo11n-pose.pt [--ours OTHER …]

The reference package runs MODEL in its own environment, as a black box; yolopose runs MODEL and each OTHER (exported
files; with dynamic=True they take the same rectangular inputs). Detections are paired by the IoU of their boxes.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

_PROGRAM = """
import importlib, json, sys
package, model, folder, target = sys.argv[1:]
detections = {}
for result in importlib.import_module(package).YOLO(model)(folder, stream=True, verbose=False):
    name = result.path.replace("\\\\", "/").rsplit("/", 1)[-1]
    detections[name] = [result.boxes.data.tolist(), result.keypoints.data.tolist()]
json.dump(detections, open(target, "w"))
"""


def detections(python: str, package: str, model: str, folder: Path) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as output:
        target = Path(output) / "detections.json"
        command = [python, "-c", _PROGRAM, package, model, str(folder), str(target)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return json.loads(target.read_text())


def compare(ours: dict[str, Any], theirs: dict[str, Any]) -> str:
    from yolopose.geometry import box_iou

    paired = 0
    unpaired = 0
    worst = np.zeros(3)
    for name, (their_boxes, their_points) in theirs.items():
        boxes, points = (np.array(part, np.float64) for part in ours[name])
        other = np.array(their_boxes, np.float64)
        other_points = np.array(their_points, np.float64)
        if not len(boxes) or not len(other):
            unpaired += len(boxes) + len(other)
            continue
        iou = box_iou(boxes[:, :4], other[:, :4])
        pairs = [(row, int(iou[row].argmax())) for row in range(len(boxes)) if iou[row].max() > 0.9]
        paired += len(pairs)
        unpaired += len(boxes) + len(other) - 2 * len(pairs)
        for row, column in pairs:
            worst = np.maximum(
                worst,
                [
                    np.abs(boxes[row, :4] - other[column, :4]).max(),
                    np.abs(boxes[row, 4] - other[column, 4]),
                    np.abs(points[row, :, :2] - other_points[column, :, :2]).max(),
                ],
            )
    box, score, point = worst
    return (
        f"{len(theirs)} images, {paired} detections paired, {unpaired} unpaired; largest difference: boxes "
        f"{box:.4f} px, points {point:.4f} px, confidence {score:.1e}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", required=True)
    parser.add_argument("--images", required=True, type=Path)
    parser.add_argument("--model", required=True)
    parser.add_argument("--ours", nargs="*", default=[])
    args = parser.parse_args()
    theirs = detections(args.reference, "ultralytics", args.model, args.images)
    for model in [args.model, *args.ours]:
        print(f"{Path(model).name}: {compare(detections(sys.executable, 'yolopose', model, args.images), theirs)}")


if __name__ == "__main__":
    main()
