"""Average precision and curves against reference values, a direct implementation of the protocol, and by hand."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from yolopose.evaluate.metric import Metric, average_precision, precision_envelope, smooth

FIXTURE = Path(__file__).parents[1] / "fixtures" / "metrics.npz"


def score(hits: np.ndarray, conf: np.ndarray, det_classes: np.ndarray, gt_classes: np.ndarray) -> Metric:
    metric = Metric(10)
    metric.update(hits, conf, det_classes, gt_classes)
    return metric


def naive_ap(hits: np.ndarray, conf: np.ndarray, num_gt: int) -> float:
    """AP of one class at one threshold, directly from the definition."""
    curve = [(0.0, 1.0)]
    tp = 0
    for rank, index in enumerate(sorted(range(len(hits)), key=lambda i: -conf[i]), start=1):
        tp += bool(hits[index])
        curve.append((tp / num_gt, tp / rank))
    curve += [(curve[-1][0], 0.0), (1.0, 0.0)]
    envelope = [max(p for _, p in curve[i:]) for i in range(len(curve))]
    heights = np.interp(np.linspace(0, 1, 101), [r for r, _ in curve], envelope)
    return sum((a + b) / 2 * 0.01 for a, b in pairwise(heights))


def naive_curves(level: float, hits: np.ndarray, conf: np.ndarray, num_gt: int) -> tuple[float, float]:
    """Precision and recall of one class at one confidence, interpolated between neighboring confidences."""
    order = np.argsort(-conf, kind="stable")
    tp = hits[order].cumsum()
    precision, recall, conf = tp / np.arange(1, len(tp) + 1), tp / num_gt, conf[order]
    if level > conf[0]:
        return 1.0, 0.0
    if level <= conf[-1]:
        return float(precision[-1]), float(recall[-1])
    above = int((conf >= level).sum()) - 1
    share = (conf[above] - level) / (conf[above] - conf[above + 1])
    p, r = (values[above] + share * (values[above + 1] - values[above]) for values in (precision, recall))
    return float(p), float(r)


@pytest.mark.parametrize("case", ["one_class", "three", "few"])
def test_reference_values(case: str) -> None:
    data = np.load(FIXTURE)
    metric = score(*(data[f"ap.{case}.{key}"] for key in ("tp", "conf", "pred_cls", "target_cls")))
    names = {"p": "p", "r": "r", "f1": "f1", "ap": "all_ap", "classes": "ap_class_index"}
    for key, name in names.items():
        np.testing.assert_allclose(getattr(metric, name), data[f"ap.{case}.{key}"], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_agrees_with_the_definition(seed: int) -> None:
    rng = np.random.default_rng(seed)
    count = 40 + 20 * seed
    hits = rng.random((count, 10)) < np.linspace(0.5, 0.1, 10)
    conf, classes = rng.permutation(count) / count * 0.9, rng.integers(0, 4, count)
    gt_classes = np.repeat([0, 2, 3, 9], [60, 50, 70, 5])
    metric = score(hits, conf, classes, gt_classes)
    assert metric.ap_class_index.tolist() == [0, 2, 3, 9]
    for row, cls in enumerate(metric.ap_class_index):
        rows, num_gt = classes == cls, int((gt_classes == cls).sum())
        if not rows.any():
            assert not metric.all_ap[row].any()
            continue
        expected = [naive_ap(hits[rows, level], conf[rows], num_gt) for level in range(10)]
        np.testing.assert_allclose(metric.all_ap[row], expected, rtol=1e-9)
        for point in (0, 137, 500, 850, 999):
            p, r = naive_curves(metric.px[point], hits[rows, 0], conf[rows], num_gt)
            assert metric.p_curve[row, point] == pytest.approx(p, rel=1e-9)
            assert metric.r_curve[row, point] == pytest.approx(r, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("num_gt", [1, 3, 7, 20, 50, 99, 100, 101, 300])
def test_recalls_on_the_grid_of_101(num_gt: int) -> None:
    # recalls such as 7/100 lie on the grid itself, where rounding decides which step is read
    rng = np.random.default_rng(num_gt)
    hits = rng.random(2 * num_gt) < 0.5
    hits[np.cumsum(hits) > num_gt] = False
    conf = np.linspace(0.9, 0.1, len(hits))
    ranks = np.flatnonzero(hits) + 1
    ap = average_precision(np.arange(1, len(ranks) + 1)[:, None], ranks[:, None], np.array([num_gt]))
    assert ap[0] == pytest.approx(naive_ap(hits, conf, num_gt), abs=1e-12)


def test_best_f1_is_read_from_the_smoothed_mean() -> None:
    rng = np.random.default_rng(3)
    hits, conf = np.repeat(rng.random((90, 1)) < 0.6, 10, axis=1), rng.random(90)
    metric = score(hits, conf, np.zeros(90), np.zeros(80))
    curve = metric.f1_curve[0]
    padded = np.concatenate((np.full(50, curve[0]), curve, np.full(50, curve[-1])))
    best = int(np.argmax([padded[i : i + 101].mean() for i in range(1000)]))
    assert metric.f1[0] == curve[best]
    assert (metric.p[0], metric.r[0]) == (metric.p_curve[0, best], metric.r_curve[0, best])


def test_only_true_or_only_false_positives() -> None:
    conf = np.array([0.9, 0.8, 0.7, 0.6])
    # the curve falls to 0 at recall 1 itself, so that the last trapezoid is half: .995 is the maximum
    np.testing.assert_allclose(score(np.ones((4, 10), dtype=bool), conf, np.zeros(4), np.zeros(4)).all_ap, 0.995)
    assert not score(np.zeros((4, 10), dtype=bool), conf, np.zeros(4), np.zeros(4)).all_ap.any()


def test_half_recall_by_hand() -> None:
    recall, precision = precision_envelope(np.array([0.5]), np.array([1.0]))
    assert recall.tolist() == [0.0, 0.5, 0.5, 1.0]
    assert precision.tolist() == [1.0, 1.0, 0.0, 0.0]
    # 50 full steps; at recall .5 itself the curve is 0, so that the last trapezoid is half
    assert average_precision(np.array([[1]]), np.array([[1]]), np.array([2])) == pytest.approx(0.495)


def test_equal_confidences_keep_their_order() -> None:
    hits = np.repeat([[True], [False]], 10, axis=1)
    first = score(hits, np.array([0.5, 0.5]), np.zeros(2), np.zeros(1))
    second = score(hits[::-1], np.array([0.5, 0.5]), np.zeros(2), np.zeros(1))
    assert first.all_ap[0, 0] > second.all_ap[0, 0]


def test_no_ground_truth_or_no_detections() -> None:
    empty, no_hits = np.zeros(0), np.zeros((0, 10), dtype=bool)
    metric = score(no_hits, empty, empty, empty)
    assert (metric.all_ap.shape, metric.p.shape, metric.p_curve.shape) == ((0, 10), (0,), (0, 1000))
    assert len(score(np.zeros((2, 10), dtype=bool), np.ones(2), np.zeros(2), empty).ap_class_index) == 0
    missed = score(no_hits, empty, empty, np.zeros(3))
    assert (missed.ap_class_index.tolist(), missed.all_ap.sum(), missed.p[0], missed.r[0]) == ([0], 0.0, 0.0, 0.0)


def test_smoothing_keeps_a_constant_and_the_length() -> None:
    np.testing.assert_allclose(smooth(np.full(1000, 0.7)), np.full(1000, 0.7))
