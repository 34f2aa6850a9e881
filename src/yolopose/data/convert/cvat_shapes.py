"""Shapes of CVAT XML as instances: skeletons, rectangles with the points of their group, and single points."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from yolopose.data.convert.cvat_xml import BOX_SUFFIX, FIELDS
from yolopose.data.convert.instances import default_names, is_finite
from yolopose.data.convert.record import (
    Box,
    ClassTemplate,
    Instance,
    IssueLog,
    Point,
    PointState,
)

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element  # only its type; nothing is parsed by it


@dataclass(slots=True)
class Labels:
    """The labels of a task.

    Attributes:
        classes: skeleton classes, and others that are not boxes of these.
        attribute_types: `input_type` of each attribute by name.
        size: (width, height) of the frames of a video, if stated.
        has_named_points: whether single points occur, whose labels are keypoint names.
        source: name of the video of a task.
        own: whether our writer wrote the file, so that the text of attributes is JSON.
    """

    classes: dict[str, ClassTemplate] = field(default_factory=dict[str, ClassTemplate])
    attribute_types: dict[str, str] = field(default_factory=dict[str, str])
    size: tuple[int, int] | None = None
    has_named_points: bool = False
    source: str = ""
    own: bool = False

    def category(self, label: str) -> str:
        """Return the class of a shape: `person_box` is a `person` if that is a skeleton."""
        base = label.removesuffix(BOX_SUFFIX)
        return base if base in self.classes and self.classes[base].keypoints else label


def parse_instances(groups: dict[str, list[Element]], where: str, labels: Labels, issues: IssueLog) -> list[Instance]:
    """Return the instances of an image in the order of their first shape."""
    ordered: list[tuple[int, Instance]] = []
    boxes: list[tuple[int, Instance]] = []
    loose: list[Element] = []
    position = 0
    for group, shapes in groups.items():
        skeletons = [shape for shape in shapes if shape.tag == "skeleton"]
        rectangles = [shape for shape in shapes if shape.tag == "box"]
        named = [shape for shape in shapes if shape.tag == "points"]
        grouped = group not in ("", "0")
        if grouped and len(rectangles) <= 1 and (len(skeletons) == 1 or (named and not skeletons)):
            instance = _grouped(skeletons, rectangles, named, where, labels, issues)
            ordered.append((position, instance))
            position += 1
            continue
        for shape in shapes:
            if shape.tag == "points" and len(parse_coordinates(shape)) == 1:
                loose.append(shape)
                continue
            instance = _single(shape, where, labels, issues)
            if instance is not None:
                (boxes if shape.tag == "box" else ordered).append((position, instance))
            position += 1
    _match_boxes(ordered, boxes, issues)
    instances = [instance for _, instance in sorted([*ordered, *boxes], key=lambda item: item[0])]
    for shape in loose:
        _add_loose_point(shape, instances, where, labels, issues)
    return instances


def _add_loose_point(shape: Element, instances: list[Instance], where: str, labels: Labels, issues: IssueLog) -> None:
    """Add a point without a group, whose label is a keypoint name, to the smallest rectangle that contains it."""
    name = shape.get("label", "")
    x, y = parse_coordinates(shape)[0]
    matching: list[tuple[float, int]] = []
    for index, instance in enumerate(instances):
        template = labels.classes.get(instance.category)
        declared = template.keypoints if template else ()
        if instance.box is None or name in instance.points or name == instance.category:
            continue
        x1, y1, x2, y2 = instance.box.corners
        if x1 <= x <= x2 and y1 <= y <= y2 and (not declared or name in declared):
            matching.append((instance.box.area, index))
    if not matching:
        advice = "Draw a rectangle around the points of each instance, or group them with it"
        issues.skip("shapes of the kind points that belong to no instance", f"{where}: {name}", advice)
        return
    instances[min(matching)[1]].points[name] = Point(x, y, _state(shape))
    issues.change("points without a group were added to the smallest rectangle that contains them", f"{where}: {name}")


def _grouped(
    skeletons: list[Element],
    rectangles: list[Element],
    named: list[Element],
    where: str,
    labels: Labels,
    issues: IssueLog,
) -> Instance:
    """Return the instance of a group: a skeleton, or points whose labels are keypoint names; with its rectangle."""
    if skeletons:
        instance = _skeleton(skeletons[0], where, labels, issues)
    else:
        label = rectangles[0].get("label", "") if rectangles else named[0].get("label", "")
        instance = Instance(category=labels.category(label), source=where)
    for shape in named:
        for x, y in parse_coordinates(shape)[:1]:
            instance.points[str(shape.get("label"))] = Point(x, y, _state(shape))
    if rectangles:
        instance.box, instance.rotation = _box(rectangles[0], where, issues)
        _set_attributes(instance, rectangles[0], labels)
    return instance


def _single(shape: Element, where: str, labels: Labels, issues: IssueLog) -> Instance | None:
    if shape.tag == "skeleton":
        return _skeleton(shape, where, labels, issues)
    category = labels.category(shape.get("label", ""))
    if shape.tag == "box":
        box, rotation = _box(shape, where, issues)
        instance = Instance(category=category, box=box, rotation=rotation, source=where)
        _set_attributes(instance, shape, labels)
        return instance if box is not None else None
    coordinates = parse_coordinates(shape) if shape.tag == "points" else []
    if len(coordinates) < 2:
        issues.skip(f"shapes of the kind {shape.tag} that belong to no instance", where, "Group them with a rectangle")
        return None
    names = default_names(len(coordinates))
    state = _state(shape)
    points = {name: Point(x, y, state) for name, (x, y) in zip(names, coordinates, strict=True)}
    instance = Instance(category=category, points=points, source=where)
    _set_attributes(instance, shape, labels)
    return instance


def _skeleton(shape: Element, where: str, labels: Labels, issues: IssueLog) -> Instance:
    instance = Instance(category=shape.get("label", ""), source=where)
    for element in shape.findall("points"):
        name = str(element.get("label"))
        coordinates = parse_coordinates(element)
        state = _state(element)
        if len(coordinates) != 1:
            if state:
                issues.skip("keypoints with faulty values", f"{where}: {name}")
            continue
        scores = [attribute.text for attribute in element.iter("attribute") if attribute.get("name") == "score"]
        score = _number(scores[0]) if scores and state else None
        instance.points[name] = Point(*coordinates[0], state, score)
    _set_attributes(instance, shape, labels)
    return instance


def _state(shape: Element) -> PointState:
    if shape.get("outside") == "1":
        return PointState.ABSENT
    return PointState.HIDDEN if shape.get("occluded") == "1" else PointState.VISIBLE


def parse_coordinates(shape: Element) -> list[tuple[float, float]]:
    """Return the points `x,y;x,y`; none if a value is not a finite number."""
    pairs = [pair.split(",") for pair in shape.get("points", "").split(";") if pair]
    numbers = [[_number(value) for value in pair] for pair in pairs]
    if not all(len(pair) == 2 and is_finite(*pair) for pair in numbers):
        return []
    return [(float(x or 0), float(y or 0)) for x, y in numbers]


def _box(shape: Element, where: str, issues: IssueLog) -> tuple[Box | None, float]:
    corners = [_number(shape.get(key)) for key in ("xtl", "ytl", "xbr", "ybr")]
    if not is_finite(*corners):
        issues.skip("rectangles with faulty values", where)
        return None, 0.0
    x1, y1, x2, y2 = (float(value or 0) for value in corners)
    return Box.from_corners(x1, y1, x2, y2), _number(shape.get("rotation")) or 0.0


def _set_attributes(instance: Instance, shape: Element, labels: Labels) -> None:
    """Set attributes of a shape; those that our writer names after fields of an instance become these fields."""
    values = {
        attribute.get("name", ""): _value(attribute.text or "", attribute.get("name", ""), labels)
        for attribute in shape.findall("attribute")
    }
    if is_finite(values.get("area")):
        instance.area = values.pop("area")
    if is_finite(values.get("score")):
        instance.confidence = values.pop("score")
    if "iscrowd" in values:
        instance.crowd = values.pop("iscrowd") in (True, 1, "true", "1")
    identity = values.pop("annotation_id", None)
    instance.id = identity if identity not in (None, "") else instance.id
    track = values.pop("track_id", None)
    instance.track_id = track if track not in (None, "") else instance.track_id
    instance.attributes |= values
    if shape.get("z_order", "0") != "0":
        instance.attributes["z_order"] = int(_number(shape.get("z_order")) or 0)
    if shape.get("source", "manual") != "manual":
        instance.attributes["source"] = shape.get("source")


def _value(text: str, name: str, labels: Labels) -> Any:
    """Return the value of an attribute by the type that its label declares; our writer writes JSON."""
    kind = labels.attribute_types.get(name)
    if kind == "checkbox":
        return text.lower() == "true"
    if kind == "number" or labels.own or name in FIELDS:
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            return text
    return text


def _match_boxes(instances: list[tuple[int, Instance]], boxes: list[tuple[int, Instance]], issues: IssueLog) -> None:
    """Give skeletons without a rectangle in their group the smallest one of their class that contains their points."""
    free = [item for item in boxes if any(item[1].category == instance.category for _, instance in instances)]
    for _, instance in instances:
        if instance.box is not None or not instance.labeled:
            continue
        inside = [
            item
            for item in free
            if item[1].category == instance.category and item[1].box is not None and _contains(item[1].box, instance)
        ]
        if not inside:
            continue
        best = min(inside, key=lambda item: item[1].box.area if item[1].box else 0.0)
        instance.box = best[1].box
        instance.rotation = best[1].rotation
        instance.crowd = best[1].crowd
        free.remove(best)
        boxes.remove(best)
        issues.change("rectangles outside of groups became the boxes of the skeletons in them", instance.source)


def _contains(box: Box, instance: Instance) -> bool:
    x1, y1, x2, y2 = box.corners
    return all(x1 <= point.x <= x2 and y1 <= point.y <= y2 for point in instance.labeled)


def _number(text: str | None) -> float | None:
    try:
        return float(text or "")
    except ValueError:
        return None


def parse_integer(text: str | None) -> int | None:
    """Return the integer of an attribute; None if it is missing or not a finite number."""
    number = _number(text)
    return int(number) if number is not None and is_finite(number) else None
