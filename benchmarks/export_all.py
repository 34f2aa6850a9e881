"""Every format with 32, 16 and 8 bits, and with suppression inside: size, seconds, agreement with torch, accuracy.

    python benchmarks/export_all.py --model yolo11n-pose.pt --data coco-pose.yaml

Accuracy is that of the file read back, on whole squares of 640 by the reference protocol; one further from torch's than
is wanted is an error. This is `yolo benchmark` four times.
"""

from __future__ import annotations

import argparse
from typing import Any

from yolopose import YOLO
from yolopose.formats import formats

KINDS: dict[str, tuple[dict[str, Any], float]] = {
    "float32": ({}, 0.002),
    "float16": ({"half": True}, 0.005),
    "int8": ({"int8": True}, 0.03),
    "nms": ({"nms": True}, 0.01),  # a cell gives its best class alone there
}
"""Options, and how far the pose mAP50-95 may be from that of torch."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="weights")
    parser.add_argument("--data", required=True, help="data YAML; its train split is for int8, val is measured")
    parser.add_argument("--imgsz", type=int, default=640)
    parser.add_argument("--format", default="", help="one format instead of all")
    parser.add_argument("--numbers", choices=list(KINDS), help="one kind of numbers instead of all")
    parser.add_argument("--project", default="runs/export-all")
    given = parser.parse_args()
    faults: list[str] = []
    for kind in [given.numbers] if given.numbers else list(KINDS):
        options, limit = KINDS[kind]
        print(f"\n{kind}")
        table = YOLO(given.model).benchmark(
            data=given.data, imgsz=given.imgsz, format=given.format, device="cpu", project=given.project, name=kind,
            **options,
        )  # fmt: skip
        truth = table.rows[0].pose
        assert truth is not None
        for row in table.rows[1:]:
            if row.pose is not None and not abs(row.pose - truth) <= limit:
                faults.append(f"{row.title}, {kind}: {row.pose:.4f} instead of {truth:.4f} (within {limit:g})")
            if row.pose is None and row.megabytes is None and _has(row.name, options):
                faults.append(f"{row.title}, {kind}: {row.note}")
    print("\n" + ("\n".join(faults) if faults else "All within what is wanted."))
    return bool(faults)


def _has(name: str, options: dict[str, Any]) -> bool:
    """Whether a format can be written here with these options, so that a failure is a fault."""
    from yolopose.formats.registry import missing_packages, packages_to_write
    from yolopose.toolchains import get_toolchain, python_for

    row, eight = next(row for row in formats() if row.name == name), "int8" in options
    rooms = filter(None, (row.toolchain, row.int8_toolchain if eight else ""))
    there = all(python_for(get_toolchain(room)) for room in rooms)
    return set(options) <= set(row.options) and there and not missing_packages(packages_to_write(row, eight))


if __name__ == "__main__":
    raise SystemExit(main())
