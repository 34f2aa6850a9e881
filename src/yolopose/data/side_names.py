"""Left and right in the names of keypoints: partners in a mirrored image, and `flip_idx` from them."""

from __future__ import annotations

import re
from collections.abc import Sequence

# A side as a separate word (left_eye, eye-left, LeftEye, l_eye, eye.R), never inside another word (lip, elbow).
_SIDE = re.compile(r"(?i:(?<![a-z])(left|right)(?![a-z]))|(?<![A-Za-z])([LRlr])(?![A-Za-z])|(Left|Right)(?=[A-Z])|"
                    r"(?<=[a-z])(Left|Right)(?![a-z])|^(left|right)(?=[a-z])")  # fmt: skip
_OPPOSITE = {"left": "right", "right": "left", "l": "r", "r": "l"}
# Sides that animal data sets write otherwise: paw1LH and paw4RH (left and right, hind and front), and the near (left)
# and off (right) legs of a horse; a capital at the end of a word (eyeL, forelegR1).
_LIMB_CODE = re.compile(r"(?<![A-Z])([LR])([HF])(?![a-z])")
_LAST_LETTER = re.compile(r"(?<=[a-z])([LR])(?=\d*(_|$))")
_NEAR_OFF = re.compile(r"^(near|off)(?=[a-z])", re.IGNORECASE)


def infer_flip_idx(names: Sequence[str]) -> tuple[int, ...] | None:
    """Infer `flip_idx` from keypoint names that contain left or right.

    Args:
        names: K names.

    Returns:
        The permutation, or None when no name has a side, or a name has no partner on the other side.
    """
    indices = {name.lower(): index for index, name in enumerate(names)}
    if len(indices) < len(names):
        return None
    partners = [indices.get(opposite_name(name).lower()) for name in names]
    sided = any(opposite_name(name) != name for name in names)
    flip_idx = tuple(index for index in partners if index is not None)
    return flip_idx if sided and sorted(flip_idx) == list(range(len(names))) else None


def with_side_words(name: str) -> str:
    """Return a name with `left` and `right` written out, in lower case: `L_Eye` → `left_Eye`."""
    sides = {"l": "left", "r": "right"}
    return _SIDE.sub(lambda match: sides.get(match[0].lower(), match[0].lower()), name)


def opposite_name(name: str) -> str:
    """Swap left and right in a name, in lower case; a name without a side is returned unchanged."""
    return _SIDE.sub(lambda match: _OPPOSITE[match[0].lower()], name)


def mirror_name(name: str) -> str:
    """Return the name of the keypoint on the other side; a name without a side stays. In lower case."""
    lowered = name.lower()
    if opposite_name(name).lower() != lowered:
        return opposite_name(name).lower()
    if _NEAR_OFF.match(name):
        return _NEAR_OFF.sub(lambda match: "off" if match[0].lower() == "near" else "near", name).lower()
    if _LAST_LETTER.search(name):
        return _LAST_LETTER.sub(lambda match: "R" if match[1] == "L" else "L", name).lower()
    return _LIMB_CODE.sub(lambda match: ("R" if match[1] == "L" else "L") + match[2], name).lower()


def suggest_flip_idx(names: Sequence[str]) -> tuple[int, ...] | None:
    """Infer `flip_idx` from names; numbers in names are ignored where that makes partners unique (paw1LH, paw4RH)."""
    exact = infer_flip_idx(names)
    if exact:
        return exact
    for pattern in (r"(?!)", r"\d+"):
        keys = [re.sub(pattern, "", name.lower()) for name in names]
        if len(set(keys)) < len(keys):
            continue
        indices = {key: index for index, key in enumerate(keys)}
        partners = [indices.get(re.sub(pattern, "", mirror_name(name))) for name in names]
        flip_idx = tuple(index for index in partners if index is not None)
        if sorted(flip_idx) == list(range(len(names))) and flip_idx != tuple(range(len(names))):
            return flip_idx
    return None


def sided_names(names: Sequence[str]) -> list[str]:
    """Return the names that have a partner on the other side."""
    keys = {re.sub(r"\d+", "", name.lower()) for name in names}
    return [
        name for name in names if (partner := mirror_name(name)) != name.lower() and re.sub(r"\d+", "", partner) in keys
    ]


def is_near_or_off(name: str) -> bool:
    """Return whether the side of a name is `near` or `off`, which depend on the side that the animal shows."""
    return _NEAR_OFF.match(name) is not None


def describe_identity(count: int) -> str:
    """Return the `flip_idx` of keypoints without sides as YAML, shortened for many keypoints."""
    return str(list(range(count))) if count <= 20 else f"[0, 1, 2, …, {count - 1}]"
