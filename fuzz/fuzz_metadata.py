"""Metadata of exported networks, with the shapes of their graph."""

from __future__ import annotations

from instrumented import instrument

with instrument():
    from pathlib import Path

    from harness import Target, main

    from yolopose.formats.metadata import parse_metadata, read_metadata

SHAPES = [
    (None, None), ((1, 3, 640, 640), (1, 56, 8400)), (("batch", 3, "height", "width"), ("batch", 56, "anchors")),
    ((1, 3, 32, 32), (1, 300, 57)), ((0, -1, 10**9, 7), (1, 9, 9)),
]  # fmt: skip


def run(data: bytes) -> None:
    """Read one case."""
    values = parse_metadata(data)
    first = len(data) % len(SHAPES)
    inputs, outputs = SHAPES[first]
    read_metadata(Path("network.onnx"), values, inputs, outputs)


TARGET = Target(
    "metadata",
    run,
    [b'"yolopose"', b'"names"', b'"imgsz"', b'"kpt_shape"', b'"stride"', b'"batch"', b"[17, 3]"],
    json=True,
)

if __name__ == "__main__":
    main(TARGET)
