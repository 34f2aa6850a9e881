"""Write CVAT XML 1.1: annotations, and the labels that the CVAT task needs."""

from __future__ import annotations

import json
import math
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import numpy as np
import numpy.typing as npt

from yolopose.data.convert.class_file import CLASS_FILE, class_file
from yolopose.data.convert.output import OutputPlan
from yolopose.data.convert.protocol import WriteOptions
from yolopose.data.convert.record import (
    ClassTemplate,
    DatasetRecord,
    ImageRecord,
    Instance,
    IssueLog,
    Point,
    PointState,
)

BOX_SUFFIX = "_box"
WRITER = "yolopose"
FIELDS = ("area", "iscrowd", "score", "annotation_id", "track_id")
"""Attributes that hold fields of an instance."""
_MAX_POSES = 500  # instances from which the shape of a skeleton is averaged
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")  # characters that XML cannot hold


@dataclass(slots=True)
class _Survey:
    """What the labels need to know of all images.

    Attributes:
        count: number of images.
        attributes: names of attributes by label.
        scores: classes with confidences of keypoints.
        poses: sum of keypoint positions relative to their box, and their number, by class and keypoint.
        images: values of images that XML has no place for.
    """

    count: int = 0
    attributes: dict[str, dict[str, None]] = field(default_factory=lambda: defaultdict(dict))
    scores: set[str] = field(default_factory=set[str])
    poses: dict[str, dict[str, npt.NDArray[np.float64]]] = field(default_factory=lambda: defaultdict(dict))
    images: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])

    def add(self, image: ImageRecord, templates: Mapping[str, ClassTemplate]) -> None:
        """Add an image."""
        self.count += 1
        values = {"id": image.id, "attributes": image.attributes}
        if values := {key: value for key, value in values.items() if value not in (None, {})}:
            self.images[f"{image.split}/{image.name}"] = values
        for instance in image.instances:
            label = instance.category if _has_skeleton(instance) else _box_label(templates[instance.category])
            self.attributes[label].update(dict.fromkeys(_attributes(instance)))
            if any(point.confidence is not None for point in instance.points.values()):
                self.scores.add(instance.category)
            self._add_pose(instance)

    def _add_pose(self, instance: Instance) -> None:
        points = {name: point for name, point in instance.points.items() if point.state}
        if len(points) < 3:
            return
        xy = np.array([[point.x, point.y] for point in points.values()])
        low = xy.min(axis=0)
        scale = float((xy.max(axis=0) - low).max())
        sums = self.poses[instance.category]
        for name, position in zip(points, (xy - low) / scale if scale > 0 else xy * 0, strict=True):
            total = sums.setdefault(name, np.zeros(3))
            if total[2] < _MAX_POSES:
                total += (*position, 1)


def write(dataset: DatasetRecord, plan: OutputPlan, options: WriteOptions, issues: IssueLog) -> Path:
    """Write `annotations.xml`, `labels.json` (the labels of the task, for the tab Raw) and the class file.

    Images are copied to `images/SPLIT` if `copy_images` is set.
    """
    path = plan.main("annotations.xml", "the annotations")
    labels_path = plan.add("labels.json" if not plan.main_name else f"{path.stem}.labels.json", "the labels")
    classes_path = plan.add(CLASS_FILE, "the classes")
    templates = {template.name: template for template in dataset.classes}
    survey = _Survey()
    for image in dataset.images():
        survey.add(image, templates)
        if options.copy_images and image.content is not None:
            plan.add(
                PurePosixPath("images", image.split, image.name), f"{image.name!r} of {image.split!r}", image.content
            )
    plan.check()
    labels = [label for template in dataset.classes for label in _labels(template, survey)]
    with plan.open(path) as file:
        for line in (*_head(labels, survey, path.stem), *_image_lines(dataset, templates, issues), "</annotations>"):
            file.write(line.encode() + b"\n")
    plan.write(labels_path, json.dumps(labels, indent=1, ensure_ascii=False))
    plan.write(classes_path, class_file(dataset, survey.images))
    for name in plan.copies:
        plan.copy(name)
    return plan.target / path


