from __future__ import annotations

import numpy as np
import pytest

from yolopose.runtime import Candidates, from_raw, get_replicas

KEYPOINTS = (3, 2)


def slowly(raw: np.ndarray, conf: float, max_nms: int, classes: list[int] | None, multi_label: bool) -> Candidates:
    """The rule cell by cell."""
    nc = raw.shape[1] - 4 - 6
    rows = []
    for image, anchors in enumerate(raw):
        scores = anchors[4 : 4 + nc]
        pairs = np.argwhere(scores > conf) if multi_label else [(scores[:, at].argmax(), at) for at in range(60)]
        selected = []
        for cls, at in pairs:
            if scores[cls, at] > conf and (classes is None or cls in classes):
                x, y, w, h = anchors[:4, at]
                box = (x - w / 2, y - h / 2, x + w / 2, y + h / 2)
                selected.append((image, scores[cls, at], cls, box, anchors[4 + nc :, at].reshape(KEYPOINTS)))
        rows += sorted(selected, key=lambda row: -row[1])[:max_nms]
    image, score, cls, box, points = zip(*rows, strict=True)
    numbers = (np.array(part, dtype=np.float32) for part in (box, score, points))
    boxes, scores, keypoints = numbers
    return Candidates(boxes, scores, np.array(cls), keypoints, np.array(image))


@pytest.mark.parametrize("nc", [1, 3])
@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize(("conf", "max_nms", "classes"), [(0.6, 30_000, None), (0.05, 9, None), (0.3, 20, [0, 2])])
def test_from_raw_matches_loop(
    nc: int, multi_label: bool, conf: float, max_nms: int, classes: list[int] | None
) -> None:
    rng = np.random.default_rng(nc)
    raw = rng.random((3, 4 + nc + 6, 60), dtype=np.float32)
    raw[:, 4 : 4 + nc] = np.round(raw[:, 4 : 4 + nc], 1)  # equal scores among classes and anchors
    candidates = from_raw(raw, KEYPOINTS, conf=conf, max_nms=max_nms, classes=classes, multi_label=multi_label)
    expected = slowly(raw, conf, max_nms, classes, multi_label)
    assert len(expected.scores) > 10
    for part in ("batch_idx", "classes", "scores", "points"):
        np.testing.assert_array_equal(getattr(candidates, part), getattr(expected, part), err_msg=part)
    np.testing.assert_allclose(candidates.boxes, expected.boxes, atol=1e-6)
    assert [candidates.boxes.dtype, candidates.classes.dtype, candidates.batch_idx.dtype] == [
        np.float32,
        np.int64,
        np.int64,
    ]


def test_nan_is_not_a_candidate() -> None:
    raw = np.full((1, 4 + 2 + 6, 5), np.nan, dtype=np.float32)
    assert len(from_raw(raw, KEYPOINTS, conf=0.0).scores) == 0


def test_engine_without_replicas() -> None:
    engine = object()
    assert get_replicas(engine, 3) == [engine]  # type: ignore[arg-type]
