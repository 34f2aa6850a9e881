"""COCO keypoint files."""

from __future__ import annotations

from functools import partial

from annotations import annotation_target
from harness import main
from instrumented import instrument

with instrument():
    from yolopose.data.convert.conversion import read_annotations
    from yolopose.data.convert.record import IssueLog
    from yolopose.data.convert.registry import get_format

    get_format("coco")  # imports the module of the format

TARGET = annotation_target(
    "coco",
    partial(read_annotations, source_format="coco"),
    IssueLog,
    files=["a.json"],
    source="a.json",
    tokens=[b'"keypoints":', b'"bbox":', b'"file_name":', b'"segmentation":', b'"id":'],
    json=True,
)

if __name__ == "__main__":
    main(TARGET)
