"""Greedy matching against golden numbers, a plain loop, and cases worked out by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from yolopose.evaluate.matching import THRESHOLDS, greedy_match, match_detections


def by_loops(similarity: np.ndarray, truth_classes: np.ndarray, classes: np.ndarray) -> np.ndarray:
    hits = np.zeros((len(classes), len(THRESHOLDS)), dtype=bool)
    for level, threshold in enumerate(THRESHOLDS):
        free = set(range(len(truth_classes)))
        for column, cls in enumerate(classes):
            rivals = [row for row in free if truth_classes[row] == cls and similarity[row, column] >= threshold]
            if rivals:
                free.remove(max(rivals, key=lambda row: similarity[row, column]))
                hits[column, level] = True
    return hits


def test_golden(shared: Path) -> None:
    data = np.load(shared / "fixtures" / "metrics.npz")
    hits = match_detections(data["match.iou"], data["match.true_cls"], data["match.pred_cls"])
    np.testing.assert_array_equal(hits, data["match.correct"])


@pytest.mark.parametrize("seed", range(8))
def test_agrees_with_loops(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truths, detections = rng.integers(1, 12), rng.integers(1, 60)
    similarity = rng.uniform(0, 1, (truths, detections)) ** 2
    truth_classes, classes = rng.integers(0, 3, truths), rng.integers(0, 3, detections)
    hits = match_detections(similarity, truth_classes, classes)
    np.testing.assert_array_equal(hits, by_loops(similarity, truth_classes, classes))


def test_second_choice_when_the_best_is_taken() -> None:
    similarity = np.array([[0.9, 0.8], [0.0, 0.6]])
    one = np.zeros(2, dtype=np.int64)
    assert greedy_match(similarity, np.array([0.5]))[:, 0].tolist() == [0, 1]
    # at .65 and above, the second detection finds nothing free
    assert match_detections(similarity, one, one)[1].tolist() == [True] * 3 + [False] * 7


def test_a_similarity_that_equals_the_threshold_is_a_hit() -> None:
    one = np.zeros(1, dtype=np.int64)
    assert match_detections(np.array([[0.5]]), one, one)[0].tolist() == [True] + [False] * 9


def test_classes_keep_apart() -> None:
    hits = match_detections(np.array([[1.0, 1.0]]), np.array([1]), np.array([0, 1]))
    assert hits[:, 0].tolist() == [False, True]


@pytest.mark.parametrize(("truths", "detections"), [(0, 3), (3, 0), (0, 0)])
def test_nothing_to_match(truths: int, detections: int) -> None:
    empty = np.zeros((truths, detections))
    hits = match_detections(empty, np.zeros(truths, dtype=np.int64), np.zeros(detections, dtype=np.int64))
    assert hits.shape == (detections, 10)
    assert not hits.any()
