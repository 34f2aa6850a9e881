from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from yolopose.data.convert.record import ImageRecord
from yolopose.predict.active_learning import (
    Candidate,
    Uncertainty,
    UncertaintyScorer,
    suggest_images,
    thumbnail_features,
)
from yolopose.results import Results
from yolopose.schema import KeypointSchema, PoseSpec

SPEC = PoseSpec(
    classes=("person",), keypoints=KeypointSchema(count=2, names={0: ("left_eye", "right_eye")}, flip_idx=(1, 0))
)
IMAGE = np.zeros((100, 200, 3), np.uint8)


def result(scores: list[float], points: float | list[float] = 0.99, left: float = 40, shift: float = 0) -> Results:
    """Return detections of 40 × 40 pixels side by side, with two keypoints each."""
    starts = np.array([left + 60 * index for index in range(len(scores))])
    boxes = np.array([[x, 20, x + 40, 60, score, 0] for x, score in zip(starts, scores, strict=True)])
    confidences = np.broadcast_to(points, 2)
    keypoints = [[[x + 10 + shift, 30, confidences[0]], [x + 30 + shift, 30, confidences[1]]] for x in starts]
    return Results(
        IMAGE,
        "a.jpg",
        {0: "person"},
        boxes=boxes.reshape(-1, 6),
        keypoints=np.array(keypoints).reshape(-1, 2, 3),
        schema=SPEC.keypoints,
    )


def mirrored(original: Results) -> Results:
    """Return the detections of a network that is not affected by mirroring."""
    assert original.boxes is not None
    assert original.keypoints is not None
    boxes = np.array(original.boxes.data)
    boxes[:, [0, 2]] = 200 - boxes[:, [2, 0]]
    points = np.array(original.keypoints.data)[:, ::-1].copy()
    points[..., 0] = 200 - points[..., 0]
    return Results(IMAGE, "a.jpg", {0: "person"}, boxes=boxes, keypoints=points, schema=SPEC.keypoints)


@pytest.mark.parametrize(
    ("score", "expected"),
    [(0.5, 0.5), (0.1, 0.1 * 4 * 0.1 * 0.9), (0.9, 0.9 * 4 * 0.9 * 0.1)],
)
def test_a_single_instance_counts_by_its_confidence(score: float, expected: float) -> None:
    """One instance of confidence c: the weights c sum to less than 1, so the value is c · 4c(1 − c)."""
    original = result([score])
    assert UncertaintyScorer(SPEC).score(original, mirrored(original)).instances == pytest.approx(expected)


def test_several_instances_are_averaged_with_their_confidence() -> None:
    original = result([0.9, 0.6])
    expected = (0.9 * 4 * 0.9 * 0.1 + 0.6 * 4 * 0.6 * 0.4) / 1.5
    uncertainty = UncertaintyScorer(SPEC).score(original, mirrored(original))
    assert uncertainty.instances == pytest.approx(expected)
    assert "1 uncertain instance (confidence 0.60)" in uncertainty.details


def test_keypoints_are_named() -> None:
    original = result([0.99, 0.99], points=[0.5, 0.99])
    uncertainty = UncertaintyScorer(SPEC).score(original, mirrored(original))
    assert uncertainty.keypoints == pytest.approx((1 + 4 * 0.99 * 0.01) / 2)
    assert uncertainty.details == ("uncertain left_eye",)


def test_equal_views_agree_and_swapped_points_do_not() -> None:
    scorer = UncertaintyScorer(SPEC)
    original = result([0.99, 0.99])
    assert scorer.score(original, mirrored(original)).flip == pytest.approx(0, abs=1e-9)
    assert scorer.score(original, mirrored(result([0.99, 0.99], shift=2))).flip == pytest.approx(0.5)  # 2 of 40 pixels
    missing = scorer.score(original, mirrored(result([0.99])))
    assert missing.flip == pytest.approx(0.5)
    assert any("1 instance in one view only" in detail for detail in missing.details)


def test_no_detections_are_certain() -> None:
    empty = result([])
    uncertainty = UncertaintyScorer(SPEC).score(empty, mirrored(empty))
    assert (uncertainty.total, uncertainty.details) == (0, ("no instance was detected",))


def test_unknown_mirror_pairs_compare_boxes_only() -> None:
    spec = PoseSpec(classes=("person",), keypoints=KeypointSchema(count=2))
    original = result([0.99, 0.99])
    uncertainty = UncertaintyScorer(spec).score(original, mirrored(result([0.99, 0.99], shift=20)))
    assert uncertainty.flip == pytest.approx(0, abs=1e-9)


def candidate(name: str, uncertainty: float, features: list[float]) -> Candidate:
    vector = np.array(features, np.float32)
    record = ImageRecord(name=name, path=Path(name))
    return Candidate(record, Uncertainty(uncertainty, uncertainty, uncertainty), vector / np.linalg.norm(vector))


def names(candidates: list[Candidate], count: int) -> list[str]:
    return [suggestion.record.name for suggestion in suggest_images(candidates, count)]


def test_uncertain_and_different_images_come_first() -> None:
    candidates = [
        candidate("copy", 0.89, [1, 0, 0]),
        candidate("first", 0.9, [1, 0, 0]),
        candidate("other", 0.5, [0, 1, 0]),
        candidate("certain", 0.1, [0, 0, 1]),
    ]
    assert names(candidates, 4) == ["first", "other", "certain", "copy"]
    assert names(candidates, 9) == names(candidates, 4)
    assert suggest_images([], 3) == []


def test_equal_images_are_ordered_by_uncertainty() -> None:
    candidates = [candidate(str(value), value, [1, 1]) for value in (0.2, 0.6, 0.4)]
    assert names(candidates, 3) == ["0.6", "0.4", "0.2"]


def test_thumbnails_of_similar_images_are_close() -> None:
    random = np.random.default_rng(0)
    scene = cv2.resize(random.integers(0, 255, (6, 8, 3), np.uint8), (320, 240), interpolation=cv2.INTER_CUBIC)
    other = cv2.resize(random.integers(0, 255, (6, 8, 3), np.uint8), (320, 240), interpolation=cv2.INTER_CUBIC)
    noisy = np.clip(scene + random.normal(0, 8, scene.shape), 0, 255).astype(np.uint8)
    base, near, far = (thumbnail_features(image) for image in (scene, noisy, other))
    assert np.linalg.norm(base) == pytest.approx(1, abs=1e-5)
    assert np.linalg.norm(base - near) < 0.3 * np.linalg.norm(base - far)
    assert np.isfinite(thumbnail_features(np.zeros((5, 7, 3), np.uint8))).all()
