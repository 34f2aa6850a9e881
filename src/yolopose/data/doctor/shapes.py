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
_MAX_PAIRS = 32
_MIN_GAIN = 0.35  # log of the ratio of residuals without and with the swap
_MIN_CONTRAST = 0.25  # by which swapping makes the median instance worse; less: the set has no typical sides
_MIN_Z = 4.0


@dataclass(frozen=True, slots=True)
class Swap:
    """An instance whose left and right keypoints are probably swapped.

    Attributes:
        instance: its index.
        pairs: the swapped pairs of keypoints.
        gain: how many times closer to other instances the shape is after the swap.
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


def typical_residuals(
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


def find_swaps(shapes: ComplexArray, labeled: BoolArray, pairs: Sequence[Pair]) -> list[Swap]:
    """Find instances that resemble the others much better with left and right exchanged.

    Most instances are labeled right, so that the residual to the closest 15 % of them is small. Swapping the sides of
    a right instance makes it worse, and of a swapped one better. An instance is reported if the gain is an outlier
    among the gains of all; sets without typical sides (people seen from the front and from behind) have no outliers.

    Args:
        shapes: (N, K) points in pixels.
        labeled: (N, K).
        pairs: the mirror pairs.
    """
    pairs = list(pairs)[:_MAX_PAIRS]
    complete = np.array([labeled[:, a] & labeled[:, b] for a, b in pairs]).T if pairs else np.zeros((len(shapes), 0))
    usable = np.flatnonzero(complete.any(axis=1) & (labeled.sum(axis=1) >= 3)) if pairs else np.zeros(0, np.int64)
    if len(usable) < MIN_INSTANCES:
        return []
    references = usable[np.linspace(0, len(usable) - 1, min(len(usable), _MAX_REFERENCES)).astype(np.int64)]
    before = typical_residuals(shapes[usable], labeled[usable], references, shapes, labeled, usable)
    after, variant = _best_variant(shapes, labeled, usable, references, pairs, complete)
    with np.errstate(invalid="ignore"):
        gain = np.log(before / after)
    valid = np.isfinite(gain)
    if valid.sum() < MIN_INSTANCES:
        return []
    middle, spread = robust_location(gain[valid])
    if middle > -_MIN_CONTRAST:
        return []
    limit = np.nanquantile(before, 0.9)
    with np.errstate(invalid="ignore"):
        rows = np.flatnonzero(valid & (gain > _MIN_GAIN) & ((gain - middle) / spread > _MIN_Z) & (after <= limit))
    swaps: list[Swap] = []
    for row in rows.tolist():
        index = int(usable[row])
        applied = pairs if variant[row] < 0 else [pairs[variant[row]]]
        swapped = tuple(pair for pair in applied if labeled[index, pair[0]] or labeled[index, pair[1]])
        swaps.append(Swap(index, swapped, float(np.exp(gain[row]))))
    return swaps


def _best_variant(
    shapes: ComplexArray, labeled: BoolArray, usable: npt.NDArray[np.int64], references: npt.NDArray[np.int64],
    pairs: Sequence[Pair], complete: Any,
) -> tuple[FloatArray, npt.NDArray[np.int64]]:  # fmt: skip
    """Return the smallest residual after a swap, and the pair that was swapped; −1 for all pairs."""
    best = np.full(len(usable), np.inf)
    variant = np.full(len(usable), -1)
    for number in (-1, *range(len(pairs))) if len(pairs) > 1 else (-1,):
        order = np.arange(shapes.shape[1])
        for a, b in pairs if number < 0 else [pairs[number]]:
            order[[a, b]] = b, a
        rows = np.arange(len(usable)) if number < 0 else np.flatnonzero(complete[usable, number])
        own = usable[rows]
        residual = typical_residuals(
            shapes[own][:, order], labeled[own][:, order], references, shapes, labeled, own
        )  # fmt: skip
        better = np.nan_to_num(residual, nan=np.inf) < best[rows]
        best[rows[better]] = residual[better]
        variant[rows[better]] = number
    return best, variant


def robust_location(values: FloatArray) -> tuple[float, float]:
    """Return the median and the scaled median absolute deviation (σ of a normal distribution), at least 1e-6."""
    middle = float(np.median(values))
    return middle, max(1.4826 * float(np.median(np.abs(values - middle))), 1e-6)


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
    everything = np.ones(len(mean), dtype=np.bool_)
    mapping = np.arange(len(mean))
    for _ in range(20):
        distances = np.abs(mean[:, None] - mirrored[None])
        closest = distances.argmin(axis=1)
        if (closest == mapping).all():
            break
        mapping = closest
        mirrored = _align(mirrored[mapping], mean, everything)[np.argsort(mapping)] if _is_permutation(
            mapping
        ) else mirrored  # fmt: skip
    distances = np.abs(mean - mirrored[mapping])
    gaps = np.abs(mean[:, None] - mean[None]) + np.where(np.eye(len(mean), dtype=bool), np.inf, 0)
    is_involution = _is_permutation(mapping) and bool((mapping[mapping] == np.arange(len(mean))).all())
    exchanged = int((mapping != np.arange(len(mean))).sum())
    close = float(np.median(distances)) < 0.5 * float(np.median(gaps.min(axis=1)))
    return mapping if is_involution and exchanged >= max(4, len(mean) // 3) and close else None


def _is_permutation(mapping: npt.NDArray[np.int64]) -> bool:
    return len(np.unique(mapping)) == len(mapping)


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
