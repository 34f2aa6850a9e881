"""Projects of DeepLabCut: the config and the table of labels."""

from __future__ import annotations

from functools import partial

from annotations import annotation_target
from harness import main
from instrumented import instrument

with instrument():
    from yolopose.data.convert.conversion import read_annotations
    from yolopose.data.convert.record import IssueLog
    from yolopose.data.convert.registry import get_format

    get_format("deeplabcut")  # imports the module of the format

TARGET = annotation_target(
    "deeplabcut",
    partial(read_annotations, source_format="deeplabcut"),
    IssueLog,
    files=["config.yaml", "labeled-data/m1/CollectedData_me.csv"],
    source="",
    tokens=[
        b"bodyparts: ",
        b"individuals: ",
        b"skeleton: ",
        b"multianimalproject: true",
        b"scorer,",
        b"coords,",
        b"labeled-data,m1,a.png,",
    ],
)

if __name__ == "__main__":
    main(TARGET)