def _image_lines(dataset: DatasetRecord, templates: Mapping[str, ClassTemplate], issues: IssueLog) -> Iterator[str]:
    for number, image in enumerate(dataset.images()):
        subset = f" subset={_quote(image.split)}" if image.split else ""
        size = f'width="{image.width or 0}" height="{image.height or 0}"'
        yield f'  <image id="{number}" name={_quote(image.name)}{subset} {size}>'
        for group, instance in enumerate(image.instances, 1):
            if instance.box is None and not _has_skeleton(instance):
                issues.skip("instances without box and labeled keypoints", instance.source or image.name)
            yield from _shapes(instance, templates[instance.category], group)
        yield "  </image>"


def _shapes(instance: Instance, template: ClassTemplate, group: int) -> Iterator[str]:
    """Yield the lines of an instance: a skeleton and a rectangle in one group, or one of them."""
    values = dict(instance.attributes)
    source = str(values.pop("source", "manual"))
    z_order = values.pop("z_order", 0)
    common = f'source={_quote(source)} z_order="{z_order}" group_id="{group}"'
    attributes = [
        f"      <attribute name={_quote(name)}>{_text(_encode(value))}</attribute>"
        for name, value in _attributes(instance).items()
    ]
    if _has_skeleton(instance):
        yield f"    <skeleton label={_quote(template.name)} {common}>"
        for name in template.keypoints:
            yield from _point(name, instance.points.get(name), source)
        yield from attributes
        yield "    </skeleton>"
        attributes = []
    if instance.box is not None:
        x1, y1, x2, y2 = (_decimal(value) for value in instance.box.corners)
        corners = f'xtl="{x1}" ytl="{y1}" xbr="{x2}" ybr="{y2}"'
        rotation = f' rotation="{_decimal(instance.rotation)}"' if instance.rotation else ""
        yield f'    <box label={_quote(_box_label(template))} occluded="0" {corners}{rotation} {common}>'
        yield from attributes
        yield "    </box>"


def _point(name: str, point: Point | None, source: str) -> Iterator[str]:
    if point is None:
        point = Point(0.0, 0.0, PointState.ABSENT)
    states = f'outside="{int(point.state == 0)}" occluded="{int(point.state == PointState.HIDDEN)}"'
    xy = f"{_decimal(point.x)},{_decimal(point.y)}"
    head = f'      <points label={_quote(name)} source={_quote(source)} {states} points="{xy}"'
    if point.confidence is None:
        yield f"{head}/>"
    else:
        yield f'{head}><attribute name="score">{_decimal(point.confidence)}</attribute></points>'


def _attributes(instance: Instance) -> dict[str, Any]:
    """Return the attributes of an instance, and its fields that CVAT has no other place for."""
    values = {key: value for key, value in instance.attributes.items() if key not in ("source", "z_order")}
    box_area = instance.box.area if instance.box else math.nan
    if instance.area is not None and not math.isclose(instance.area, box_area, rel_tol=1e-9):
        values["area"] = instance.area
    if instance.crowd:
        values["iscrowd"] = True
    for name, value in (
        ("score", instance.confidence), ("annotation_id", instance.id), ("track_id", instance.track_id)
    ):  # fmt: skip
        if value is not None:
            values[name] = value
    return values


def _has_skeleton(instance: Instance) -> bool:
    """Return whether there is something to draw: a labeled keypoint, or coordinates of an absent one."""
    return any(point.state or point.x or point.y for point in instance.points.values())


def _box_label(template: ClassTemplate) -> str:
    """Return the label of rectangles: that of a skeleton is taken, so its boxes have another."""
    return template.name + BOX_SUFFIX if template.keypoints else template.name


def _labels(template: ClassTemplate, survey: _Survey) -> list[dict[str, Any]]:
    """Return the labels of a class in the form that CVAT's label constructor takes."""
    box = {
        "name": _box_label(template),
        "type": "rectangle",
        "attributes": _label_attributes(survey.attributes.get(_box_label(template), {})),
    }
    if not template.keypoints:
        return [box]
    score = ["score"] if template.name in survey.scores else []
    skeleton = {
        "name": template.name,
        "type": "skeleton",
        "attributes": _label_attributes(survey.attributes.get(template.name, {})),
        "sublabels": [
            {"name": name, "type": "points", "attributes": _label_attributes(score)} for name in template.keypoints
        ],
        "svg": _svg(template, survey.poses.get(template.name, {})),
    }
    color = template.attributes.get("color")
    return [skeleton | ({"color": color} if isinstance(color, str) else {}), box]


