"""Records with every kind of value, drawn by hypothesis, and what of them a format must restore."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from hypothesis import strategies as st

from yolopose.data.convert.protocol import AnnotationFormat, Feature
from yolopose.data.convert.record import (
    Box,
    ClassTemplate,
    DatasetRecord,
    ImageRecord,
    Instance,
    IssueLog,
    Point,
    PointState,
)

WIDTH, HEIGHT = 80, 60
MOUSE = ClassTemplate(
    name="mouse",
    keypoints=("snout", "left ear", "right ear", "tail,base"),
    skeleton=(("snout", "left ear"), ("snout", "right ear")),
    mirror=(("left ear", "right ear"),),
    sigmas={"snout": 0.03, "left ear": 0.04, "right ear": 0.04, "tail,base": 0.09},
    attributes={"supercategory": "animal"},
)
ARENA = ClassTemplate(name="arena", keypoints=("corner 1", "corner 2"), mirror=(("corner 1", "corner 2"),))


def numbers(high: float) -> st.SearchStrategy[float]:
    return st.floats(1, high - 1).map(lambda value: round(value, 3))


@st.composite
def points(draw: st.DrawFn) -> Point:
    state = draw(st.sampled_from(list(PointState)))
    confidence = draw(st.none() | st.sampled_from([0.25, 0.875])) if state else None
    if not state:
        return Point(0.0, 0.0, state)
    return Point(draw(numbers(WIDTH)), draw(numbers(HEIGHT)), state, confidence)


@st.composite
def instances(draw: st.DrawFn, templates: Sequence[ClassTemplate] = (MOUSE, ARENA)) -> Instance:
    template = draw(st.sampled_from(templates))
    box = Box(draw(numbers(40)), draw(numbers(30)), draw(numbers(40)), draw(numbers(30)))
    return Instance(
        category=template.name,
        box=draw(st.none() | st.just(box)),
        points={name: draw(points()) for name in template.keypoints},
        crowd=draw(st.booleans()),
        area=draw(st.none() | numbers(500)),
        confidence=draw(st.none() | st.sampled_from([0.5, 0.75])),
        track_id=draw(st.none() | st.sampled_from(["a", "b"])),
        id=draw(st.none() | st.integers(1, 99)),
        attributes=draw(st.sampled_from([{}, {"pose": "sitting"}])),
    )


@st.composite
def datasets(draw: st.DrawFn, templates: Sequence[ClassTemplate] = (MOUSE, ARENA)) -> Callable[[Path], DatasetRecord]:
    """Return a function that writes the images to a folder and returns the record."""
    names = draw(st.lists(st.sampled_from(["a.png", "b.png", "cam 1/a.png", "ü.png"]), unique=True, min_size=1))
    images = [
        ImageRecord(
            name=name,
            width=WIDTH,
            height=HEIGHT,
            split=draw(st.sampled_from(["train", "val"])),
            id=draw(st.none() | st.integers(1, 99)),
            instances=draw(st.lists(instances(templates), max_size=3)),
        )
        for name in names
    ]

    def make(folder: Path) -> DatasetRecord:
        for image in images:
            image.path = write_image(folder / image.split / image.name)
        return DatasetRecord.from_images(templates, images, {"info": "made"})

    return make


def write_image(path: Path, width: int = WIDTH, height: int = HEIGHT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(".png", np.full((height, width, 3), 90, np.uint8))[1].tobytes())
    return path


def restorable(dataset: DatasetRecord, target: AnnotationFormat) -> list[dict[str, Any]]:
    """Return the values of all images that a format can hold, as plain values."""
    holds = target.capabilities
    rows: list[dict[str, Any]] = []
    for image in dataset.images(IssueLog()):
        values = [_instance(instance, holds) for instance in image.instances if _is_held(instance, holds)]
        if not values and Feature.EMPTY_IMAGE not in holds:
            continue
        row: dict[str, Any] = {"name": image.name, "instances": sorted(values, key=repr), "size": image.size}
        row |= {"split": image.split} if Feature.SPLIT in holds else {}
        row |= {"id": image.id} if Feature.IMAGE_ID in holds else {}
        rows.append(row)
    return sorted(rows, key=lambda row: (row.get("split", ""), row["name"]))


def _is_held(instance: Instance, holds: frozenset[Feature]) -> bool:
    has_box = instance.box is not None and Feature.BOX in holds
    return bool(instance.labeled) or (has_box and Feature.NO_POINTS in holds)


def _instance(instance: Instance, holds: frozenset[Feature]) -> dict[str, Any]:
    values: dict[Feature, tuple[str, Any]] = {
        Feature.CLASS: ("category", instance.category),
        Feature.BOX: ("box", None if instance.box is None else tuple(round(value, 6) for value in instance.box)),
        Feature.CROWD: ("crowd", instance.crowd),
        Feature.AREA: ("area", instance.area),
        Feature.CONFIDENCE: ("confidence", instance.confidence),
        Feature.TRACK_ID: ("track_id", instance.track_id),
        Feature.INSTANCE_ID: ("id", instance.id),
        Feature.INSTANCE_ATTRIBUTES: ("attributes", instance.attributes),
    }
    row = {name: value for feature, (name, value) in values.items() if feature in holds}
    row["points"] = {
        name: (
            round(point.x, 6),
            round(point.y, 6),
            int(point.state) if Feature.HIDDEN in holds else 2,
            point.confidence if Feature.POINT_CONFIDENCE in holds else None,
        )
        for name, point in sorted(instance.points.items())
        if point.state
    }
    return row
