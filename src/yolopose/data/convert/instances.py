"""Instances as formats need them: boxes from keypoints, values inside the image, keypoint lists by name."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from yolopose.data.convert.record import Box, ClassTemplate, ImageRecord, Instance, IssueLog, Point, PointState
from yolopose.data.side_names import infer_flip_idx

BOX_MARGIN = 0.1
"""Margin of a box that is computed from keypoints, as a share of its longer side, on each side."""
_NUMBERS = frozenset({int, float})
_STATES = {float(state): state for state in PointState}
_MIN_MARGIN = 0.01  # of the longer side of the image: the box of a single keypoint needs a size


def box_from_points(instance: Instance, size: tuple[int, int] | None) -> Box | None:
    """Return the box of the labeled keypoints with a margin, inside the image; None if there are none.

    Args:
        instance: its `points` are used.
        size: (width, height) of the image in pixels, if known.
    """
    points = instance.labeled
    if not points:
        return None
    left = min(point.x for point in points)
    right = max(point.x for point in points)
    top = min(point.y for point in points)
    bottom = max(point.y for point in points)
    margin = BOX_MARGIN * max(right - left, bottom - top)
    if size is None:
        margin = max(margin, 1.0)
        return Box.from_corners(left - margin, top - margin, right + margin, bottom + margin)
    width, height = size
    margin = max(margin, _MIN_MARGIN * max(width, height))
    return clip_box(Box.from_corners(left - margin, top - margin, right + margin, bottom + margin), size)


def ensure_box(instance: Instance, image: ImageRecord, issues: IssueLog) -> Box | None:
    """Return the axis-aligned box of an instance, computed from its keypoints where it has none; the log counts those.

    Returns:
        None if there is neither a box with an area nor a labeled keypoint.
    """
    box = instance.box
    if box is not None and box.width > 0 and box.height > 0:
        return box.rotated(instance.rotation) if instance.rotation else box
    box = box_from_points(instance, image.size)
    if box is not None:
        where = instance.source or image.name
        advice = f"With a margin of {BOX_MARGIN:.0%} of the longer side"
        issues.change("boxes were computed from the keypoints, because the source has none", where, advice)
    return box


def clip_box(box: Box, size: tuple[int, int]) -> Box | None:
    """Return the part of a box inside the image; None if there is none."""
    x1, y1, x2, y2 = box.corners
    x1, x2 = (min(max(x, 0.0), float(size[0])) for x in (x1, x2))
    y1, y2 = (min(max(y, 0.0), float(size[1])) for y in (y1, y2))
    return Box.from_corners(x1, y1, x2, y2) if x2 > x1 and y2 > y1 else None


def is_finite(*values: object) -> bool:
    """Return whether all values are finite numbers; text and booleans are not numbers."""
    # one pass in C for what JSON readers return; other types, such as those of numpy, one by one
    if not _NUMBERS.issuperset(map(type, values)) and not all(
        isinstance(value, int | float) and not isinstance(value, bool) for value in values
    ):
        return False
    numbers: Any = values
    try:
        return all(map(math.isfinite, numbers))
    except OverflowError:  # an integer too large for a float
        return False


def parse_points(
    values: Sequence[Any], names: Sequence[str], issues: IssueLog, where: str, scores: Sequence[Any] = ()
) -> dict[str, Point] | None:
    """Read the list x1, y1, v1, x2, … of COCO and its relatives.

    v is 0 (absent), 1 (hidden) or 2 (visible); a fraction is the confidence of a model that placed a visible keypoint.

    Args:
        values: 3·K numbers.
        names: K keypoint names.
        issues: log of unusual flags.
        where: place in the source.
        scores: K confidences, or empty.

    Returns:
        The points by name; None if the list has another length or a value is not a finite number.
    """
    if not isinstance(values, list | tuple) or len(values) != 3 * len(names) or not is_finite(*values):
        return None
    has_scores = len(scores) == len(names) and is_finite(*scores)
    points: dict[str, Point] = {}
    for index, name in enumerate(names):
        x, y, v = values[3 * index : 3 * index + 3]
        state, confidence = parse_visibility(v, issues, where)
        points[name] = Point(x, y, state, scores[index] if has_scores and state else confidence)
    return points


def parse_visibility(v: float, issues: IssueLog, where: str) -> tuple[PointState, float | None]:
    """Return state and confidence of a visibility flag; a fraction between 0 and 1 is a confidence."""
    state = _STATES.get(v)
    if state is not None:
        return state, None
    if 0 < v < 1:
        return PointState.VISIBLE, float(v)
    if v < 0:
        issues.change("negative visibility flags were read as absent", where)
        return PointState.ABSENT, None
    issues.change("visibility flags other than 0, 1, 2 were read as visible", where)
    return PointState.VISIBLE, None


def points_to_list(points: Mapping[str, Point], names: Sequence[str]) -> list[float]:
    """Return x1, y1, v1, x2, … in the order of `names`; 0, 0, 0 for names without a point."""
    values: list[float] = []
    for name in names:
        point = points.get(name)
        values += [0, 0, 0] if point is None else [point.x, point.y, int(point.state)]
    return values


def point_scores(points: Mapping[str, Point], names: Sequence[str]) -> list[float] | None:
    """Return the confidence of each name, 0 where it has none; None if no point has one."""
    if all(point.confidence is None for point in points.values()):
        return None
    return [0 if (point := points.get(name)) is None else point.confidence or 0 for name in names]


def default_names(count: int) -> tuple[str, ...]:
    """Return names for keypoints that a source does not name."""
    return tuple(f"keypoint {index}" for index in range(count))


def unique_names(names: Iterable[object], issues: IssueLog, where: str) -> tuple[str, ...]:
    """Return keypoint names that differ: an empty one becomes `keypoint 3`, a repeated one gets a number."""
    result: list[str] = []
    for index, name in enumerate(map(str, names)):
        unique = name.strip() or f"keypoint {index}"
        number = 2
        while unique in result:
            unique = f"{name.strip() or 'keypoint'} {number}"
            number += 1
        if unique != name:
            issues.change("keypoint names were empty or repeated and got a number", f"{where}: {unique!r}")
        result.append(unique)
    return tuple(result)


def infer_mirror(names: Sequence[str]) -> tuple[tuple[str, str], ...] | None:
    """Return the pairs of names that differ in left and right; None if the names do not show them."""
    flip_idx = infer_flip_idx(names)
    return None if flip_idx is None else mirror_from_flip(names, flip_idx)


def mirror_from_flip(names: Sequence[str], flip_idx: Sequence[int]) -> tuple[tuple[str, str], ...]:
    """Return the pairs of names that a permutation exchanges."""
    return tuple((names[index], names[partner]) for index, partner in enumerate(flip_idx) if index < partner)


def flip_from_mirror(names: Sequence[str], template: ClassTemplate) -> tuple[int, ...] | None:
    """Return the permutation of `names` by a horizontal flip; None if the mirror pairs are not known."""
    pairs = infer_mirror(template.keypoints) if template.mirror is None else template.mirror
    if pairs is None:
        return None
    partner = dict(pairs) | {b: a for a, b in pairs}
    index = {name: position for position, name in enumerate(names)}
    return tuple(index.get(partner.get(name, name), position) for position, name in enumerate(names))
