"""Label Studio JSON (labelstud.io/guide/task_format): rectangles are instances, keypoints belong to one.

A keypoint belongs to the rectangle that `parentID` or a relation names; otherwise to the smallest rectangle that
contains it. Coordinates are percentages of the image. Label Studio has no state of a keypoint: hidden ones have the
per-region choice `hidden`.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlparse

from yolopose.base.errors import DataError
from yolopose.data.convert.class_file import ClassFile, read_class_file
from yolopose.data.convert.instances import is_finite
from yolopose.data.convert.json_stream import ROOT, JsonDocument, peek
from yolopose.data.convert.labelstudio_json import write
from yolopose.data.convert.locate import ImageLocator, complete_size
from yolopose.data.convert.protocol import ALL_FEATURES, AnnotationFormat, ReadOptions
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
from yolopose.data.convert.source_files import UNNAMED, collect_classes
from yolopose.data.images import IMAGE_SUFFIXES
from yolopose.data.paths import relative_name

_TITLE = "Label Studio export"
_UPLOAD = re.compile(r"^(?:data/)?upload/\d+/")
_PREFIX = re.compile(r"^[0-9a-f]{8}-")  # Label Studio puts it in front of the names of uploaded files
_HIDDEN = frozenset({"hidden", "occluded", "invisible", "not visible"})
_ABSENT = frozenset({"absent", "outside", "missing"})
_FIELDS = frozenset({"area", "iscrowd", "id", "track_id", "segmentation", "attributes", "text", "absent"})

Json = dict[str, Any]


@dataclass(slots=True)
class _Region:
    """A rectangle or keypoint of a task, in percent."""

    id: str
    label: str
    parent: str
    value: Json
    confidence: float | None
    meta: Json
    choices: list[str] = field(default_factory=list[str])


def detect(path: Path) -> bool:
    """Return whether a path is a Label Studio export: a JSON list of tasks."""
    if path.is_dir():
        files = [file for file in path.glob("*.json") if not file.name.startswith(".")]
        return len(files) >= 1 and any(detect(file) for file in files)
    head = peek(path, 1 << 16) if path.suffix.lower() == ".json" else ""
    if not head.startswith("["):
        return False
    keys = ('"keypointlabels"', '"rectanglelabels"', '"original_width"', '"annotations"', '"predictions"')
    return any(key in head for key in keys) and not head.startswith("[[")


def read(path: Path, options: ReadOptions) -> DatasetRecord:
    """Read an export in the form JSON or JSON-MIN, or the folder of one.

    Raises:
        DataError: the file is not JSON, or the folder contains several exports.
    """
    file = _file(path)
    document = JsonDocument(file, _TITLE)
    stored = read_class_file(file.parent)
    names = [_image_name(address) for task in document.elements(ROOT) if (address := _image_address(task))]
    locator = ImageLocator.beside(path, options.images, names, renamed=True)
    repeated = {name for name, count in Counter(names).items() if count > 1 and not stored.exists}

    def read_images(log: IssueLog) -> Iterator[ImageRecord]:
        for index, task in enumerate(document.elements(ROOT)):
            where = f"{file.name}, task {index + 1}"
            if _is_unlabeled(task):
                log.skip(
                    "tasks without an annotation that was submitted", where, "They are not images without instances"
                )
                continue
            image = _image(task, where, options, stored, repeated, log)
            if image is None:
                continue
            image.path = locator.find(image.name, log, image.split)
            regions, relations = _regions(task, where, log)
            _set_size(image, regions)
            if not complete_size(image, log) and regions:
                log.skip("tasks without original_width and original_height", where, "Give the images with images=…")
                continue
            image.instances = _instances(regions, relations, image, options, log)
            yield image

    declared = stored.classes or tuple(
        ClassTemplate(name=name, keypoints=options.kpt_names) for name in options.classes
    )
    classes = collect_classes(read_images(IssueLog()), declared)
    return DatasetRecord(
        classes=classes, read_images=read_images, format="labelstudio", attributes=dict(stored.attributes)
    )


def _file(path: Path) -> Path:
    if not path.is_dir():
        return path
    files = sorted(file for file in path.glob("*.json") if not file.name.startswith(".") and detect(file))
    if len(files) != 1:
        raise DataError(f"{path} contains {len(files)} Label Studio exports; name one (source=tasks.json).")
    return files[0]


def _image_address(task: Any) -> str:
    """Return the address of the image of a task: `data.image`, or the first value that names an image."""
    data = task.get("data", task) if isinstance(task, dict) else {}
    if not isinstance(data, dict):
        return ""
    texts = [data.get("image"), data.get("img"), *data.values()]
    for text in texts:
        if isinstance(text, str) and PurePosixPath(_address_name(text)).suffix.lower() in IMAGE_SUFFIXES:
            return text
    return ""


def _address_name(address: str) -> str:
    """Return the path in an address: `/data/local-files/?d=set/a.jpg`, `s3://bucket/set/a.jpg`, `set/a.jpg`."""
    url = urlparse(address.replace("\\", "/"))
    local = parse_qs(url.query).get("d")
    path = unquote(local[0] if local else url.path or address)
    return path.lstrip("/")


def _image_name(address: str) -> str:
    """Return the name of an image: of uploads without the folder and the prefix, of servers without their folders."""
    name = _address_name(address)
    if _UPLOAD.match(name):
        return _PREFIX.sub("", PurePosixPath(name).name)
    return PurePosixPath(name).name if urlparse(address).scheme in ("http", "https", "s3", "gs") else name


def _image(
    task: Any, where: str, options: ReadOptions, stored: ClassFile, repeated: set[str], issues: IssueLog
) -> ImageRecord | None:
    address = _image_address(task)
    if not address:
        issues.skip("tasks without an image", where)
        return None
    name = _image_name(address)
    name = _address_name(address) if name in repeated else name  # with all its folders
    try:
        name = relative_name(name).as_posix()
    except DataError as error:
        raise DataError(f"{where}: the image {error}.") from error
    data = task["data"] if isinstance(task.get("data"), dict) else {}
    image = ImageRecord(name=name, split=str(data.get("split") or options.split or ""), url=address, source=where)
    image.id = task.get("id") if isinstance(task.get("id"), int | str) else None
    image.width, image.height = _size(data) or (None, None)
    image.attributes = {
        key: value for key, value in data.items() if key not in ("split", "width", "height") and value != address
    }
    return stored.restore(image, f"{image.split}/{image.name}")


def _set_size(image: ImageRecord, regions: Sequence[_Region]) -> None:
    sizes = (_size(region.value, "original_") for region in regions)
    size = next((size for size in sizes if size is not None), None)
    if size is not None:
        image.width, image.height = size


def _size(values: Mapping[str, Any], prefix: str = "") -> tuple[int, int] | None:
    width = values.get(f"{prefix}width")
    height = values.get(f"{prefix}height")
    if is_finite(width, height) and isinstance(width, int) and isinstance(height, int) and min(width, height) > 0:
        return width, height
    return None


def _is_unlabeled(task: Any) -> bool:
    """Return whether nobody has labeled a task: it waits, or all its annotations were skipped (`was_cancelled`)."""
    if not isinstance(task, dict) or not any(key in task for key in ("annotations", "completions", "predictions")):
        return False
    lists = (task.get(key) for key in ("annotations", "completions", "predictions"))
    items = [item for values in lists if isinstance(values, list) for item in values]
    return all(isinstance(item, dict) and item.get("was_cancelled") for item in items)


def _items(value: Any) -> list[Any]:
    """Return a value that should be a list; an empty list for any other value."""
    return value if isinstance(value, list) else []


def _results(task: Json, where: str, issues: IssueLog) -> tuple[list[Any], float | None]:
    """Return the results of a task and their score: of its annotation, or of its prediction where there is none."""
    candidates = task.get("annotations") or task.get("completions")
    candidates = [item for item in _items(candidates) if isinstance(item, dict) and not item.get("was_cancelled")]
    if candidates:
        chosen = next((item for item in candidates if item.get("ground_truth")), candidates[0])
        if len(candidates) > 1:
            advice = "The one marked as ground truth, or the first, is converted"
            issues.skip("further annotations of one task", where, advice, len(candidates) - 1)
        return _items(chosen.get("result")), None
    predictions = [item for item in _items(task.get("predictions")) if isinstance(item, dict)]
    if predictions:
        score = predictions[0].get("score")
        return _items(predictions[0].get("result")), score if is_finite(score) else None
    if "data" in task:
        return [], None
    # JSON-MIN has the values of each control tag in a list of its own
    lists = (value for value in task.values() if isinstance(value, list))
    values = [value for items in lists for value in items if isinstance(value, dict)]
    return [{"value": value, "type": "min", **_top(value)} for value in values], None


def _top(value: Json) -> Json:
    return {key: value[key] for key in ("original_width", "original_height") if key in value}


def _regions(task: Json, where: str, issues: IssueLog) -> tuple[list[_Region], dict[str, str]]:
    """Return rectangles and keypoints, and relations between them by id in both directions."""
    results, score = _results(task, where, issues)
    regions: dict[str, _Region] = {}
    relations: dict[str, str] = {}
    choices: dict[str, list[str]] = {}
    for index, result in enumerate(results):
        if not isinstance(result, dict):
            continue
        if result.get("type") == "relation":
            relations[str(result.get("from_id"))] = str(result.get("to_id"))
            relations.setdefault(str(result.get("to_id")), str(result.get("from_id")))
            continue
        value: Json = result["value"] if isinstance(result.get("value"), dict) else {}
        key = str(result.get("id", f"result {index}"))
        if "choices" in value:
            choices.setdefault(key, []).extend(str(choice).lower() for choice in _items(value["choices"]))
            continue
        labels = next((value[name] for name in ("rectanglelabels", "keypointlabels", "labels") if name in value), None)
        is_shape = "x" in value and "y" in value and "points" not in value and "rle" not in value
        if isinstance(labels, list) and labels and not is_shape and key in regions:
            regions[key].label = regions[key].label or str(labels[0])
            continue
        if not is_shape or "radiusX" in value:
            kind = f"regions of the type {result.get('type', '?')}"
            issues.skip(kind, where, "Only rectangles and keypoints are read")
            continue
        confidence = result.get("score", score)
        region = regions.setdefault(
            key,
            _Region(
                id=key,
                label="",
                parent=str(result.get("parentID") or ""),
                value={**value, **_top(result)},
                confidence=confidence if is_finite(confidence) else None,
                meta=result["meta"] if isinstance(result.get("meta"), dict) else {},
            ),
        )
        # a tag `Rectangle` with a tag `Labels` writes two results of one id
        region.value |= value
        region.label = region.label or (str(labels[0]) if isinstance(labels, list) and labels else "")
        if result.get("image_rotation"):
            issues.change(
                "images were rotated in Label Studio", where, "Their coordinates were read as those of the image; check"
            )
    for key, names in choices.items():
        if key in regions:
            regions[key].choices += names
    return list(regions.values()), relations


def _instances(
    regions: Sequence[_Region],
    relations: Mapping[str, str],
    image: ImageRecord,
    options: ReadOptions,
    issues: IssueLog,
) -> list[Instance]:
    rectangles: dict[str, Instance] = {}
    keypoints: list[tuple[_Region, Point]] = []
    for region in regions:
        if "height" in region.value:
            instance = _rectangle(region, image, issues)
            if instance is not None:
                rectangles[region.id] = instance
        elif (point := _point(region, image, issues)) is not None:
            keypoints.append((region, point))
    others: list[tuple[_Region, Point]] = []
    for region, point in keypoints:
        owner = rectangles.get(region.parent) or rectangles.get(relations.get(region.id, ""))
        if owner is None:
            others.append((region, point))
        else:
            _add_point(owner, region.label, point, issues)
    unowned: list[tuple[_Region, Point]] = []
    for region, point in others:
        owner = _smallest_around(rectangles.values(), region.label, point)
        if owner is None:
            unowned.append((region, point))
            continue
        kind = "keypoints without a parent were added to the smallest rectangle that contains them"
        issues.change(kind, f"{image.source}: {region.label}")
        owner.points[region.label] = point
    instances = list(rectangles.values())
    if unowned:
        categories = {instance.category for instance in instances} or set(options.classes)
        category = categories.pop() if len(categories) == 1 else UNNAMED
        instance = Instance(category=category, source=image.source)
        for region, point in unowned:
            _add_point(instance, region.label, point, issues)
        instances.append(instance)
        issues.change("keypoints outside of all rectangles became one instance of each image", image.source)
    for instance in instances:
        if instance.attributes.pop("no_box", False):
            instance.box = None
    return instances


def _rectangle(region: _Region, image: ImageRecord, issues: IssueLog) -> Instance | None:
    value = region.value
    numbers: list[Any] = [value.get(key) for key in ("x", "y", "width", "height")]
    rotation = value.get("rotation") or 0
    if not is_finite(*numbers, rotation) or min(numbers[2:]) < 0:
        issues.skip("rectangles with faulty values", image.source)
        return None
    width, height = image.size or (0, 0)
    x, y, w, h = (number * side / 100 for number, side in zip(numbers, (width, height) * 2, strict=True))
    box = turn_around_corner(Box(x, y, w, h), rotation)
    meta = region.meta
    attributes = dict(meta["attributes"]) if isinstance(meta.get("attributes"), dict) else {}
    attributes |= {key: value for key, value in meta.items() if key not in _FIELDS}
    if isinstance(meta.get("text"), list) and meta["text"]:
        attributes["text"] = meta["text"]
    instance = Instance(
        category=region.label or UNNAMED,
        box=box,
        rotation=rotation,
        crowd=bool(meta.get("iscrowd")),
        area=meta["area"] if is_finite(meta.get("area")) else None,
        segmentation=meta.get("segmentation"),
        confidence=region.confidence,
        track_id=meta.get("track_id"),
        id=meta.get("id"),
        attributes=attributes,
        source=image.source,
    )
    absent = meta.get("absent")
    for name, xy in absent.items() if isinstance(absent, dict) else ():
        if isinstance(xy, list) and len(xy) == 2 and is_finite(*xy):
            instance.points[name] = Point(xy[0], xy[1], PointState.ABSENT)
    return instance


def turn_around_corner(box: Box, degrees: float) -> Box:
    """Return the box before a turn around its center that equals `box` turned around its left top corner.

    Label Studio turns rectangles clockwise around that corner; records turn them around the center.
    """
    if not degrees:
        return box
    angle = math.radians(degrees)
    cosine, sine = math.cos(angle), math.sin(angle)
    cx = box.x + cosine * box.width / 2 - sine * box.height / 2
    cy = box.y + sine * box.width / 2 + cosine * box.height / 2
    return Box.from_center(cx, cy, box.width, box.height)


def _point(region: _Region, image: ImageRecord, issues: IssueLog) -> Point | None:
    x: Any = region.value.get("x")
    y: Any = region.value.get("y")
    if not is_finite(x, y) or not region.label:
        issues.skip("keypoints with faulty values or without a label", image.source)
        return None
    width, height = image.size or (0, 0)
    text = region.meta.get("text")
    notes = {str(note).strip().lower() for note in text} if isinstance(text, list) else set()
    notes |= set(region.choices)
    state = PointState.HIDDEN if notes & _HIDDEN else PointState.VISIBLE
    state = PointState.ABSENT if notes & _ABSENT else state
    return Point(x * width / 100, y * height / 100, state, region.confidence)


def _add_point(instance: Instance, name: str, point: Point, issues: IssueLog) -> None:
    if name in instance.points and instance.points[name].state:
        issues.skip("keypoints of a name that the instance already has", f"{instance.source}: {name}")
    else:
        instance.points[name] = point


def _smallest_around(instances: Iterable[Instance], name: str, point: Point) -> Instance | None:
    """Return the smallest instance whose box contains a point and that has no point of that name."""
    around: list[tuple[float, Instance]] = []
    for instance in instances:
        if instance.box is None or name in instance.points:
            continue
        x1, y1, x2, y2 = instance.box.rotated(instance.rotation).corners
        if x1 <= point.x <= x2 and y1 <= point.y <= y2:
            around.append((instance.box.area, instance))
    return min(around, key=lambda item: item[0])[1] if around else None


FORMAT = AnnotationFormat(
    name="labelstudio",
    title="Label Studio",
    capabilities=ALL_FEATURES,
    detect=detect,
    read=read,
    write=write,
    suffixes=(".json",),
)
