"""XML files of CVAT."""

from __future__ import annotations

from functools import partial

from annotations import annotation_target
from harness import main
from instrumented import instrument

with instrument():
    from yolopose.data.convert.conversion import read_annotations
    from yolopose.data.convert.record import IssueLog
    from yolopose.data.convert.registry import get_format

    get_format("cvat")  # imports the module of the format

TARGET = annotation_target(
    "cvat",
    partial(read_annotations, source_format="cvat"),
    IssueLog,
    files=["a.xml"],
    source="a.xml",
    tokens=[
        b'<image id="1" name="a.png">',
        b'<skeleton label="a">',
        b'<points label="a" points="1,2">',
        b'<!DOCTYPE a [<!ENTITY b "c">]>',
        b"&b;",
        b"<track>",
        b"</image>",
    ],
)

if __name__ == "__main__":
    main(TARGET)
