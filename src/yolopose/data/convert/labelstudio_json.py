"""Write Label Studio tasks, and the labeling configuration that they need."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

from yolopose.data.convert.class_file import CLASS_FILE, class_file
from yolopose.data.convert.instances import box_from_points
from yolopose.data.convert.output import OutputPlan
from yolopose.data.convert.protocol import WriteOptions
from yolopose.data.convert.record import Box, DatasetRecord, ImageRecord, Instance, IssueLog, PointState

LOCAL_FILES = "/data/local-files/?d="
"""Address of images in a local storage of Label Studio; the path below its document root follows."""
_POINT_SIZE = 0.5  # drawn size of a keypoint, percent of the width

Json = dict[str, Any]


def write(dataset: DatasetRecord, plan: OutputPlan, options: WriteOptions, issues: IssueLog) -> Path:
    """Write `tasks.json`, `label_config.xml` (the labeling interface) and the class file.

    Instances that a model predicted become predictions, which annotators confirm; others become annotations. The
    address of an image is `url` and its name, by default in a local storage. Images are copied to `images/SPLIT` if
    `copy_images` is set.
    """
    path = plan.main("tasks.json", "the tasks")
    config_path = plan.add("label_config.xml" if not plan.main_name else f"{path.stem}.label_config.xml", "the labels")
    classes_path = plan.add(CLASS_FILE, "the classes")
    images: dict[str, Json] = {}
    for image in dataset.images():
        values = {"id": image.id, "attributes": image.attributes}
        if values := {key: value for key, value in values.items() if value not in (None, {})}:
            images[f"{image.split}/{image.name}"] = values
        if options.copy_images and image.content is not None:
            copy = PurePosixPath("images", image.split, image.name)
            plan.add(copy, f"{image.name!r} of {image.split!r}", image.content)
    plan.check()
    model = str(dataset.attributes.get("model_version", "yolopose"))
    with plan.open(path) as file:
        separator = b"[\n"
        for number, image in enumerate(dataset.images(), 1):
            file.write(separator + json.dumps(_task(image, number, options.url, model, issues), default=str).encode())
            separator = b",\n"
        file.write(b"\n]\n" if separator != b"[\n" else b"[]\n")
    plan.write(config_path, _label_config(dataset))
    plan.write(classes_path, class_file(dataset, images))
    for name in plan.copies:
        plan.copy(name)
    return plan.target / path


def _task(image: ImageRecord, number: int, url: str, model: str, issues: IssueLog) -> Json:
    data: Json = {"image": (url or LOCAL_FILES) + quote(image.name)}
    if image.split:
        data["split"] = image.split
    if image.size is not None:
        data["width"], data["height"] = image.size
    task: Json = {"id": number, "data": data}
    results: list[Json] = []
    for index, instance in enumerate(image.instances):
        if image.size is None:
            issues.skip("instances of images of unknown size", image.name, "Give the images with images=…")
        else:
            results += _instance_results(instance, image.size, f"{number}-{index}", image, issues)
    predicted = bool(image.instances) and all(instance.confidence is not None for instance in image.instances)
    if predicted:
        scores = [instance.confidence or 0.0 for instance in image.instances]
        task["predictions"] = [{"model_version": model, "score": sum(scores) / len(scores), "result": results}]
    else:
        task["annotations"] = [{"result": results}]
    return task


def _instance_results(
    instance: Instance, size: tuple[int, int], key: str, image: ImageRecord, issues: IssueLog
) -> Iterator[Json]:
    """Yield the rectangle of an instance and its keypoints, whose parent it is."""
    width, height = size
    common = {"to_name": "image", "original_width": width, "original_height": height, "image_rotation": 0}
    box = instance.box or box_from_points(instance, None)
    if box is None:
        issues.skip("instances without box and labeled keypoints", instance.source or image.name)
        return
    x, y = _corner(box, instance.rotation)
    value: Json = {
        "x": 100 * x / width,
        "y": 100 * y / height,
        "width": 100 * box.width / width,
        "height": 100 * box.height / height,
        "rotation": instance.rotation,
        "rectanglelabels": [instance.category],
    }
    rectangle: Json = {"id": key, "type": "rectanglelabels", "from_name": "box", **common, "value": value}
    if instance.confidence is not None:
        rectangle["score"] = instance.confidence
    if meta := _meta(instance):
        rectangle["meta"] = meta
    yield rectangle
    for index, (name, point) in enumerate(instance.points.items()):
        if not point.state:
            continue
        place = {"x": 100 * point.x / width, "y": 100 * point.y / height, "width": _POINT_SIZE}
        region: Json = {"id": f"{key}-{index}", "parentID": key, **common}
        result = {
            **region,
            "type": "keypointlabels",
            "from_name": "keypoints",
            "value": {**place, "keypointlabels": [name]},
        }
        if point.confidence is not None:
            result["score"] = point.confidence
        yield result
        if point.state == PointState.HIDDEN:
            choice = {**place, "choices": ["hidden"]}
            yield {**region, "type": "choices", "from_name": "visibility", "value": choice}


def _meta(instance: Instance) -> Json:
    """Return the values of an instance that Label Studio has no other place for."""
    box_area = instance.box.area if instance.box else math.nan
    values: Mapping[str, Any] = {
        "area": None if instance.area is None or math.isclose(instance.area, box_area, rel_tol=1e-9) else instance.area,
        "iscrowd": instance.crowd or None,
        "id": instance.id,
        "track_id": instance.track_id,
        "segmentation": instance.segmentation,
        "attributes": instance.attributes or None,
        "no_box": True if instance.box is None else None,
        "absent": {
            name: [point.x, point.y]
            for name, point in instance.points.items()
            if not point.state and (point.x or point.y)
        }
        or None,
    }
    return {key: value for key, value in values.items() if value is not None}


def _corner(box: Box, degrees: float) -> tuple[float, float]:
    """Return the left top corner of a box turned around its center, which Label Studio turns it around."""
    angle = math.radians(degrees)
    cosine, sine = math.cos(angle), math.sin(angle)
    cx, cy = box.x + box.width / 2, box.y + box.height / 2
    if not degrees:
        return box.x, box.y
    return (
        cx - cosine * box.width / 2 + sine * box.height / 2,
        cy - sine * box.width / 2 - cosine * box.height / 2,
    )


def _label_config(dataset: DatasetRecord) -> str:
    names = dict.fromkeys(name for template in dataset.classes for name in template.keypoints)
    boxes = "\n".join(f"    <Label value={quoteattr(template.name)}/>" for template in dataset.classes)
    points = "\n".join(f"    <Label value={quoteattr(name)}/>" for name in names)
    return (
        "<View>\n"
        '  <Image name="image" value="$image"/>\n'
        f'  <RectangleLabels name="box" toName="image">\n{boxes}\n  </RectangleLabels>\n'
        f'  <KeyPointLabels name="keypoints" toName="image">\n{points}\n  </KeyPointLabels>\n'
        '  <Choices name="visibility" toName="image" perRegion="true" choice="single">\n'
        '    <Choice value="hidden"/>\n'
        "  </Choices>\n"
        "</View>\n"
    )
