"""Seeded random records, and what two records must share."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from yolopose.data.convert.record import (
    Box,
    ClassTemplate,
    DatasetRecord,
    ImageRecord,
    Instance,
    Point,
    PointState,
)

SIZE = (320, 240)


def random_classes(rng: random.Random, several: bool) -> tuple[ClassTemplate, ...]:
    """Classes with names of several scripts; the second one has other keypoints than the first, in another order."""
    cat = ClassTemplate(
        name="cat & dog",
        keypoints=("nose", "left_ear", "right_ear", "tail <base>", "schnauze ü"),
        skeleton=(("nose", "left_ear"), ("nose", "right_ear")),
        mirror=(("left_ear", "right_ear"),),
        sigmas={"nose": 0.02, "left_ear": 0.03, "right_ear": 0.03, "tail <base>": 0.1, "schnauze ü": 0.05},
    )
    fly = ClassTemplate(
        name="fly",
        keypoints=("head", "nose", "wing"),
        skeleton=(("wing", "head"),),
        mirror=(),
        sigmas={"head": 0.01, "nose": 0.02, "wing": 0.2},
    )
    return (cat, fly) if several else (cat,)


def random_instance(rng: random.Random, template: ClassTemplate, **values: Any) -> Instance:
    points: dict[str, Point] = {}
    for name in template.keypoints:
        state = PointState(rng.choice((0, 1, 2, 2)))
        points[name] = Point(rng.uniform(0, SIZE[0]), rng.uniform(0, SIZE[1]), state) if state else Point(0, 0, state)
    width, height = rng.uniform(5, 150), rng.uniform(5, 120)
    box = Box(rng.uniform(0, SIZE[0] - width), rng.uniform(0, SIZE[1] - height), width, height)
    area = rng.choice((None, rng.uniform(1, width * height)))
    return Instance(category=template.name, box=box, points=points, area=area, **values)


def random_record(folder: Path, seed: int, *, several: bool = False, splits: bool = True) -> DatasetRecord:
    """A record with image files; names have folders and spaces, one image has no instance."""
    rng = random.Random(seed)  # noqa: S311
    classes = random_classes(rng, several)
    names = ("a.png", "cam 1/b.png", "cam 2/b.png", "empty.png", "ünïcode.png")
    images: list[ImageRecord] = []
    number = 0
    for index, name in enumerate(names):
        path = folder / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            pixels = np.full((SIZE[1], SIZE[0], 3), 40 * index, np.uint8)
            path.write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
        image = ImageRecord(name=name, width=SIZE[0], height=SIZE[1], path=path, id=index + 5)
        image.split = ("train" if index < 3 else "val") if splits else ""
        for _ in range(0 if name == "empty.png" else rng.randint(1, 3)):
            number += 1
            image.instances.append(random_instance(rng, rng.choice(classes), id=number, crowd=rng.random() < 0.1))
        images.append(image)
    return DatasetRecord.from_images(classes, images)


def values(record: DatasetRecord) -> dict[str, list[dict[str, Any]]]:
    """The instances of each image by name, as plain values; absent keypoints without coordinates are omitted."""
    return {
        f"{image.split}/{image.name}": [instance_values(instance) for instance in image.instances]
        for image in record.images()
    }


def instance_values(instance: Instance) -> dict[str, Any]:
    points = {name: (point.x, point.y, int(point.state)) for name, point in instance.points.items() if any(point[:3])}
    box_area = instance.box.area if instance.box else None
    return {
        "category": instance.category,
        "box": instance.box and tuple(instance.box),
        "points": dict(sorted(points.items())),
        "crowd": instance.crowd,
        "area": box_area if instance.area is None else instance.area,
        "id": instance.id,
    }


def assert_same(actual: Any, expected: Any, tolerance: float, where: str = "") -> None:
    """Compare nested values; numbers may differ by `tolerance`."""
    if isinstance(expected, dict):
        assert isinstance(actual, dict), where
        assert list(actual) == list(expected), where
        for key, value in expected.items():
            assert_same(actual[key], value, tolerance, f"{where}/{key}")
    elif isinstance(expected, list | tuple):
        assert len(actual) == len(expected), where
        for index, value in enumerate(expected):
            assert_same(actual[index], value, tolerance, f"{where}[{index}]")
    elif isinstance(expected, int | float):
        assert math.isclose(actual, expected, abs_tol=tolerance, rel_tol=1e-9), f"{where}: {actual} {expected}"
    else:
        assert actual == expected, where
