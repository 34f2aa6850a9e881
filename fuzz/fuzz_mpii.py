"""JSON files of MPII."""

from __future__ import annotations

from functools import partial

from annotations import annotation_target
from harness import main
from instrumented import instrument

with instrument():
    from yolopose.data.convert.conversion import read_annotations
    from yolopose.data.convert.record import IssueLog
    from yolopose.data.convert.registry import get_format

    get_format("mpii")  # imports the module of the format

TARGET = annotation_target(
    "mpii",
    partial(read_annotations, source_format="mpii"),
    IssueLog,
    files=["a.json"],
    source="a.json",
    tokens=[b'"joints"', b'"annorect"', b'"joint_self"'],
    json=True,
)

if __name__ == "__main__":
    main(TARGET)
