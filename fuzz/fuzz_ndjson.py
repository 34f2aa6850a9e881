"""NDJSON files of the reference platform."""

from __future__ import annotations

from functools import partial

from annotations import annotation_target
from harness import main
from instrumented import instrument

with instrument():
    from yolopose.data.convert.conversion import read_annotations
    from yolopose.data.convert.record import IssueLog
    from yolopose.data.convert.registry import get_format

    get_format("ndjson")  # imports the module of the format

TARGET = annotation_target(
    "ndjson",
    partial(read_annotations, source_format="ndjson"),
    IssueLog,
    files=["a.ndjson"],
    source="a.ndjson",
    tokens=[b'"annotations"', b'"pose"', b'"kpt_shape"', b"\n"],
)

if __name__ == "__main__":
    main(TARGET)
