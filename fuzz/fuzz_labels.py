"""Label rows of YOLO text files."""

from __future__ import annotations

from instrumented import instrument

with instrument():
    import numpy as np
    from harness import Target, main

    from yolopose.data.label_file import LabelError, parse_labels
    from yolopose.schema import KeypointSchema, PoseSpec

SPECS = [
    PoseSpec(classes=("a", "b"), keypoints=KeypointSchema.from_dict({"kpt_shape": [count, dims]}))
    for count, dims in ((2, 3), (2, 2), (1, 3), (17, 3))
]


def run(data: bytes) -> None:
    """Read one case."""
    spec = SPECS[len(data) % len(SPECS)]
    labels = parse_labels(data, spec, any_class=len(data) % 2 == 0, precise=len(data) % 3 == 0)
    assert labels.keypoints.shape == (len(labels.classes), spec.keypoints.count, 3)
    assert np.isfinite(labels.boxes).all()
    assert np.isfinite(labels.keypoints).all()
    assert (labels.classes >= 0).all()


TARGET = Target("labels", run, [b"0 ", b"0.5 ", b"2\n", b"1 0.5 0.5 0.2 0.2 0.5 0.5 2 0.4 0.4 1\n"], (LabelError,))

if __name__ == "__main__":
    main(TARGET)
