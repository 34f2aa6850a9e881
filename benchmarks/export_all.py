"""Measure every format in 32, 16 and 8 bits and with NMS in the graph: size, duration, agreement with torch, accuracy.

    python benchmarks/export_all.py --model yolo11n-pose.pt --data coco-pose.yaml

The accuracy is that of the exported file on square inputs of 640 with the reference protocol. A file whose accuracy
differs from that of torch by more than the limit is an error. This runs `yolo benchmark` four times.
"""

from __future__ import annotations

import argparse
from typing import Any

from yolopose import YOLO
from yolopose.formats import get_format
from yolopose.formats.registry import missing_packages
from yolopose.toolchains import find_python, get_toolchain

VARIANTS: dict[str, tuple[dict[str, Any], float]] = {
    "float32": ({}, 0.002),
    "float16": ({"half": True}, 0.005),
    "int8": ({"int8": True}, 0.03),
    "nms": ({"nms": True}, 0.01),  # NMS in the graph uses only the best class of an anchor
}
"""Options, and the largest difference of the pose mAP50-95 to that of torch."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="weights")
    parser.add_argument("--data", required=True, help="data YAML; int8 uses its train split, val is measured")
    parser.add_argument("--imgsz", type=int, default=640)
    parser.add_argument("--format", default="", help="one format instead of all")
    parser.add_argument("--variant", choices=list(VARIANTS), help="one variant instead of all")
    parser.add_argument("--project", default="runs/export-all")
    args = parser.parse_args()
    errors: list[str] = []
    for variant in [args.variant] if args.variant else list(VARIANTS):
        options, limit = VARIANTS[variant]
        print(f"\n{variant}")
        table = YOLO(args.model).benchmark(
            data=args.data,
            imgsz=args.imgsz,
            format=args.format,
            device="cpu",
            project=args.project,
            name=variant,
            **options,
        )
        expected = table.rows[0].pose
        assert expected is not None
        for row in table.rows[1:]:
            if row.pose is not None and not abs(row.pose - expected) <= limit:
                errors.append(f"{row.title}, {variant}: {row.pose:.4f} instead of {expected:.4f} (limit {limit:g})")
            if row.pose is None and row.megabytes is None and can_export(row.name, options):
                errors.append(f"{row.title}, {variant}: {row.note}")
    print("\n" + ("\n".join(errors) if errors else "All formats are within their limits."))
    return bool(errors)


def can_export(name: str, options: dict[str, Any]) -> bool:
    """Return whether a format supports the options and its requirements are installed: then a failure is an error."""
    info = get_format(name).info
    int8 = "int8" in options
    toolchains = filter(None, (info.toolchain, info.int8_toolchain if int8 else ""))
    installed = all(find_python(get_toolchain(toolchain)) for toolchain in toolchains)
    return set(options) <= set(info.options) and installed and not missing_packages(info.packages_to_export(int8))


if __name__ == "__main__":
    raise SystemExit(main())
