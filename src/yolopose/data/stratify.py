"""Assign groups of images to splits so that each split has its share of images, classes and instance counts.

Greedy assignment of the rarest groups first, as in iterative stratification (Sechidis et al., On the stratification of
multi-label data, ECML PKDD 2011), followed by exchanges that reduce the remaining deviation.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from yolopose.base.errors import DataError

Float64 = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

_COUNT_EDGES = (1, 2, 4, 8, 16)  # images are distinguished by 0, 1, 2-3, 4-7, 8-15 or more instances
COUNT_BINS = len(_COUNT_EDGES) + 1
"""Number of the last columns of `image_features`, which distinguish images by their number of instances."""
_MAX_EXCHANGES = 20_000


def image_features(classes: Sequence[npt.NDArray[np.integer]], nc: int) -> Float64:
    """Return what is balanced between splits.

    Args:
        classes: class indices of the instances of each of n images.
        nc: number of classes.

    Returns:
        (n, 1 + nc + 6): 1 for the image, number of instances of each class, and 1 in the column of its total number of
        instances (0, 1, 2-3, 4-7, 8-15, more).
    """
    features = np.zeros((len(classes), 1 + nc + COUNT_BINS))
    features[:, 0] = 1
    for row, instances in zip(features, classes, strict=True):
        row[1 : 1 + nc] = np.bincount(instances, minlength=nc)[:nc]
        row[1 + nc + np.searchsorted(_COUNT_EDGES, len(instances), side="right")] = 1
    return features


def share_counts(total: int, fractions: Sequence[float]) -> list[int]:
    """Return integers with this sum that are closest to the fractions, at least 1 for each that is not 0.

    Args:
        total: the sum.
        fractions: non-negative numbers with the sum 1.

    Raises:
        DataError: `total` is less than the number of fractions above 0.
    """
    wanted = np.array(fractions) * total
    least = np.array([1 if fraction > 0 else 0 for fraction in fractions])
    if total < least.sum():
        raise DataError(f"{total} images or groups cannot be divided into {least.sum()} splits, none of them empty.")
    counts = np.maximum(np.floor(wanted + 1e-9).astype(int), least)
    while counts.sum() < total:  # largest remainder first
        counts[np.argmax(np.where(least > 0, wanted - counts, -np.inf))] += 1
    while counts.sum() > total:
        counts[np.argmax(np.where(counts > least, counts - wanted, -np.inf))] -= 1
    return counts.tolist()


def assign_groups(features: Float64, fractions: Sequence[float], seed: int) -> Indices:
    """Assign each group to a split.

    Groups of one image are divided exactly by `share_counts`; larger groups as closely as they allow.

    Args:
        features: (G, F) sums of `image_features` over the images of each group; column 0 is the number of images.
        fractions: share of each of S splits, with the sum 1.
        seed: random seed; the assignment is deterministic.

    Returns:
        (G,) split indices; each split with a fraction above 0 has at least one group.

    Raises:
        DataError: there are fewer groups than splits.
    """
    active = [index for index, fraction in enumerate(fractions) if fraction > 0]
    share_counts(len(features), fractions)  # fewer groups than splits
    totals = np.maximum(features.sum(axis=0), 1)
    shares = features / totals  # every feature counts relative to its total
    wanted = np.array([fractions[index] for index in active])
    room = np.array(share_counts(int(features[:, 0].sum()), [float(value) for value in wanted]), dtype=float)
    target = wanted[:, None] * np.ones(features.shape[1])
    target[:, 0] = room / totals[0]
    need = target.copy()
    random = np.random.default_rng(seed)
    order = np.lexsort((random.random(len(features)), -shares.max(axis=1)))
    chosen = np.zeros(len(features), dtype=np.int64)
    for group in order:
        gain = ((2 * need - shares[group]) * shares[group]).sum(axis=1)  # decrease of the squared deviation
        fits = room >= features[group, 0]
        # a group that fits nowhere goes where it exceeds the share of the split least
        split = int(np.argmax(np.where(fits, gain, -np.inf))) if fits.any() else int(np.argmax(room / wanted))
        chosen[group] = split
        need[split] -= shares[group]
        room[split] -= features[group, 0]
    _fill_empty(chosen, features[:, 0], len(active))
    _exchange(chosen, shares, target, random)
    return np.array(active)[chosen]


def _fill_empty(chosen: Indices, sizes: Float64, count: int) -> None:
    """Move the smallest group of the split with the most groups to each split without a group, in place."""
    for split in range(count):
        if (chosen == split).any():
            continue
        donor = np.bincount(chosen, minlength=count).argmax()
        groups = np.flatnonzero(chosen == donor)
        chosen[groups[sizes[groups].argmin()]] = split


def _exchange(chosen: Indices, shares: Float64, target: Float64, random: np.random.Generator) -> None:
    """Exchange random pairs of groups where that reduces the deviation from `target`, in place."""
    tries = min(_MAX_EXCHANGES, 20 * len(chosen))
    pairs = random.integers(0, len(chosen), (tries, 2))
    need = np.array([row - shares[chosen == split].sum(axis=0) for split, row in enumerate(target)])
    for first, second in pairs:
        a = chosen[first]
        b = chosen[second]
        if a == b:
            continue
        moved = shares[second] - shares[first]  # what split a gains and split b loses
        change = ((need[a] - moved) ** 2 + (need[b] + moved) ** 2 - need[a] ** 2 - need[b] ** 2).sum()
        if change < -1e-12:
            chosen[first] = b
            chosen[second] = a
            need[a] -= moved
            need[b] += moved
