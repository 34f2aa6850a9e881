"""Average precision and curves against golden numbers, a plain reading of the protocol, and cases by hand."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from yolopose.evaluate.average_precision import area_under, envelope, score_classes, smooth


def naive_ap(hits: np.ndarray, confidence: np.ndarray, truths: int) -> float:
    """AP of one class at one threshold, straight from the words of the protocol."""
    curve = [(0.0, 1.0)]
    true = 0
    for rank, index in enumerate(sorted(range(len(hits)), key=lambda i: -confidence[i]), start=1):
        true += bool(hits[index])
        curve.append((true / truths, true / rank))
    curve += [(curve[-1][0], 0.0), (1.0, 0.0)]
    best = [max(p for _, p in curve[i:]) for i in range(len(curve))]
    heights = np.interp(np.linspace(0, 1, 101), [r for r, _ in curve], best)
    return sum((a + b) / 2 * 0.01 for a, b in pairwise(heights))


def naive_at(level: float, hits: np.ndarray, confidence: np.ndarray, truths: int) -> tuple[float, float]:
    """Precision and recall of one class at one confidence, between its neighbors in confidence."""
    order = np.argsort(-confidence, kind="stable")
    true = hits[order].cumsum()
    precision, recall, conf = true / np.arange(1, len(true) + 1), true / truths, confidence[order]
    if level > conf[0]:
        return 1.0, 0.0
    if level <= conf[-1]:
        return float(precision[-1]), float(recall[-1])
    above = int((conf >= level).sum()) - 1
    share = (conf[above] - level) / (conf[above] - conf[above + 1])
    pick = [values[above] + share * (values[above + 1] - values[above]) for values in (precision, recall)]
    return float(pick[0]), float(pick[1])


@pytest.mark.parametrize("case", ["one_class", "three", "few"])
def test_golden(shared: Path, case: str) -> None:
    data = np.load(shared / "fixtures" / "metrics.npz")
    scores = score_classes(*(data[f"ap.{case}.{key}"] for key in ("tp", "conf", "pred_cls", "target_cls")))
    for key in ("p", "r", "f1", "ap", "classes"):
        np.testing.assert_allclose(getattr(scores, key), data[f"ap.{case}.{key}"], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_agrees_with_a_plain_reading(seed: int) -> None:
    rng = np.random.default_rng(seed)
    count = 40 + 20 * seed
    hits = rng.random((count, 10)) < np.linspace(0.5, 0.1, 10)
    confidence, classes = rng.permutation(count) / count * 0.9, rng.integers(0, 4, count)
    truth = np.repeat([0, 2, 3, 9], [60, 50, 70, 5])
    scores = score_classes(hits, confidence, classes, truth)
    assert scores.classes.tolist() == [0, 2, 3, 9]
    for row, cls in enumerate(scores.classes):
        mine, truths = classes == cls, int((truth == cls).sum())
        if not mine.any():
            assert not scores.ap[row].any()
            continue
        expected = [naive_ap(hits[mine, level], confidence[mine], truths) for level in range(10)]
        np.testing.assert_allclose(scores.ap[row], expected, rtol=1e-9)
        for point in (0, 137, 500, 850, 999):
            p, r = naive_at(scores.px[point], hits[mine, 0], confidence[mine], truths)
            assert scores.p_curve[row, point] == pytest.approx(p, rel=1e-9)
            assert scores.r_curve[row, point] == pytest.approx(r, rel=1e-9, abs=1e-12)


def test_best_f1_is_read_from_the_smoothed_mean() -> None:
    rng = np.random.default_rng(3)
    hits, confidence = np.repeat(rng.random((90, 1)) < 0.6, 10, axis=1), rng.random(90)
    scores = score_classes(hits, confidence, np.zeros(90), np.zeros(80))
    padded = np.concatenate(
        (np.full(50, scores.f1_curve[0, 0]), scores.f1_curve[0], np.full(50, scores.f1_curve[0, -1]))
    )
    best = int(np.argmax([padded[i : i + 101].mean() for i in range(1000)]))
    assert scores.f1[0] == scores.f1_curve[0, best]
    assert (scores.p[0], scores.r[0]) == (scores.p_curve[0, best], scores.r_curve[0, best])


def test_perfect_and_useless_detections() -> None:
    perfect = score_classes(np.ones((4, 10), dtype=bool), np.array([0.9, 0.8, 0.7, 0.6]), np.zeros(4), np.zeros(4))
    useless = score_classes(np.zeros((4, 10), dtype=bool), np.array([0.9, 0.8, 0.7, 0.6]), np.zeros(4), np.zeros(4))
    # the curve falls to 0 at recall 1 itself, so that the last trapezoid is half: .995 is the best there is
    np.testing.assert_allclose(perfect.ap, 0.995)
    assert not useless.ap.any()


def test_half_recall_by_hand() -> None:
    recall, precision = envelope(np.array([0.5]), np.array([1.0]))
    assert recall.tolist() == [0.0, 0.5, 0.5, 1.0]
    assert precision.tolist() == [1.0, 1.0, 0.0, 0.0]
    # 50 whole steps, and where recall .5 itself is read, the fall counts: half of a step less
    assert area_under(recall, precision) == pytest.approx(0.495)


def test_equal_confidences_keep_their_order() -> None:
    hits = np.repeat([[True], [False]], 10, axis=1)
    first = score_classes(hits, np.array([0.5, 0.5]), np.zeros(2), np.zeros(1))
    second = score_classes(hits[::-1], np.array([0.5, 0.5]), np.zeros(2), np.zeros(1))
    assert first.ap[0, 0] > second.ap[0, 0]


def test_no_truth_or_no_detections() -> None:
    nothing, none = np.zeros(0), np.zeros((0, 10), dtype=bool)
    empty = score_classes(none, nothing, nothing, nothing)
    assert (empty.ap.shape, empty.p.shape, empty.p_curve.shape) == ((0, 10), (0,), (0, 1000))
    invented = score_classes(np.zeros((2, 10), dtype=bool), np.ones(2), np.zeros(2), nothing)
    assert len(invented.classes) == 0
    missed = score_classes(none, nothing, nothing, np.zeros(3))
    assert (missed.classes.tolist(), missed.ap.sum(), missed.p[0], missed.r[0]) == ([0], 0.0, 0.0, 0.0)


def test_smoothing_keeps_a_constant_and_the_length() -> None:
    np.testing.assert_allclose(smooth(np.full(1000, 0.7)), np.full(1000, 0.7))
