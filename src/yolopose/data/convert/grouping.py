"""Shapes to instances: drawing tools store boxes and points side by side, and connect them by a group, if at all."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from yolopose.data.convert.record import Attributes, Box, Id, Instance, IssueLog, Point

_ADVICE = "Give all shapes of an instance the same group."


@dataclass(slots=True, kw_only=True)
class Shape:
    """A box, an outline or a point that someone drew.

    Attributes:
        label: class name of a box or outline, keypoint name of a point.
        point: the keypoint; None for a box or outline.
        box: the box, or the box that encloses the outline; None for a point.
        polygon: x, y, … of an outline.
        category: class name that a point states; empty where it states none.
        group: id that shapes of one instance share, or None.
        fields: fields of `Instance` that the shape states, such as `crowd`, `track_id` and `attributes`.
        where: file and position, for messages.
    """

    label: str
    point: Point | None = None
    box: Box | None = None
    polygon: tuple[float, ...] = ()
    category: str = ""
    group: Id | None = None
    fields: dict[str, Any] = field(default_factory=Attributes)
    where: str = ""


@dataclass(slots=True)
class _Member:
    """An instance and the shapes that it has."""

    instance: Instance
    has_box: bool = False
    has_outline: bool = False


class _Grouping:
    """The instances of one image while its shapes are assigned."""

    def __init__(self, image: str, issues: IssueLog) -> None:
        self.members: list[_Member] = []
        self._image = image
        self._issues = issues
        self._groups: dict[Id, list[_Member]] = {}

    def add_box(self, shape: Shape) -> None:
        """Add a box or outline, to an instance of its group and class that has none yet or as a new instance."""
        group = self._group(shape)
        member = next((member for member in group if _completes(member, shape)), None)
        if member is None:
            member = self._new_member(group, shape, shape.label)
        instance = member.instance
        if shape.polygon:
            outlines: list[list[float]] = instance.segmentation or []
            instance.segmentation = [*outlines, list(shape.polygon)]
            if not member.has_box:
                instance.box = _union(instance.box, shape.box)
            member.has_outline = True
        else:
            instance.box = shape.box
            member.has_box = True
        _set_fields(instance, shape)

    def add_point(self, shape: Shape) -> None:
        """Add a point to the instance of its group, or to the one that its position suggests."""
        group = self._group(shape)
        member = self._member_of(shape, group)
        where = f"{self._image}: {shape.label}"
        if member is None:
            self._issues.skip(
                "points that belong to no instance: they have no group, and lie in no box or in boxes that have such a "
                "point",
                where,
                _ADVICE,
            )
            return
        instance = member.instance
        if shape.label in instance.points:
            self._issues.skip("second points of one name in an instance", where, _ADVICE)
            return
        if shape.point is not None:
            instance.points[shape.label] = shape.point
        instance.category = instance.category or shape.category
        if not member.has_box and not member.has_outline:
            _set_fields(instance, shape)

    def _group(self, shape: Shape) -> list[_Member]:
        return [] if shape.group is None else self._groups.setdefault(shape.group, [])

    def _new_member(self, group: list[_Member], shape: Shape, category: str) -> _Member:
        member = _Member(Instance(category=category, source=shape.where))
        group.append(member)
        self.members.append(member)
        return member

    def _member_of(self, shape: Shape, group: list[_Member]) -> _Member | None:
        if shape.group is not None:
            if not group:
                self._new_member(group, shape, shape.category)
            return group[0] if len(group) == 1 else _smallest_around(group, shape)
        boxed = [member for member in self.members if member.instance.box is not None]
        if not self.members:
            return self._new_member([], shape, shape.category)
        if len(self.members) == 1:
            return self.members[0]
        member = _smallest_around(boxed, shape)
        if member is not None:
            self._issues.change(
                "points without a group were assigned to the smallest box around them",
                f"{self._image}: {shape.label}",
                _ADVICE,
            )
        return member


def group_shapes(shapes: Sequence[Shape], image: str, issues: IssueLog) -> list[Instance]:
    """Return the instances of an image.

    Shapes of one group are one instance; two boxes of one group are two. A point without a group belongs to the only
    instance of the image, or to the smallest box that contains it and has no point of that name.

    Args:
        shapes: all shapes of the image.
        image: name of the image, for messages.
        issues: log of the points that belong to no instance.

    Returns:
        Instances, those with a box or outline first. `category` is empty where no shape states it.
    """
    grouping = _Grouping(image, issues)
    for shape in shapes:
        if shape.point is None:
            grouping.add_box(shape)
    # points with a group first: those without one are assigned to what remains
    for grouped in (True, False):
        for shape in shapes:
            if shape.point is not None and (shape.group is not None) == grouped:
                grouping.add_point(shape)
    return [member.instance for member in grouping.members]


def _completes(member: _Member, shape: Shape) -> bool:
    """Return whether a box or outline is of the same instance; an instance may have several outlines, but one box."""
    return member.instance.category == shape.label and bool(shape.polygon or not member.has_box)


def _smallest_around(members: Iterable[_Member], shape: Shape) -> _Member | None:
    """Return the member with the smallest box that contains a point and has no point of that name."""
    smallest: _Member | None = None
    area = math.inf
    for member in members:
        box = member.instance.box
        if box is None or shape.point is None or shape.label in member.instance.points:
            continue
        left, top, right, bottom = box.corners
        if left <= shape.point.x <= right and top <= shape.point.y <= bottom and box.area < area:
            smallest = member
            area = box.area
    return smallest


def _union(box: Box | None, other: Box | None) -> Box | None:
    if box is None or other is None:
        return box or other
    x1, y1, x2, y2 = box.corners
    left, top, right, bottom = other.corners
    return Box.from_corners(min(x1, left), min(y1, top), max(x2, right), max(y2, bottom))


def _set_fields(instance: Instance, shape: Shape) -> None:
    for name, value in shape.fields.items():
        if name == "attributes":
            instance.attributes |= value
        else:
            setattr(instance, name, value)


def to_number(value: Any) -> float | None:
    """Return a finite number, also one written as text, or None."""
    if isinstance(value, bool):
        return None
    try:
        result = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return result if math.isfinite(result) else None
