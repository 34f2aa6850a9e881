"""`flip_idx` from names: with certainty for training without one, and as a suggestion for messages."""

from __future__ import annotations

import pytest

from yolopose.data.side_names import describe_identity, infer_flip_idx, suggest_flip_idx

CERTAIN = [
    (["nose", "left_eye", "right_eye"], (0, 2, 1)),
    (["L_Eye", "R_Eye"], (1, 0)),
    (["LeftEar", "tail", "RightEar"], (2, 1, 0)),
]
SUGGESTED = [
    (["head", "eyeL", "eyeR", "forelegR1", "forelegL1"], (0, 2, 1, 4, 3)),
    (["Nearknee", "Offknee", "Nose"], (1, 0, 2)),
    (["paw1LH_top", "paw4RH_top"], (1, 0)),
]


@pytest.mark.parametrize(("names", "expected"), CERTAIN)
def test_certain_names(names: list[str], expected: tuple[int, ...]) -> None:
    assert infer_flip_idx(names) == suggest_flip_idx(names) == expected


@pytest.mark.parametrize(("names", "expected"), SUGGESTED)
def test_names_that_only_suggest_sides(names: list[str], expected: tuple[int, ...]) -> None:
    assert infer_flip_idx(names) is None
    assert suggest_flip_idx(names) == expected


@pytest.mark.parametrize("names", [["lip", "elbow"], ["kp0", "kp1"], ["left_eye", "nose"], ["a", "A"]])
def test_names_without_partners(names: list[str]) -> None:
    assert infer_flip_idx(names) is suggest_flip_idx(names) is None


def test_identity_of_many_keypoints_is_shortened() -> None:
    assert describe_identity(3) == "[0, 1, 2]"
    assert describe_identity(294) == "[0, 1, 2, …, 293]"
