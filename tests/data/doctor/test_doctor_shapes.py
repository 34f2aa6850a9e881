"""Swaps and mirror pairs by geometry, σ from repeats and scatter."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from yolopose.data.doctor.shapes import find_swaps, infer_mirror, mirror_pairs, shape_residuals
from yolopose.data.doctor.sigmas import map_at_error, suggest_from_repeats, suggest_from_scatter
from yolopose.geometry import oks

# a mouse from above: snout, left ear, right ear, tail base
MOUSE = np.array([0 + 3j, -0.6 + 2.2j, 0.6 + 2.2j, 0 + 0j])


def similarity(shape: npt.NDArray[np.complex128], rng: np.random.Generator, noise: float) -> npt.NDArray:
    factor = rng.uniform(10, 60) * np.exp(1j * rng.uniform(0, 2 * np.pi))
    moved = shape * factor + complex(*rng.uniform(0, 500, 2))
    return moved + noise * abs(factor) * (rng.normal(size=len(shape)) + 1j * rng.normal(size=len(shape)))


def mice(count: int, seed: int = 0) -> npt.NDArray[np.complex128]:
    rng = np.random.default_rng(seed)
    return np.stack([similarity(MOUSE, rng, 0.06) for _ in range(count)])


def test_residual_is_invariant_to_similarity_but_not_to_reflection() -> None:
    rng = np.random.default_rng(3)
    all_labeled = np.ones((1, 4), dtype=np.bool_)
    same = similarity(MOUSE, rng, 0.0)[None]
    mirrored = MOUSE.conj()[None] + MOUSE.real * 0.3  # sheared, since the mouse equals its reflection
    assert shape_residuals(MOUSE[None], all_labeled, same, all_labeled)[0, 0] == pytest.approx(0, abs=1e-6)
    assert shape_residuals(MOUSE[None], all_labeled, mirrored, all_labeled)[0, 0] > 0.05


def test_residual_against_least_squares() -> None:
    rng = np.random.default_rng(4)
    first, second = (rng.normal(size=6) + 1j * rng.normal(size=6) for _ in range(2))
    mask = np.array([True, True, False, True, True, True])
    a, b = first[mask], second[mask]
    matrix = np.stack([b, np.ones_like(b)], axis=1)
    solution, *_ = np.linalg.lstsq(matrix, a, rcond=None)
    expected = np.linalg.norm(matrix @ solution - a) / np.linalg.norm(a - a.mean())
    value = shape_residuals(first[None], mask[None], second[None], np.ones((1, 6), dtype=np.bool_))[0, 0]
    assert value == pytest.approx(expected)


@pytest.mark.parametrize("swapped", [[], [7], [3, 50, 51, 90]])
def test_swapped_ears_of_mice_are_reported(swapped: list[int]) -> None:
    shapes = mice(100)
    for row in swapped:
        shapes[row, [1, 2]] = shapes[row, [2, 1]]
    labeled = np.ones(shapes.shape, dtype=np.bool_)
    swaps = find_swaps(shapes, labeled, np.full(100, 50.0), [(1, 2)])
    assert [swap.instance for swap in swaps] == swapped
    assert all(swap.pairs == ((1, 2),) for swap in swaps)


def test_objects_without_typical_sides_have_no_swaps() -> None:
    shapes = mice(120)
    shapes[::2, [1, 2]] = shapes[::2, [2, 1]]  # seen from below as often as from above
    labeled = np.ones(shapes.shape, dtype=np.bool_)
    assert find_swaps(shapes, labeled, np.full(120, 50.0), [(1, 2)]) == []
    assert find_swaps(shapes[:5], labeled[:5], np.full(5, 50.0), [(1, 2)]) == []
    assert find_swaps(shapes, labeled, np.full(120, 50.0), []) == []


def test_a_single_pair_against_three_others_is_reported() -> None:
    rng = np.random.default_rng(8)
    base = np.array([-1, 1, -1.2 + 1j, 1.2 + 1j, -0.8 + 2j, 0.8 + 2j, -0.5 + 3j, 0.5 + 3j])
    shapes = np.stack([similarity(base * rng.choice((1, 1, -1)), rng, 0.1) for _ in range(60)])
    shapes[11, [2, 3]] = shapes[11, [3, 2]]
    pairs = [(0, 1), (2, 3), (4, 5), (6, 7)]
    scales = np.abs(shapes - shapes.mean(axis=1, keepdims=True)).max(axis=1)
    swaps = find_swaps(shapes, np.ones(shapes.shape, dtype=np.bool_), scales, pairs)
    assert [(swap.instance, swap.pairs) for swap in swaps] == [(11, ((2, 3),))]


def test_mirror_pairs_of_a_face_are_inferred_and_those_of_a_hand_are_not() -> None:
    rng = np.random.default_rng(1)
    half = rng.uniform((0.2, -2), (2, 2), (8, 2))
    middle = np.array([0 - 1.5j, 0 + 0.1j, 0 + 1.9j])
    face = np.concatenate((half[:, 0] + 1j * half[:, 1], -half[:, 0] + 1j * half[:, 1], middle))
    shapes = np.stack([face * rng.uniform(20, 40) + 100 + 0.3 * rng.normal(size=19) for _ in range(6)])
    expected = (*range(8, 16), *range(8), 16, 17, 18)
    assert infer_mirror(shapes, np.ones(shapes.shape, dtype=np.bool_)) == expected
    hand = np.stack([rng.normal(size=19) + 1j * rng.normal(size=19) for _ in range(6)])
    assert infer_mirror(hand, np.ones(hand.shape, dtype=np.bool_)) is None
    assert infer_mirror(shapes[:1], np.ones((1, 19), dtype=np.bool_)) is None


@pytest.mark.parametrize(
    ("flip_idx", "pairs"), [(None, []), ((0, 1), []), ((1, 0, 2), [(0, 1)]), ((0, 2, 1, 4, 3), [(1, 2), (3, 4)])]
)
def test_mirror_pairs(flip_idx: tuple[int, ...] | None, pairs: list[tuple[int, int]]) -> None:
    assert mirror_pairs(flip_idx) == pairs


def test_sigma_from_two_annotators() -> None:
    rng = np.random.default_rng(0)
    true = np.array([0.02, 0.08])
    # each annotator deviates by σ in distance: σ/√2 in x and in y
    first, second = (rng.normal(size=(4000, 2, 2)) * true[None, :, None] / np.sqrt(2) for _ in range(2))
    distances = np.linalg.norm(first - second, axis=2)
    suggestion = suggest_from_repeats(distances)
    assert suggestion is not None
    assert suggestion.sigmas == pytest.approx(true, rel=0.03)
    assert suggest_from_repeats(distances[:3]) is None


def test_sigma_from_scatter_orders_keypoints_by_precision() -> None:
    rng = np.random.default_rng(2)
    noise = np.array([0.02, 0.02, 0.3, 0.02, 0.02])
    base = np.array([0, 3, 3 + 4j, 4j, 1.5 + 2j])
    shapes = np.stack([base + noise * (rng.normal(size=5) + 1j * rng.normal(size=5)) for _ in range(80)]) * 20
    suggestion = suggest_from_scatter(shapes, np.ones(shapes.shape, dtype=np.bool_), np.full(80, 60.0))
    assert suggestion is not None
    assert int(np.argmax(suggestion.sigmas)) == 2
    assert suggest_from_scatter(shapes[:9], np.ones((9, 5), dtype=np.bool_), np.full(9, 60.0)) is None


@pytest.mark.parametrize("error", [0.01, 0.05, 0.2])
def test_map_at_error_follows_oks(error: float) -> None:
    sigmas = np.array([0.03, 0.1, 0.06])
    gt = np.array([[[10.0, 10, 2], [50, 40, 2], [90, 80, 1]]])
    area = np.array([2500.0])
    moved = gt.copy()
    moved[..., 0] += error * 50
    value = oks(gt, moved[..., :2], area, sigmas)[0, 0]
    thresholds = np.arange(0.5, 0.96, 0.05)
    assert map_at_error(sigmas, error) == pytest.approx(float((value >= thresholds).mean()), abs=1e-9)
