from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yolopose.base.errors import DataError
from yolopose.data.stratify import assign_groups, image_features, share_counts


@given(st.integers(3, 500), st.floats(0.01, 0.5), st.floats(0, 0.4))
@settings(deadline=None, max_examples=50)
def test_shares_are_integers_with_the_sum(total: int, val: float, test: float) -> None:
    fractions = [1 - val - test, val, test]
    counts = share_counts(total, fractions)
    assert sum(counts) == total
    assert all((count > 0) == (fraction > 0) for count, fraction in zip(counts, fractions, strict=True))
    assert all(abs(count - fraction * total) < 2 for count, fraction in zip(counts, fractions, strict=True))


def test_too_few_images_are_explained() -> None:
    with pytest.raises(DataError, match="2 images or groups cannot be divided into 3 splits"):
        share_counts(2, [0.5, 0.3, 0.2])


def test_features_count_classes_and_instances() -> None:
    features = image_features([np.array([0, 0, 2]), np.array([], int)], nc=3)
    assert features.tolist() == [[1, 2, 0, 1, 0, 0, 1, 0, 0, 0], [1, 0, 0, 0, 1, 0, 0, 0, 0, 0]]


SHARES = (0.7, 0.2, 0.1)


def random_images(seed: int, count: int) -> np.ndarray:
    """Images of 4 classes with frequencies 64, 27, 8 and 1 percent."""
    random = np.random.default_rng(seed)
    classes = [random.choice(4, random.integers(0, 6), p=[0.64, 0.27, 0.08, 0.01]) for _ in range(count)]
    return image_features(classes, 4)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_classes_have_their_share_in_each_split(seed: int) -> None:
    features = random_images(seed, 400)
    splits = assign_groups(features, SHARES, seed)
    assert np.bincount(splits).tolist() == [280, 80, 40]
    used = features[:, features.sum(axis=0) > 0]

    def deviations(split_idx: np.ndarray) -> np.ndarray:
        return np.array(
            [used[split_idx == index].sum(axis=0) - share * used.sum(axis=0) for index, share in enumerate(SHARES)]
        )

    assert np.abs(deviations(splits)).max() <= 1.5  # instances, of up to 600
    random_splits = np.random.default_rng(seed).permutation(splits)
    assert np.abs(deviations(splits)).sum() < np.abs(deviations(random_splits)).sum() / 3


def test_assignment_depends_on_the_seed_only() -> None:
    features = random_images(3, 60)
    first = assign_groups(features, [0.8, 0.2, 0], 5)
    assert (first == assign_groups(features, [0.8, 0.2, 0], 5)).all()
    assert (first != assign_groups(features, [0.8, 0.2, 0], 6)).any()


@pytest.mark.parametrize("sizes", [[50, 3], [10, 10, 10], [90, 5, 5], [1] * 5])
def test_no_split_is_empty_however_large_the_groups_are(sizes: list[int]) -> None:
    features = np.array([[size, size, size, 0, 0, 0, 0, 0] for size in sizes], float)
    splits = assign_groups(features, [0.8, 0.2, 0], 0)
    assert set(splits) == {0, 1}


def test_whole_groups_come_close_to_the_shares() -> None:
    random = np.random.default_rng(0)
    sizes = random.integers(5, 40, 30)
    features = np.column_stack((sizes, sizes, *np.zeros((6, 30)))).astype(float)
    splits = assign_groups(features, [0.7, 0.2, 0.1], 0)
    shares = [sizes[splits == index].sum() / sizes.sum() for index in range(3)]
    assert np.abs(np.array(shares) - [0.7, 0.2, 0.1]).max() < 0.05
