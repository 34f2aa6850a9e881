"""What is worth a word in a data YAML though it is no error; and the rule about COCO's person points."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast
from urllib.parse import urlparse

from yolopose.base.errors import nearest
from yolopose.base.log import LOGGER, warn_once
from yolopose.schema import COCO_PERSON_FLIP, COCO_PERSON_NAMES, COCO_PERSON_SKELETON, KeypointSchema

KNOWN_KEYS = (
    "path", "train", "val", "test", "names", "nc", "kpt_shape", "flip_idx", "kpt_oks_sigmas", "kpt_names",
    "skeleton", "download", "figures",
)  # fmt: skip
# A side as a separate word (left_eye, eye-left, LeftEye, l_eye, eye.R), never inside another word (lip, elbow).
_SIDE = re.compile(r"(?i:(?<![a-z])(left|right)(?![a-z]))|(?<![A-Za-z])([LRlr])(?![A-Za-z])|(Left|Right)(?=[A-Z])|"
                    r"(?<=[a-z])(Left|Right)(?![a-z])|^(left|right)(?=[a-z])")  # fmt: skip
_OPPOSITE = {"left": "right", "right": "left", "l": "r", "r": "l"}


def note_keys(path: Path, raw: Iterable[str]) -> None:
    """Name keys that look like a misspelt known one; other unknown keys are fine."""
    present = set(raw)
    for key in sorted(present - set(KNOWN_KEYS)):
        close = [known for known in nearest(key, KNOWN_KEYS) if known not in present]
        if close:
            LOGGER.warning(f"{path}: the key `{key}` is unknown and has no effect; is `{close[0]}` meant?")


def zip_urls(path: Path, download: object) -> tuple[str, ...]:
    """Return the `download` value as addresses of zip files; anything else is refused with a message, never run."""
    if download in (None, "", False):
        return ()
    items = cast("list[object]", download) if isinstance(download, list) else [download]
    if all(isinstance(item, str) and _is_zip_url(item) for item in items):
        return tuple(str(item).strip() for item in items)
    LOGGER.warning(
        f"{path}: `download:` is refused: only the URL of a zip file (or a list of them) is accepted, and this is "
        "something else, such as a script. Nothing of it was run; fetch the data by hand where they are missing."
    )
    return ()


def _is_zip_url(text: str) -> bool:
    address = urlparse(text.strip())
    whole = bool(address.netloc) and not re.search(r"\s", text.strip())
    return whole and address.scheme in ("http", "https") and address.path.lower().endswith(".zip")


def complete_keypoints(path: Path, keypoints: KeypointSchema, nc: int) -> KeypointSchema:
    """Add names and skeleton of a COCO person where `flip_idx` shows that the points are those.

    Names or edges that the YAML gives stand. A [17, 3] set of other points is told that human σ are in use.
    """
    beyond = [index for index in keypoints.names if index >= nc]
    if beyond:
        LOGGER.warning(f"{path}: kpt_names holds class {beyond[0]}, but there are only {nc} classes (0…{nc - 1}).")
    if keypoints.count != len(COCO_PERSON_NAMES):
        return keypoints
    names_differ = any(names != COCO_PERSON_NAMES for names in keypoints.names.values())
    mirror_differs = keypoints.flip_idx not in (None, COCO_PERSON_FLIP)
    if keypoints.dims == 3 and keypoints.sigmas is None and (names_differ or mirror_differs):
        warn_once(
            f"{path}: its 17 points are not those of a COCO person, but the OKS σ of human points are in use, as for "
            "every [17, 3] set. Give your own with `kpt_oks_sigmas: [17 positive numbers]`."
        )
    if keypoints.flip_idx != COCO_PERSON_FLIP or names_differ:
        return keypoints
    return replace(
        keypoints,
        names=keypoints.names or {0: COCO_PERSON_NAMES},
        skeleton=keypoints.skeleton or COCO_PERSON_SKELETON,
    )


def note_mirror(path: Path, keypoints: KeypointSchema) -> None:
    """Warn, once for each file, where `flip_idx` contradicts itself or the point names.

    That there is none is a matter of training, which says so.
    """
    flip = keypoints.flip_idx
    if flip is None:
        return
    once = [index for index in range(len(flip)) if flip[flip[index]] != index]
    if once:
        warn_once(
            f"{path}: flip_idx maps keypoint {once[0]} to {flip[once[0]]}, but {flip[once[0]]} to "
            f"{flip[flip[once[0]]]}; mirroring twice should give every point back."
        )
    wrong = _first_wrong_pair(keypoints.names, flip)
    if wrong:
        warn_once(
            f"{path}: flip_idx turns {wrong[0]} into {wrong[1]}, though there is a {wrong[2]}; left and right would be "
            "mixed up by mirror augmentation."
        )


def _first_wrong_pair(names: Mapping[int, tuple[str, ...]], flip: tuple[int, ...]) -> tuple[str, str, str] | None:
    """The first point whose name says left or right while flip_idx makes it something else than its partner."""
    for points in names.values():
        lowered = [name.lower() for name in points]
        for index, name in enumerate(points):
            partner = _other_side(name).lower()
            if partner != name.lower() and partner in lowered and lowered[flip[index]] != partner:
                return points[index], points[flip[index]], points[lowered.index(partner)]
    return None


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
    partners = [indices.get(_other_side(name).lower()) for name in names]
    sided = any(_other_side(name) != name for name in names)
    flip_idx = tuple(index for index in partners if index is not None)
    return flip_idx if sided and sorted(flip_idx) == list(range(len(names))) else None


def _other_side(name: str) -> str:
    """Swap left and right in a name, in lower case; a name without a side is returned unchanged."""
    return _SIDE.sub(lambda match: _OPPOSITE[match[0].lower()], name)
