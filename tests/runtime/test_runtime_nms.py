from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yolopose.config import PredictOptions, ValOptions
from yolopose.geometry import box_iou
from yolopose.runtime import Candidates, from_raw
from yolopose.runtime.nms import nms, warn_built_in_nms
from yolopose.schema import KeypointSchema, ModelMetadata, PoseSpec

CASES = {
    "default": ({"conf": 0.25}, {"iou": 0.7, "max_det": 300}),
    "val": ({"conf": 0.001}, {"iou": 0.7, "max_det": 300}),
    "agnostic": ({"conf": 0.3}, {"iou": 0.45, "max_det": 300, "agnostic": True}),
    "classes": ({"conf": 0.25, "classes": [1]}, {"iou": 0.7, "max_det": 300}),
    "max_det": ({"conf": 0.1}, {"iou": 0.9, "max_det": 20}),
    "val_multi_label": ({"conf": 0.05, "multi_label": True}, {"iou": 0.6, "max_det": 300}),
}


def assert_matches(raw: np.ndarray, case: str, expected: np.ndarray, most: int) -> None:
    selection, limits = CASES[case]
    limits = {**limits, "max_det": min(limits["max_det"], most)}
    (detections,) = nms(from_raw(raw, (4, 3), **selection), 1, **limits)
    points = detections.points.reshape(len(detections), -1)
    rows = np.hstack((detections.boxes, detections.scores[:, None], detections.classes[:, None], points))
    assert rows.shape == expected.shape
    np.testing.assert_allclose(rows, expected, atol=1e-4)


@pytest.mark.parametrize("case", CASES)
def test_agrees_with_first_detections_of_reference(case: str) -> None:
    # The first 100 detections, and the anchors with at least their scores.
    stored = np.load(Path(__file__).parents[1] / "fixtures/nms.npz")
    assert_matches(stored["raw"], case, stored[case], 100)


@pytest.mark.parametrize("case", CASES)
def test_agrees_with_reference(shared: Path, case: str) -> None:
    stored = np.load(shared / "fixtures/nms.npz")
    assert_matches(stored["nms.raw"], case, stored[f"nms.{case}"], 300)


def random_candidates(
    seed: int, counts: list[int], classes: int = 3, size: float = 40, spread: float = 100
) -> Candidates:
    rng = np.random.default_rng(seed)
    total = sum(counts)
    corner = rng.uniform(0, spread, (total, 2))
    boxes = np.hstack((corner, corner + rng.uniform(0, size, (total, 2)))).round().astype(np.float32)
    return Candidates(
        boxes=boxes,
        scores=rng.integers(1, 20, total).astype(np.float32) / 20,  # many ties
        classes=rng.integers(0, classes, total),
        points=rng.uniform(0, 99, (total, 2, 3)).astype(np.float32),
        batch_idx=np.repeat(np.arange(len(counts)), counts),
    )


def naive(candidates: Candidates, index: int, iou: float, max_det: int, agnostic: bool) -> list[int]:
    rows = [row for row in range(len(candidates.scores)) if candidates.batch_idx[row] == index]
    rows.sort(key=lambda row: -candidates.scores[row])
    ious = box_iou(candidates.boxes, candidates.boxes, eps=0)
    selected: list[int] = []
    for row in rows:
        rivals = [other for other in selected if agnostic or candidates.classes[other] == candidates.classes[row]]
        if not any(ious[other, row] > np.float32(iou) for other in rivals):
            selected.append(row)
    return selected[:max_det]


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    counts=st.lists(st.integers(0, 60), min_size=1, max_size=4),
    iou=st.sampled_from([0.0, 0.3, 0.5, 0.7, 1.0]),
    max_det=st.sampled_from([1, 7, 300]),
    agnostic=st.booleans(),
)
@pytest.mark.filterwarnings("ignore:invalid value")
def test_agrees_with_naive(seed: int, counts: list[int], iou: float, max_det: int, agnostic: bool) -> None:
    candidates = random_candidates(seed, counts)
    found = nms(candidates, len(counts), iou=iou, max_det=max_det, agnostic=agnostic)
    for index, detections in enumerate(found):
        rows = naive(candidates, index, iou, max_det, agnostic)
        np.testing.assert_array_equal(detections.boxes, candidates.boxes[rows])
        np.testing.assert_array_equal(detections.classes, candidates.classes[rows])
        np.testing.assert_array_equal(detections.points, candidates.points[rows])


@pytest.mark.filterwarnings("ignore:invalid value")
@pytest.mark.parametrize("size", [5, 60])
def test_agrees_with_naive_over_several_blocks(size: float) -> None:
    candidates = random_candidates(3, [900], classes=2, size=size)
    (detections,) = nms(candidates, 1, iou=0.4, max_det=300)
    np.testing.assert_array_equal(detections.boxes, candidates.boxes[naive(candidates, 0, 0.4, 300, False)])


def test_limits_candidates_without_nms() -> None:
    boxes = np.tile(np.array([[0, 0, 9, 9]], np.float32), (4, 1))
    scores = np.array([0.5, 0.9, 0.7, 0.8], np.float32)
    zeros = np.zeros(4, np.int64)
    candidates = Candidates(boxes, scores, zeros, np.zeros((4, 1, 2), np.float32), zeros, nms_done=True)
    (detections,) = nms(candidates, 1, iou=0.5, max_det=3)
    np.testing.assert_allclose(detections.scores, [0.9, 0.8, 0.7])


def test_images_without_candidates_are_empty() -> None:
    found = nms(random_candidates(0, [0, 0]), 2, iou=0.5, max_det=300)
    assert [len(item) for item in found] == [0, 0]
    assert found[0].boxes.shape == (0, 4)
    assert found[0].points.shape == (0, 2, 3)


def test_warns_about_built_in_nms(capsys: pytest.CaptureFixture[str]) -> None:
    inside = {"conf": 0.25, "iou": 0.7, "max_det": 20, "agnostic": False, "classes": None}
    spec = PoseSpec(classes=("a",), keypoints=KeypointSchema(count=2))
    metadata = ModelMetadata(spec=spec, end2end=True, args={"nms": inside})
    warn_built_in_nms(metadata, 0.25, PredictOptions(max_det=20))
    warn_built_in_nms(metadata, 0.4, PredictOptions(max_det=10))  # what is less can be had
    warn_built_in_nms(ModelMetadata(spec=spec), 0.001, ValOptions())
    assert capsys.readouterr().err == ""
    warn_built_in_nms(metadata, 0.001, ValOptions(iou=0.5, agnostic_nms=True))
    output = capsys.readouterr().err
    assert "conf=0.001 (the file uses 0.25), iou=0.5 (the file uses 0.7), max_det=300 (the file uses 20)" in output