def _label_attributes(names: Mapping[str, None] | Sequence[str]) -> list[dict[str, Any]]:
    return [
        {"name": name, "input_type": "text", "mutable": True, "values": [""], "default_value": ""} for name in names
    ]


def _svg(template: ClassTemplate, pose: Mapping[str, npt.NDArray[np.float64]]) -> str:
    """Return the drawing of a skeleton, 100×100, that a new skeleton starts from: the average pose of the class."""
    count = len(template.keypoints)
    position: dict[str, tuple[float, float]] = {}
    for index, name in enumerate(template.keypoints):
        angle = 2 * math.pi * index / count
        position[name] = (50 + 40 * math.sin(angle), 50 - 40 * math.cos(angle))
        if name in pose and pose[name][2] > 0:
            x, y = pose[name][:2] / pose[name][2]
            position[name] = (5 + 90 * float(x), 5 + 90 * float(y))
    number = {name: index + 1 for index, name in enumerate(template.keypoints)}
    lines = [
        f'<line x1="{position[a][0]:.2f}" y1="{position[a][1]:.2f}" x2="{position[b][0]:.2f}" '
        f'y2="{position[b][1]:.2f}" data-type="edge" data-node-from="{number[a]}" data-node-to="{number[b]}"></line>'
        for a, b in template.skeleton
    ]
    circles = [
        f'<circle r="0.75" cx="{position[name][0]:.2f}" cy="{position[name][1]:.2f}" data-type="element node" '
        f'data-element-id="{number[name]}" data-node-id="{number[name]}" data-label-name={_quote(name)}></circle>'
        for name in template.keypoints
    ]
    return "".join([*lines, *circles])


def _head(labels: Sequence[Mapping[str, Any]], survey: _Survey, name: str) -> list[str]:
    lines = [
        '<?xml version="1.0" encoding="utf-8"?>',
        "<annotations>",
        "  <version>1.1</version>",
        "  <meta>",
        f"    <writer>{WRITER}</writer>",
        f"    <task><name>{_text(name)}</name><size>{survey.count}</size><mode>annotation</mode><labels>",
    ]
    for label in labels:
        lines.append(_label_line(label, ""))
        lines += [_label_line(sublabel, label["name"]) for sublabel in label.get("sublabels", ())]
    return [*lines, "    </labels></task>", "  </meta>"]


def _label_line(label: Mapping[str, Any], parent: str) -> str:
    attributes = "".join(
        f"<attribute><name>{_text(attribute['name'])}</name><mutable>True</mutable><input_type>text</input_type>"
        "<default_value></default_value><values></values></attribute>"
        for attribute in label["attributes"]
    )
    color = f"<color>{_text(label['color'])}</color>" if "color" in label else ""
    svg = f"<svg>{_text(label['svg'])}</svg>" if "svg" in label else ""
    above = f"<parent>{_text(parent)}</parent>" if parent else ""
    return (
        f"      <label><name>{_text(label['name'])}</name>{color}<type>{label['type']}</type>"
        f"<attributes>{attributes}</attributes>{svg}{above}</label>"
    )


def _encode(value: object) -> str:
    """Return the text of an attribute: JSON, but text without quotes where that is not JSON of something else."""
    if isinstance(value, str):
        try:
            json.loads(value)
        except (ValueError, RecursionError):
            return value
    return json.dumps(value, default=str, ensure_ascii=False)


def _decimal(value: float) -> str:
    """Return a number with all its digits, never in exponential notation, which CVAT does not write either."""
    return np.format_float_positional(float(value), trim="-")


def _text(text: object) -> str:
    return escape(_CONTROL.sub("\ufffd", str(text)))


def _quote(text: object) -> str:
    return quoteattr(_CONTROL.sub("\ufffd", str(text)))
