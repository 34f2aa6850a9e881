"""Write VIA 2: projects, or annotations as CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path

from yolopose.data.convert.class_file import CLASS_FILE, class_file, image_to_json, instance_values
from yolopose.data.convert.output import OutputPlan
from yolopose.data.convert.protocol import WriteOptions
from yolopose.data.convert.record import ClassTemplate, DatasetRecord, ImageRecord, Instance, IssueLog
from yolopose.data.convert.source_files import Json, folder_name
from yolopose.data.convert.via_files import CSV_COLUMNS

STORED = "yolopose"
"""Attribute with the values of an instance for which VIA has no field, as JSON."""


def write(dataset: DatasetRecord, plan: OutputPlan, options: WriteOptions, issues: IssueLog) -> Path:
    """Write a project of VIA 2 (or annotations, for `output=NAME.csv`), and a copy of the images."""
    main = plan.main("via.json", "the project")
    extra: dict[str, Json] = {}
    copies = options.copy_images is not False
    for image in dataset.images(issues):
        name = folder_name(image)
        plan.add(
            f"images/{name}", f"{image.name!r} of {image.split or 'the source'}", image.content if copies else None
        )
        extra[f"images/{name}"] = image_to_json(image)
    plan.add(CLASS_FILE, "the class file")
    plan.check()
    entries: dict[str, Json] = {}
    for image in dataset.images():
        entry = _to_entry(image, dataset, issues)
        entries[f"{entry['filename']}{entry['size']}"] = entry
    text = _to_csv(entries) if main.suffix.lower() == ".csv" else json.dumps(_to_project(entries, dataset), indent=1)
    plan.write(main, text)
    plan.write(CLASS_FILE, class_file(dataset, extra))
    for path in plan.copies:
        plan.copy(path)
    return plan.target / main


def _to_entry(image: ImageRecord, dataset: DatasetRecord, issues: IssueLog) -> Json:
    regions: list[Json] = []
    for number, instance in enumerate(image.instances, 1):
        added = _to_regions(instance, dataset.template(instance.category), str(number))
        if not added:
            issues.skip("instances without a box and without labeled keypoints", f"{image.name}: {instance.category}")
        regions += added
    size = image.path.stat().st_size if image.path is not None else -1
    return {
        "filename": f"images/{folder_name(image)}",
        "size": size,
        "regions": regions,
        "file_attributes": {},
    }


def _to_regions(instance: Instance, template: ClassTemplate, number: str) -> list[Json]:
    shared = {"class": instance.category, "instance": number}
    regions: list[Json] = []
    if instance.box is not None:
        x, y, width, height = instance.box
        regions.append(_region({"name": "rect", "x": x, "y": y, "width": width, "height": height}, shared))
    order = {name: index for index, name in enumerate(template.keypoints)}
    for name, point in sorted(instance.points.items(), key=lambda item: order.get(item[0], len(order))):
        if point.state:
            attributes = shared | {"keypoint": name, "visibility": str(int(point.state))}
            if point.confidence is not None:
                attributes["confidence"] = repr(point.confidence)
            regions.append(_region({"name": "point", "cx": point.x, "cy": point.y}, attributes))
    values = instance_values(instance)
    if regions and values:
        regions[0]["region_attributes"][STORED] = json.dumps(values)  # VIA shows attributes as text
    return regions


def _region(shape: Json, attributes: Json) -> Json:
    return {"shape_attributes": shape, "region_attributes": dict(attributes)}


def _to_csv(entries: dict[str, Json]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for entry in entries.values():
        count = len(entry["regions"])
        regions = entry["regions"] or [_region({}, {})]
        for index, region in enumerate(regions):
            values = [json.dumps(region[key]) for key in ("shape_attributes", "region_attributes")]
            writer.writerow([entry["filename"], entry["size"], "{}", count, index, *values])
    return text.getvalue()


def _to_project(entries: dict[str, Json], dataset: DatasetRecord) -> Json:
    classes = [template.name for template in dataset.classes]
    keypoints = dict.fromkeys(name for template in dataset.classes for name in template.keypoints)
    region = {
        "class": _choice("class of the instance", classes),
        "instance": {
            "type": "text",
            "description": "shapes of one instance have the same number",
            "default_value": "1",
        },
        "keypoint": _choice("name of the keypoint", list(keypoints)),
        "visibility": _choice("2 visible, 1 hidden", ["2", "1"]),
    }
    return {
        "_via_settings": {
            "ui": {
                "annotation_editor_height": 25,
                "annotation_editor_fontsize": 0.8,
                "leftsidebar_width": 18,
                "image_grid": {
                    "img_height": 80,
                    "rshape_fill": "none",
                    "rshape_fill_opacity": 0.3,
                    "rshape_stroke": "yellow",
                    "rshape_stroke_width": 2,
                    "show_region_shape": True,
                    "show_image_policy": "all",
                },
                "image": {"region_label": "keypoint", "region_color": "instance", "region_label_font": "10px Sans"},
            },
            "core": {"buffer_size": 18, "filepath": {}, "default_filepath": ""},
            "project": {"name": "yolopose"},
        },
        "_via_img_metadata": entries,
        "_via_attributes": {"region": region, "file": {}},
        "_via_data_format_version": "2.0.10",
        "_via_image_id_list": list(entries),
    }


def _choice(description: str, names: Sequence[str]) -> Json:
    return {
        "type": "dropdown",
        "description": description,
        "options": dict.fromkeys(names, ""),
        "default_options": {names[0]: True} if names else {},
    }
