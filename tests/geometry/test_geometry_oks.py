"""OKS against golden numbers, a plain loop, and cases worked out by hand."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from yolopose.geometry import oks


def by_loops(gt: np.ndarray, pred: np.ndarray, area: np.ndarray, sigmas: np.ndarray) -> np.ndarray:
    result = np.zeros((len(gt), len(pred)))
    for i, points in enumerate(gt):
        labeled = [k for k in range(len(sigmas)) if points[k, 2] != 0]
        for j, other in enumerate(pred):
            total = 0.0
            for k in labeled:
                d2 = (points[k, 0] - other[k, 0]) ** 2 + (points[k, 1] - other[k, 1]) ** 2
                total += math.exp(-d2 / ((2 * sigmas[k]) ** 2 * (area[i] + 1e-7) * 2))
            result[i, j] = total / len(labeled) if labeled else 0.0
    return result


def test_golden(shared: Path) -> None:
    data = np.load(shared / "fixtures" / "metrics.npz")
    value = oks(*(data[f"oks.{key}"] for key in ("truth", "pred", "area", "sigma")))
    np.testing.assert_allclose(value, data["oks.value"], rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("dims", [2, 3])
def test_agrees_with_loops(dims: int) -> None:
    rng = np.random.default_rng(dims)
    gt = np.concatenate((rng.uniform(0, 50, (5, 4, 2)), rng.integers(0, 3, (5, 4, 1))), axis=2)
    pred = rng.uniform(0, 50, (6, 4, dims))
    area, sigmas = rng.uniform(50, 900, 5), np.array([0.05, 0.1, 0.2, 0.4])
    np.testing.assert_allclose(oks(gt, pred, area, sigmas), by_loops(gt, pred, area, sigmas), rtol=1e-12)


def test_one_point() -> None:
    gt, pred = np.array([[[10.0, 10.0, 2.0]]]), np.array([[[13.0, 14.0]]])  # 5 pixels apart
    value = oks(gt, pred, np.array([100.0]), np.array([0.25]))
    assert value[0, 0] == pytest.approx(math.exp(-25 / (0.25 * 100 * 2)), rel=1e-6)


def test_unlabeled_points_do_not_count() -> None:
    gt = np.array([[[10.0, 10.0, 1.0], [0.0, 0.0, 0.0]], [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]])
    pred = np.array([[[10.0, 10.0], [500.0, 500.0]]])
    value = oks(gt, pred, np.array([100.0, 100.0]), np.array([0.1, 0.1]))
    # the hidden one (v = 1) counts; a gt without any labeled point is similar to nothing
    np.testing.assert_array_equal(value, [[1.0], [0.0]])


def test_zero_area() -> None:
    gt = np.array([[[10.0, 10.0, 2.0]]])
    near = oks(gt, gt, np.array([0.0]), np.array([0.1]))
    far = oks(gt, gt + 1, np.array([0.0]), np.array([0.1]))
    assert (near[0, 0], far[0, 0]) == (1.0, 0.0)


@pytest.mark.parametrize(("gts", "preds"), [(0, 3), (3, 0), (0, 0)])
def test_empty_inputs(gts: int, preds: int) -> None:
    value = oks(np.zeros((gts, 2, 3)), np.zeros((preds, 2, 3)), np.zeros(gts), np.ones(2))
    assert value.shape == (gts, preds)
