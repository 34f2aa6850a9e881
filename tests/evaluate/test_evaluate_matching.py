"""Greedy matching against reference values, a plain loop, and cases by hand; classification of keypoint errors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from yolopose.evaluate.matching import THRESHOLDS, KeypointOutcome, classify_errors, greedy_match, match_detections

FIXTURE = Path(__file__).parents[1] / "fixtures" / "metrics.npz"


def match_by_loops(similarity: np.ndarray, gt_classes: np.ndarray, classes: np.ndarray) -> np.ndarray:
    hits = np.zeros((len(classes), len(THRESHOLDS)), dtype=bool)
    for level, threshold in enumerate(THRESHOLDS):
        free = set(range(len(gt_classes)))
        for column, cls in enumerate(classes):
            candidates = [row for row in free if gt_classes[row] == cls and similarity[row, column] >= threshold]
            if candidates:
                free.remove(max(candidates, key=lambda row: similarity[row, column]))
                hits[column, level] = True
    return hits


def test_reference_values() -> None:
    data = np.load(FIXTURE)
    hits = match_detections(data["match.iou"], data["match.true_cls"], data["match.pred_cls"])
    np.testing.assert_array_equal(hits, data["match.correct"])


@pytest.mark.parametrize("seed", range(8))
def test_agrees_with_loops(seed: int) -> None:
    rng = np.random.default_rng(seed)
    num_gt, detections = rng.integers(1, 12), rng.integers(1, 60)
    similarity = rng.uniform(0, 1, (num_gt, detections)) ** 2
    gt_classes, classes = rng.integers(0, 3, num_gt), rng.integers(0, 3, detections)
    hits = match_detections(similarity, gt_classes, classes)
    np.testing.assert_array_equal(hits, match_by_loops(similarity, gt_classes, classes))


def test_second_choice_when_the_best_is_taken() -> None:
    similarity = np.array([[0.9, 0.8], [0.0, 0.6]])
    one = np.zeros(2, dtype=np.int64)
    assert greedy_match(similarity, np.array([0.5]))[:, 0].tolist() == [0, 1]
    # from .65, no ground truth is left for the second detection
    assert match_detections(similarity, one, one)[1].tolist() == [True] * 3 + [False] * 7


def test_similarity_equal_to_the_threshold_matches() -> None:
    one = np.zeros(1, dtype=np.int64)
    assert match_detections(np.array([[0.5]]), one, one)[0].tolist() == [True] + [False] * 9


def test_classes_do_not_mix() -> None:
    hits = match_detections(np.array([[1.0, 1.0]]), np.array([1]), np.array([0, 1]))
    assert hits[:, 0].tolist() == [False, True]


@pytest.mark.parametrize(("num_gt", "detections"), [(0, 3), (3, 0), (0, 0)])
def test_nothing_to_match(num_gt: int, detections: int) -> None:
    empty = np.zeros((num_gt, detections))
    hits = match_detections(empty, np.zeros(num_gt, dtype=np.int64), np.zeros(detections, dtype=np.int64))
    assert hits.shape == (detections, 10)
    assert not hits.any()


SIGMA, AREA = 0.05, 0.53 * 50 * 100
GT_POINTS = np.array([[[14, 30], [44, 30], [16, 90], [42, 90]], [[80, 34], [110, 34], [82, 94], [108, 94]]], float)


def classify(points: np.ndarray, gt_points: np.ndarray) -> tuple[list, np.ndarray, np.ndarray]:
    """Classify the keypoints of a detection that matches the first of two ground truths."""
    gt = np.concatenate((gt_points, np.full((2, 4, 1), 2)), axis=2)
    area, sigmas, flip_idx = np.array([AREA, AREA]), np.full(4, SIGMA), np.array([1, 0, 3, 2])
    result = classify_errors(points[None], np.array([0]), gt, area, sigmas, flip_idx)
    return result.outcome[0].tolist(), result.similarity[0], result.corrected[0]


def test_keypoint_errors_by_hand() -> None:
    points = GT_POINTS[0].copy()
    points[0] += (3, 3)  # jitter
    points[2] = GT_POINTS[1, 2]  # swap
    points[3] += (0, 25)  # miss
    outcome, similarity, corrected = classify(points, GT_POINTS)
    near = SIGMA * 2 * np.sqrt(2 * AREA)  # similarity at a distance of d pixels is exp(-(d/near)²)
    assert outcome == [KeypointOutcome.JITTER, KeypointOutcome.GOOD, KeypointOutcome.SWAP, KeypointOutcome.MISS]
    assert similarity == pytest.approx([np.exp(-18 / near**2), 1, 0, np.exp(-625 / near**2)], abs=1e-7)
    assert corrected == pytest.approx([0.85, 1, 1, 0.5], abs=1e-6)


def test_mirrored_keypoints_are_inversions() -> None:
    outcome, _, corrected = classify(GT_POINTS[0, [1, 0, 2, 3]], GT_POINTS)
    assert outcome == [KeypointOutcome.INVERSION, KeypointOutcome.INVERSION, KeypointOutcome.GOOD, KeypointOutcome.GOOD]
    assert corrected == pytest.approx([1, 1, 1, 1])


def test_keypoint_near_its_own_target_is_not_a_swap() -> None:
    outcome, _, _ = classify(GT_POINTS[0] + 3, np.stack((GT_POINTS[0], GT_POINTS[0] + 2)))
    assert outcome == [KeypointOutcome.JITTER] * 4


def test_nan_keypoints_are_misses() -> None:
    outcome, _, _ = classify(np.full((4, 2), np.nan), GT_POINTS)
    assert outcome == [KeypointOutcome.MISS] * 4
