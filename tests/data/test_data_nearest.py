"""Nearest rows and similar pairs against all similarities, computed at once; several blocks."""

from __future__ import annotations

import numpy as np
import pytest

from yolopose.data import nearest
from yolopose.data.nearest import nearest_rows, similar_pairs, unit_vectors


@pytest.fixture
def rows() -> np.ndarray:
    return unit_vectors(np.random.default_rng(0).normal(size=(50, 8)))


@pytest.mark.parametrize("block", [1, 130, 1 << 24])
@pytest.mark.parametrize("count", [1, 7, 50, 99])
def test_nearest_rows(rows: np.ndarray, count: int, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nearest, "_BLOCK_VALUES", block)
    indices, similarities = nearest_rows(rows[:9], rows, count)
    every = rows[:9] @ rows.T
    expected = np.argsort(-every, axis=1, kind="stable")[:, :count]
    np.testing.assert_array_equal(indices, expected)
    np.testing.assert_allclose(similarities, np.take_along_axis(every, expected, axis=1), atol=1e-6)


def test_no_rows() -> None:
    indices, similarities = nearest_rows(np.ones((2, 3), np.float32), np.zeros((0, 3), np.float32), 5)
    assert indices.shape == similarities.shape == (2, 0)


@pytest.mark.parametrize("block", [60, 1 << 24])
def test_similar_pairs(rows: np.ndarray, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nearest, "_BLOCK_VALUES", block)
    every = np.triu(rows @ rows.T, 1)
    assert {tuple(pair) for pair in similar_pairs(rows, 0.5).tolist()} == set(
        zip(*map(np.ndarray.tolist, np.nonzero(every >= 0.5)), strict=True)
    )


def test_unit_vectors_of_rows_without_direction() -> None:
    rows = unit_vectors(np.array([[3.0, 4.0], [0.0, 0.0], [np.nan, 1.0], [np.inf, 0.0]]))
    np.testing.assert_allclose(rows, [[0.6, 0.8], [0, 0], [0, 0], [0, 0]], atol=1e-6)
