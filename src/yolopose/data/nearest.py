"""Nearest vectors by cosine similarity, in blocks, so that the memory does not grow with the number of pairs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]

_BLOCK_VALUES = 1 << 24
"""Similarities that are computed at once: 64 MiB."""


def unit_vectors(vectors: npt.NDArray[np.floating[Any]]) -> Float32:
    """Return (N, D) rows of length 1; rows of zeros, and those with values that are not finite, become zeros."""
    rows = np.asarray(vectors, dtype=np.float32)
    rows = np.where(np.isfinite(rows).all(axis=1, keepdims=True), rows, np.float32(0))
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def nearest_rows(queries: Float32, vectors: Float32, count: int) -> tuple[npt.NDArray[np.int64], Float32]:
    """Return the most similar rows of `vectors` for each query.

    Args:
        queries: (Q, D) of length 1.
        vectors: (N, D) of length 1.
        count: rows for each query.

    Returns:
        (Q, k) indices by descending similarity, and (Q, k) similarities, k = min(count, N).
    """
    k = min(count, len(vectors))
    indices = np.zeros((len(queries), k), dtype=np.int64)
    similarities = np.zeros((len(queries), k), dtype=np.float32)
    for start, block in _blocks(queries, vectors):
        # a partition first: sorting all similarities would take most of the time
        candidates = np.argpartition(-block, k - 1, axis=1)[:, :k] if k else np.zeros((len(block), 0), np.int64)
        values = np.take_along_axis(block, candidates, axis=1)
        order = np.lexsort((candidates, -values), axis=1)
        rows = slice(start, start + len(block))
        indices[rows] = np.take_along_axis(candidates, order, axis=1)
        similarities[rows] = np.take_along_axis(values, order, axis=1)
    return indices, similarities


def similar_pairs(vectors: Float32, threshold: float) -> npt.NDArray[np.int64]:
    """Return (P, 2) pairs i < j of rows with at least this similarity.

    Args:
        vectors: (N, D) of length 1, or zeros, which are similar to none.
        threshold: above 0.
    """
    pairs = [np.zeros((0, 2), dtype=np.int64)]
    for start, block in _blocks(vectors, vectors):
        rows, columns = np.nonzero(block >= threshold)
        rows = rows + start
        pairs.append(np.stack((rows, columns), 1)[columns > rows])
    return np.concatenate(pairs)


def _blocks(queries: Float32, vectors: Float32) -> Iterator[tuple[int, Float32]]:
    """Yield the first query of each block, and the similarities of its queries to all vectors."""
    size = max(_BLOCK_VALUES // max(len(vectors), 1), 1)
    for start in range(0, len(queries), size):
        yield start, queries[start : start + size] @ vectors.T
