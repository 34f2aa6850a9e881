"""The class file `yolopose.json`, and other values that formats have no field for.

It is written beside the annotations of formats that hold no skeletons, mirror pairs or sigmas, and read with them, so
that a conversion and back restores all of these. The tools of these formats ignore it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from yolopose.base.errors import DataError
from yolopose.data.convert.grouping import to_number
from yolopose.data.convert.record import ClassTemplate, DatasetRecord, ImageRecord, Instance
from yolopose.data.convert.source_files import Json, read_json

CLASS_FILE = "yolopose.json"
_MAX_BYTES = 256 << 20


def class_to_json(template: ClassTemplate) -> Json:
    """Return a class as JSON values."""
    return {
        "name": template.name,
        "keypoints": list(template.keypoints),
        "skeleton": [list(edge) for edge in template.skeleton],
        "mirror": None if template.mirror is None else [list(pair) for pair in template.mirror],
        "sigmas": dict(template.sigmas),
        "attributes": dict(template.attributes),
    }


def class_file(dataset: DatasetRecord, images: Mapping[str, Json] | None = None) -> bytes:
    """Return the content of a class file.

    Args:
        dataset: the data set.
        images: values of images that the format cannot hold, by the name that the format uses.
    """
    content = {
        "yolopose": 1,
        "classes": [class_to_json(template) for template in dataset.classes],
        "attributes": dataset.attributes,
        "images": images or {},
    }
    return json.dumps(content, indent=1, ensure_ascii=False).encode()


class ClassFile:
    """What a class file stores.

    Attributes:
        classes: the classes; empty without a class file.
        attributes: attributes of the data set.
        images: values of images, by the name that the format uses.
    """

    def __init__(self, classes: Sequence[ClassTemplate], attributes: Json, images: Mapping[str, Json]) -> None:
        self.classes = tuple(classes)
        self.attributes = attributes
        self.images = images

    @property
    def exists(self) -> bool:
        """Whether there is a class file."""
        return bool(self.classes)

    def restore(self, image: ImageRecord, name: str) -> ImageRecord:
        """Set the values of an image that the format does not hold: name, split, id and attributes."""
        values = self.images.get(name, {})
        image.name = str(values.get("name", image.name))
        image.split = str(values.get("split", image.split))
        if isinstance(values.get("id"), int | str):
            image.id = values["id"]
        if isinstance(values.get("attributes"), dict):
            image.attributes |= values["attributes"]
        return image


def image_to_json(image: ImageRecord) -> Json:
    """Return the values of an image that `ClassFile.restore` sets."""
    values: Json = {"name": image.name, "split": image.split, "id": image.id, "attributes": image.attributes}
    return {key: value for key, value in values.items() if value not in ("", None, {})}


def read_class_file(folder: Path) -> ClassFile:
    """Read the class file of a folder; without one, all values are empty.

    Raises:
        DataError: it is damaged; the message has the field.
    """
    path = folder / CLASS_FILE
    content = read_json(path, "the class file of yolopose", _MAX_BYTES) if path.is_file() else {}
    return parse_class_file(content, path)


def parse_class_file(content: Json, path: Path) -> ClassFile:
    """Return what a class file stores; without content, all values are empty.

    Args:
        content: its content.
        path: the file, for messages.

    Raises:
        DataError: it is damaged; the message has the field.
    """
    if not content:
        return ClassFile((), {}, {})
    try:
        classes = [class_from_json(values) for values in content["classes"]]
        attributes = dict(content.get("attributes") or {})
        images = {str(name): dict(values) for name, values in dict(content.get("images") or {}).items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            f"{path} is not a class file of yolopose ({type(error).__name__}: {error}). Remove it if it is another "
            "file; the classes and keypoints are then taken from the annotations."
        ) from error
    return ClassFile(classes, attributes, images)


def class_from_json(values: Mapping[str, Any]) -> ClassTemplate:
    """Return the class that `class_to_json` stored.

    Raises:
        KeyError, TypeError, ValueError: the values have another form.
    """
    mirror = values.get("mirror")
    return ClassTemplate(
        name=str(values["name"]),
        keypoints=tuple(str(name) for name in values["keypoints"]),
        skeleton=tuple(_pair(edge) for edge in values.get("skeleton") or ()),
        mirror=None if mirror is None else tuple(_pair(pair) for pair in mirror),
        sigmas={str(name): float(sigma) for name, sigma in dict(values.get("sigmas") or {}).items()},
        attributes=dict(values.get("attributes") or {}),
    )


def _pair(values: Sequence[Any]) -> tuple[str, str]:
    first, second = values
    return str(first), str(second)


def instance_values(instance: Instance) -> Json:
    """Return the values of an instance besides class, box and points, without those that it does not have."""
    values = {
        "crowd": instance.crowd or None,
        "area": instance.area,
        "rotation": instance.rotation or None,
        "confidence": instance.confidence,
        "track_id": instance.track_id,
        "id": instance.id,
        "segmentation": instance.segmentation,
        "attributes": instance.attributes or None,
    }
    return {name: value for name, value in values.items() if value is not None}


def parse_instance_values(values: object) -> Json:
    """Return the fields of `Instance` that `instance_values` stored; values of another type are left out.

    `attributes` is always present.
    """
    stored = cast(Json, values) if isinstance(values, dict) else {}
    attributes = stored.get("attributes")
    fields: Json = {"attributes": dict(cast(Json, attributes)) if isinstance(attributes, dict) else {}}
    if stored.get("crowd") is True:
        fields["crowd"] = True
    for name in ("area", "rotation", "confidence"):
        number = to_number(stored.get(name))
        if number is not None:
            fields[name] = number
    for name in ("track_id", "id"):
        if isinstance(stored.get(name), int | str):
            fields[name] = stored[name]
    if isinstance(stored.get("segmentation"), list | dict):
        fields["segmentation"] = stored["segmentation"]
    return fields
