"""Values of instances that tables of DeepLabCut do not have, stored in the class file of a project.

They are restored for instances whose points are as they were written. Of an instance that was edited in DeepLabCut, the
box and the area are left out, since they may not fit any more.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any, cast

from yolopose.data.convert.class_file import instance_values, parse_instance_values
from yolopose.data.convert.grouping import to_number
from yolopose.data.convert.record import Box, ClassTemplate, Instance, Point, PointState
from yolopose.data.convert.source_files import Json


def store_instances(instances: Sequence[Instance], individuals: Mapping[str, Instance]) -> list[Json]:
    """Return the values of the instances of an image.

    Args:
        instances: all instances, in their order.
        individuals: those that are in the table, by the name of the individual.
    """
    names = {id(instance): name for name, instance in individuals.items()}
    return [_store(instance, names.get(id(instance))) for instance in instances]


def _store(instance: Instance, individual: str | None) -> Json:
    hidden = [name for name, point in instance.points.items() if point.state == PointState.HIDDEN]
    scores = {name: point.confidence for name, point in instance.points.items() if point.confidence is not None}
    values: Json = {
        "individual": individual,
        "row": _checksum(instance.points) if individual is not None else None,
        "category": instance.category if individual is None else None,
        "box": None if instance.box is None else list(instance.box),
        "hidden": hidden or None,
        "confidences": scores or None,
    }
    return {name: value for name, value in values.items() if value is not None} | instance_values(instance)


def _checksum(points: Mapping[str, Point]) -> int:
    """Return a checksum of the labeled points, equal for a table that was read and written again."""
    labeled = sorted((name, float(point.x), float(point.y)) for name, point in points.items() if point.state)
    return zlib.crc32(repr(labeled).encode())


def restore_instances(
    stored: object, instances: Mapping[str, Instance], classes: Sequence[ClassTemplate]
) -> list[Instance]:
    """Return the instances of an image in their stored order, with their stored values; new ones follow.

    Args:
        stored: what `store_instances` returned; None without a class file.
        instances: instances of the table by the name of the individual.
        classes: all classes.
    """
    entries = cast("list[Any]", stored) if isinstance(stored, list) else []
    waiting = dict(instances)
    names = {template.name for template in classes}
    restored: list[Instance] = []
    for entry in entries:
        if not isinstance(entry, dict):
            continue
        values = cast(Json, entry)
        individual = values.get("individual")
        if individual is None and values.get("category") in names:
            instance = Instance(category=str(values["category"]))
            _restore(instance, values)
            restored.append(instance)
        elif isinstance(individual, str) and individual in waiting:
            instance = waiting.pop(individual)
            _restore(instance, values)
            restored.append(instance)
    return [*restored, *waiting.values()]


def _restore(instance: Instance, values: Json) -> None:
    fields = parse_instance_values(values)
    is_unchanged = not instance.points or values.get("row") == _checksum(instance.points)
    if not is_unchanged:
        fields.pop("area", None)
        fields.pop("segmentation", None)
    for name, value in fields.items():
        setattr(instance, name, value)
    box = values.get("box")
    sides = [to_number(side) for side in cast("list[object]", box)] if isinstance(box, list) else []
    if is_unchanged and len(sides) == 4 and all(side is not None for side in sides):
        instance.box = Box(*(side or 0.0 for side in sides))
    hidden = values.get("hidden")
    scores = values.get("confidences")
    for name, point in instance.points.items():
        if isinstance(hidden, list) and name in hidden:
            point = point._replace(state=PointState.HIDDEN)
        if isinstance(scores, dict):
            point = point._replace(confidence=to_number(cast(Json, scores).get(name, point.confidence)))
        instance.points[name] = point
