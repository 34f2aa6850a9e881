"""How keypoints mirror, told from their names."""

from __future__ import annotations

import re
from collections.abc import Sequence

# a side as a word of its own (left_eye, eye-left, LeftEye, l_eye, eye.R), never within another word (lip, elbow)
_SIDES = re.compile(r"(?i:(?<![a-z])(left|right)(?![a-z]))|(?<![A-Za-z])([LRlr])(?![A-Za-z])|(Left|Right)(?=[A-Z])|"
                    r"(?<=[a-z])(Left|Right)(?![a-z])|^(left|right)(?=[a-z])")  # fmt: skip


def mirror_of(names: Sequence[str]) -> tuple[int, ...] | None:
    """Return `flip_idx` for keypoint names that tell left from right.

    Args:
        names: K names.

    Returns:
        The permutation, or None when no name has a side, or one has no partner on the other side.
    """
    places = {name.lower(): index for index, name in enumerate(names)}
    if len(places) < len(names):
        return None
    found: list[int] = []
    sided = False
    for index, name in enumerate(names):
        other = _SIDES.sub(_swapped, name)
        sided = sided or other != name
        partner = places.get(other.lower()) if other != name else index
        if partner is None:
            return None
        found.append(partner)
    return tuple(found) if sided and sorted(found) == list(range(len(names))) else None


def _swapped(match: re.Match[str]) -> str:
    word = match.group()
    return {"left": "right", "right": "left", "l": "r", "r": "l"}[word.lower()]
