"""Compare the shapes of instances: left/right swaps against the rest of the set, mirror pairs of a schema.

Shapes are complex vectors x + i·y, so that the best similarity transform (rotation, scale, translation, no reflection)
between two of them has a closed form: with centered a and b over their common points, the squared relative residual is
1 − |⟨a, b⟩|² / (|a|²·|b|²).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

ComplexArray = npt.NDArray[np.complex128]
BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float64]
Pair = tuple[int, int]

MIN_INSTANCES = 20
"""Fewest instances among which swaps are searched."""

_MAX_REFERENCES = 256
_MIN_REFERENCES = 10  # with enough common points
_QUANTILE = 0.15  # share of the references that an instance must resemble; fewer swapped ones cannot hide each other
_CHUNK = 2048
_NEIGHBORS = 8
_MAX_PAIRS = 32
_MIN_GAIN = 0.35  # log of the ratio of residuals without and with the swap
_MIN_CONTRAST = 0.25  # log by which swapping makes the median instance worse; less: the set has no typical sides
_MIN_Z = 4.0
_MIN_LENGTH = 0.08  # of a vector from left to right that votes, as a share of the size of the instance


@dataclass(frozen=True, slots=True)
class Swap:
    """An instance whose left and right keypoints are probably swapped.

    Attributes:
        instance: its index.
        pairs: the swapped pairs of keypoints.
        gain: how many times closer to other instances the shape is after the swap, or the ratio of votes.
    """

    instance: int
    pairs: tuple[Pair, ...]
    gain: float


def mirror_pairs(flip_idx: Sequence[int] | None) -> list[Pair]:
    """Return the pairs (a, b), a < b, that a flip exchanges."""
    return [(a, b) for a, b in enumerate(flip_idx or ()) if a < b and flip_idx is not None and flip_idx[b] == a]


def shape_residuals(shapes: ComplexArray, labeled: BoolArray, others: ComplexArray, others_labeled: BoolArray) -> Any:
    """Return the relative residual of each shape to each other one after the best similarity transform.

    Args:
        shapes: (N, K).
        labeled: (N, K), which points count.
        others: (R, K).
        others_labeled: (R, K).

    Returns:
        (N, R) 0…1; infinite where fewer than three points, or than 60 % of the labeled ones, are common.
    """
    a = np.where(labeled, shapes, 0)
    b = np.where(others_labeled, others, 0)
    a_mask = labeled.astype(np.float64)
    b_mask = others_labeled.astype(np.float64)
    count = a_mask @ b_mask.T
    safe = np.maximum(count, 1)
    sum_a = a @ b_mask.T
    sum_b = a_mask @ b.T
    inner = a @ b.conj().T - sum_a * sum_b.conj() / safe
    norm_a = (np.abs(a) ** 2) @ b_mask.T - np.abs(sum_a) ** 2 / safe
    norm_b = a_mask @ (np.abs(b) ** 2).T - np.abs(sum_b) ** 2 / safe
    product = norm_a * norm_b
    cosine = np.abs(inner) ** 2 / np.maximum(product, 1e-12)
    residual = np.sqrt(np.clip(1 - cosine, 0, 1))
    needed = np.maximum(3, np.ceil(0.6 * a_mask.sum(axis=1)))[:, None]
    return np.where((count >= needed) & (product > 1e-9), residual, np.inf)


def _typical_residuals(
    shapes: ComplexArray, labeled: BoolArray, references: npt.NDArray[np.int64], all_shapes: ComplexArray,
    all_labeled: BoolArray, own: npt.NDArray[np.int64],
) -> FloatArray:  # fmt: skip
    """Return the residual to the closest 15 % of the references; NaN where too few are comparable.

    Args:
        shapes: (n, K), variants of some instances.
        labeled: (n, K).
        references: indices of the reference instances in `all_shapes`.
        all_shapes: (N, K) as labeled.
        all_labeled: (N, K).
        own: (n,) index of each variant's instance, which is not compared with itself.
    """
    result = np.full(len(shapes), np.nan)
    for start in range(0, len(shapes), _CHUNK):
        rows = slice(start, start + _CHUNK)
        residual = shape_residuals(shapes[rows], labeled[rows], all_shapes[references], all_labeled[references])
        residual[own[rows][:, None] == references[None]] = np.inf
        count = np.isfinite(residual).sum(axis=1)
        ordered = np.sort(residual, axis=1)
        position = np.floor(_QUANTILE * np.maximum(count - 1, 0)).astype(np.int64)
        values = ordered[np.arange(len(ordered)), position]
        result[rows] = np.where(count >= _MIN_REFERENCES, values, np.nan)
    return np.maximum(result, 1e-3)


def find_swaps(shapes: ComplexArray, labeled: BoolArray, scales: FloatArray, pairs: Sequence[Pair]) -> list[Swap]:
    """Find instances whose left and right are exchanged: all pairs, or single ones.

    Args:
        shapes: (N, K) points in pixels.
        labeled: (N, K).
        scales: (N,) size of the instances, pixels.
        pairs: the mirror pairs.
    """
    pairs = list(pairs)[:_MAX_PAIRS]
    if not pairs:
        return []
    swaps = {swap.instance: swap for swap in _single_swaps(shapes, labeled, scales, pairs)}
    swaps |= {swap.instance: swap for swap in _complete_swaps(shapes, labeled, pairs)}
    return [swaps[instance] for instance in sorted(swaps)]


def _complete_swaps(shapes: ComplexArray, labeled: BoolArray, pairs: Sequence[Pair]) -> list[Swap]:
    """Find instances that resemble the others much better with all pairs exchanged.

    Most instances are labeled right, so that the residual to the closest 15 % of them is small. Swapping the sides of
    a right instance makes it worse, and of a swapped one better. An instance is reported if the gain is an outlier
    among the gains of all; sets without typical sides (people seen from the front and from behind) have no outliers.
    """
    complete = np.stack([labeled[:, a] & labeled[:, b] for a, b in pairs], axis=1)
    usable = np.flatnonzero(complete.any(axis=1) & (labeled.sum(axis=1) >= 3))
    if len(usable) < MIN_INSTANCES:
        return []
    references = usable[np.linspace(0, len(usable) - 1, min(len(usable), _MAX_REFERENCES)).astype(np.int64)]
    order = np.arange(shapes.shape[1])
    for a, b in pairs:
        order[[a, b]] = b, a
    before = _typical_residuals(shapes[usable], labeled[usable], references, shapes, labeled, usable)
    swapped = shapes[usable][:, order]
    after = _typical_residuals(swapped, labeled[usable][:, order], references, shapes, labeled, usable)
    gain = np.log(before / after)
    valid = np.isfinite(gain)
    if valid.sum() < MIN_INSTANCES:
        return []
    middle, spread = robust_location(gain[valid])
    if middle > -_MIN_CONTRAST:
        return []
    limit = np.quantile(before[valid], 0.9)
    gain = np.where(valid, gain, -np.inf)
    rows = np.flatnonzero((gain > _MIN_GAIN) & ((gain - middle) / spread > _MIN_Z) & (after <= limit)).tolist()
    return [
        Swap(
            int(usable[row]),
            tuple(pair for pair in pairs if labeled[usable[row], pair[0]] or labeled[usable[row], pair[1]]),
            float(np.exp(gain[row])),
        )
        for row in rows
    ]


def _single_swaps(shapes: ComplexArray, labeled: BoolArray, scales: FloatArray, pairs: Sequence[Pair]) -> list[Swap]:
    """Find single pairs that point against the other pairs of their instance.

    The vectors from left to right of shoulders, hips, ears, … agree in direction in nearly all instances. Two pairs of
    a schema vote on each other if at most 1 % of the instances disagree; a pair with at least three votes against it,
    and three times as many as for it, is swapped. Only long vectors vote, which are seen from the front or from
    behind; crossed legs and arms are too frequent to vote.
    """
    if len(pairs) < 3:
        return []
    first, second = (np.array([pair[side] for pair in pairs]) for side in (0, 1))
    vectors = shapes[:, second] - shapes[:, first]
    lengths = np.abs(vectors)
    both = labeled[:, first] & labeled[:, second]
    relative = lengths / np.maximum(scales[:, None], 1e-9)
    typical = np.array([np.median(relative[both[:, p], p]) if both[:, p].any() else np.inf for p in range(len(pairs))])
    valid = both & (relative >= 0.8 * typical) & (relative >= _MIN_LENGTH)
    unit = np.where(valid, vectors / np.maximum(lengths, 1e-9), 0)
    cosine = (unit[:, :, None] * unit[:, None, :].conj()).real
    agree = cosine > 0.5
    oppose = cosine < -0.5
    num_agree, num_oppose = agree.sum(axis=0), oppose.sum(axis=0)
    total = num_agree + num_oppose
    votes = (total >= MIN_INSTANCES) & (num_oppose <= np.maximum(1, 0.01 * total))
    np.fill_diagonal(votes, False)
    against = (oppose & votes).sum(axis=2)
    support = (agree & votes).sum(axis=2)
    wrong = (against >= 3) & (against >= 3 * support)
    return [
        Swap(
            int(row),
            tuple(pairs[p] for p in np.flatnonzero(wrong[row]).tolist()),
            float((against[row] + 1).max() / (support[row][wrong[row]] + 1).max()),
        )
        for row in np.flatnonzero(wrong.any(axis=1))
        if wrong[row].sum() < max(valid[row].sum() / 2, 1.5)
    ]


def robust_location(values: FloatArray) -> tuple[float, float]:
    """Return the median and the scaled median absolute deviation (σ of a normal distribution), at least 1e-6."""
    middle = float(np.median(values))
    return middle, max(1.4826 * float(np.median(np.abs(values - middle))), 1e-6)


def point_deviations(shapes: ComplexArray, labeled: BoolArray, scales: FloatArray) -> FloatArray:
    """Return how far each point is from where the most similar other instances have it.

    Each shape is compared with up to `_MAX_REFERENCES` others; the eight most similar ones are aligned with it, and the
    median of their points is the expected position.

    Args:
        shapes: (N, K) points in pixels.
        labeled: (N, K).
        scales: (N,) size of the instances, pixels.

    Returns:
        (N, K) distances as a share of the size; NaN where a point or enough neighbors are not labeled.
    """
    result = np.full(shapes.shape, np.nan)
    references = np.linspace(0, len(shapes) - 1, min(len(shapes), _MAX_REFERENCES)).astype(np.int64)
    for start in range(0, len(shapes), _CHUNK):
        rows = np.arange(start, min(start + _CHUNK, len(shapes)))
        residual = shape_residuals(shapes[rows], labeled[rows], shapes[references], labeled[references])
        residual[rows[:, None] == references[None]] = np.inf
        nearest = np.argsort(residual, axis=1)[:, :_NEIGHBORS]
        for i, row in enumerate(rows.tolist()):
            neighbors = references[nearest[i][np.isfinite(residual[i, nearest[i]])]]
            if len(neighbors) >= 3:
                result[row] = _deviation(shapes, labeled, row, neighbors) / max(float(scales[row]), 1e-9)
    return result


def _deviation(shapes: ComplexArray, labeled: BoolArray, index: int, neighbors: npt.NDArray[np.int64]) -> FloatArray:
    """Return the distance of each point from the median of its aligned neighbors, pixels; NaN where unlabeled."""
    own = shapes[index]
    mask = labeled[neighbors] & labeled[index]
    weights = mask.astype(np.float64)
    count = np.maximum(weights.sum(axis=1, keepdims=True), 1)
    others = shapes[neighbors]
    own_mean = (weights * own).sum(axis=1, keepdims=True) / count
    other_mean = (weights * others).sum(axis=1, keepdims=True) / count
    centered = weights * (others - other_mean)
    norm = np.maximum((np.abs(centered) ** 2).sum(axis=1, keepdims=True), 1e-12)
    factor = (centered.conj() * (own - own_mean)).sum(axis=1, keepdims=True) / norm
    aligned = (others - other_mean) * factor + own_mean
    result = np.full(len(own), np.nan)
    enough = mask.sum(axis=0) >= 3
    for k in np.flatnonzero(enough):
        points = aligned[mask[:, k], k]
        result[k] = abs(own[k] - complex(np.median(points.real), np.median(points.imag)))
    return result


def infer_mirror(shapes: ComplexArray, labeled: BoolArray) -> tuple[int, ...] | None:
    """Infer `flip_idx` from the geometry of symmetric objects, such as faces seen from the front.

    The mean shape is mirrored and aligned with itself by iterated closest points. The mapping is returned only if it
    exchanges points in pairs, and fits the mean and most single instances.

    Args:
        shapes: (N, K) points in pixels.
        labeled: (N, K).
    """
    complete = np.flatnonzero(labeled.mean(axis=1) > 0.9)
    if shapes.shape[1] < 5 or len(complete) < 2:
        return None
    base = shapes[complete[0]]
    aligned = [base, *(_align(shapes[row], base, labeled[row] & labeled[complete[0]]) for row in complete[1:200])]
    mean = np.mean(aligned, axis=0)
    mean = (mean - mean.mean()) / max(float(np.abs(mean - mean.mean()).std()), 1e-9)
    mapping = _closest_mirror(mean)
    if mapping is None:
        return None
    residuals: list[float] = []
    for row in complete[:200]:
        mirrored = -shapes[row].conj()[mapping]
        mask = labeled[row] & labeled[row][mapping]
        residuals.append(float(shape_residuals(mirrored[None], mask[None], shapes[row][None], mask[None])[0, 0]))
    fits = float(np.mean(np.array(residuals) < 0.2))
    return tuple(mapping.tolist()) if fits >= 0.8 else None


def _closest_mirror(mean: ComplexArray) -> npt.NDArray[np.int64] | None:
    """Return the permutation that maps each point of a shape to the closest point of its mirror image."""
    mirrored = -mean.conj()
    for _ in range(30):
        closest = np.abs(mean[:, None] - mirrored[None]).argmin(axis=1)
        a = mirrored[closest]
        centered = a - a.mean()
        norm = max(float((np.abs(centered) ** 2).sum()), 1e-12)
        factor = complex(centered.conj() @ (mean - mean.mean())) / norm
        mirrored = (mirrored - a.mean()) * factor + mean.mean()
    distances = np.abs(mean[:, None] - mirrored[None])
    mapping = _greedy_pairs(distances + distances.T)
    gaps = np.abs(mean[:, None] - mean[None]) + np.where(np.eye(len(mean), dtype=np.bool_), np.inf, 0)
    exchanged = int((mapping != np.arange(len(mean))).sum())
    close = float(np.median(distances[np.arange(len(mean)), mapping])) < 0.5 * float(np.median(gaps.min(axis=1)))
    return mapping if exchanged >= max(4, len(mean) // 3) and close else None


def _greedy_pairs(distances: FloatArray) -> npt.NDArray[np.int64]:
    """Return for each point its partner, possibly itself, the closest pairs first.

    Args:
        distances: (K, K) symmetric.
    """
    mapping = np.full(len(distances), -1, dtype=np.int64)
    for flat in np.argsort(distances, axis=None).tolist():
        row, column = divmod(flat, len(distances))
        if mapping[row] < 0 and mapping[column] < 0:
            mapping[row] = column
            mapping[column] = row
    return mapping


def _align(shape: ComplexArray, target: ComplexArray, common: BoolArray) -> ComplexArray:
    """Return a shape after the similarity transform that brings its common points closest to the target."""
    a = shape[common]
    b = target[common]
    if len(a) < 2:
        return shape
    centered = a - a.mean()
    norm = float((np.abs(centered) ** 2).sum())
    factor = (centered.conj() @ (b - b.mean())) / max(norm, 1e-12)
    return (shape - a.mean()) * factor + b.mean()
