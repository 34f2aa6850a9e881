"""Data sets in YOLO format: data YAML and a label file."""

from __future__ import annotations

from functools import partial

from annotations import annotation_target
from harness import main
from instrumented import instrument

with instrument():
    from yolopose.data.convert.conversion import read_annotations
    from yolopose.data.convert.record import IssueLog
    from yolopose.data.convert.registry import get_format

    get_format("yolo")  # imports the module of the format

TARGET = annotation_target(
    "yolo",
    partial(read_annotations, source_format="yolo"),
    IssueLog,
    files=["data.yaml", "labels/a.txt"],
    source="data.yaml",
    tokens=[b"names: ", b"kpt_shape: ", b"0 0.5 0.5 0.1 0.1"],
)

if __name__ == "__main__":
    main(TARGET)
