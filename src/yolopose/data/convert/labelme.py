"""Labelme: one JSON file beside each image (github.com/wkentaro/labelme; also written by X-AnyLabeling).

A rectangle is labeled with the class, each point with its keypoint; shapes of one instance share a `group_id`. Labelme
has no visibility: a point is hidden if a flag `hidden` or `occluded` is set, or if X-AnyLabeling marked it as
difficult. `imageData` is ignored. Values that the shapes have no field for are in a field `yolopose`, which Labelme
keeps.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import cast

from yolopose.base.errors import DataError, NotFoundError
from yolopose.data.convert.class_file import (
    CLASS_FILE,
    class_file,
    image_to_json,
    instance_values,
    parse_instance_values,
    read_class_file,
)
from yolopose.data.convert.grouping import Shape, group_shapes, to_number
from yolopose.data.convert.locate import complete_size
from yolopose.data.convert.output import OutputPlan
from yolopose.data.convert.protocol import ALL_FEATURES, AnnotationFormat, Feature, ReadOptions, WriteOptions
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
from yolopose.data.convert.source_files import (
    UNNAMED,
    ForeignLocator,
    Json,
    collect_classes,
    folder_files,
    folder_name,
    foreign_parts,
    merge_unnamed,
    read_json,
    split_and_name,
    starts_with,
)

_TITLE = "Labelme"
_MAX_BYTES = 512 << 20  # the files may contain the image
_OUTLINES = frozenset({"polygon", "rotation"})
_HIDDEN_FLAGS = frozenset({"hidden", "occluded", "invisible", "not visible"})
_STATES = {"0": PointState.ABSENT, "1": PointState.HIDDEN, "2": PointState.VISIBLE} | dict.fromkeys(
    _HIDDEN_FLAGS, PointState.HIDDEN
)
_SHAPE_FIELDS = frozenset(
    {"label", "points", "group_id", "shape_type", "flags", "description", "mask", "score", "difficult", "yolopose"}
)


class _Reader:
    """Reads the files of a folder; they are listed once and parsed again in each pass."""

    def __init__(self, source: Path, options: ReadOptions) -> None:
        self.root = source if source.is_dir() else source.parent
        self.files = folder_files(source, ".json") if source.is_dir() else [source]
        self.files = [file for file in self.files if file.name != CLASS_FILE]
        self.class_file = read_class_file(self.root)
        self.default_class = UNNAMED
        self._split = options.split or ""
        folders = [self.root, self.root / "images", self.root.parent / "images", self.root.parent]
        self._locator = ForeignLocator([options.images] if options.images else folders)

    def images(self, issues: IssueLog) -> Iterator[ImageRecord]:
        """Parse the files; see `ImageReader`."""
        names: dict[tuple[str, str], Path] = {}
        for file in self.files:
            content = read_json(file, _TITLE, _MAX_BYTES)
            if not isinstance(content.get("shapes"), list):
                issues.skip("JSON files without shapes, which are not of Labelme", file)
                continue
            image = self._image(file, content, issues)
            other = names.setdefault((image.split, image.name), file)
            if other is not file:
                issues.skip("files that annotate an image which another file annotates", file, f"Compare with {other}")
                continue
            yield image

    def _image(self, file: Path, content: Json, issues: IssueLog) -> ImageRecord:
        image_path = content.get("imagePath")
        parts = foreign_parts(image_path) if isinstance(image_path, str) else ()
        if not parts:
            raise DataError(f"{file}: `imagePath` must be the name of the image; it is {str(image_path)[:80]!r}.")
        relative = PurePosixPath(file.relative_to(self.root).parent.as_posix(), parts[-1])
        split, name = split_and_name(relative, self._split)
        width, height = (_size(content.get(key)) for key in ("imageWidth", "imageHeight"))
        image = ImageRecord(name=name, width=width, height=height, split=split, source=str(file))
        flags = content.get("flags")
        if isinstance(flags, dict) and flags:
            image.attributes["flags"] = flags
        shapes = _parse_shapes(file, content["shapes"], issues)
        image.instances = group_shapes(shapes, image.name, issues)
        for instance in image.instances:
            instance.category = instance.category or self.default_class
        image.path = self._locator.find("/".join(parts), issues, file.parent)
        complete_size(image, issues)
        return self.class_file.restore(image, relative.as_posix())


def _size(value: object) -> int | None:
    return value if isinstance(value, int) and value > 0 else None


def _parse_shapes(file: Path, shapes: Sequence[object], issues: IssueLog) -> list[Shape]:
    parsed: list[Shape] = []
    for index, values in enumerate(shapes):
        where = f"{file}, shape {index}"
        if not isinstance(values, dict):
            raise DataError(f"{where}: a shape must be a JSON object; it is {str(values)[:80]!r}.")
        shape = _parse_shape(where, cast(Json, values), issues)
        if shape is not None:
            parsed.append(shape)
    return parsed


def _parse_shape(where: str, values: Json, issues: IssueLog) -> Shape | None:
    label = values.get("label")
    if not isinstance(label, str) or not label.strip():
        raise DataError(f"{where}: `label` must be a class or the name of a keypoint; it is {str(label)[:80]!r}.")
    xy = _parse_points(where, values.get("points"))
    group = values.get("group_id")
    if group is not None and not isinstance(group, int | str):
        raise DataError(f"{where}: `group_id` must be a number or null; it is {str(group)[:80]!r}.")
    kind = str(values.get("shape_type") or "polygon")
    if not all(to_number(value) is not None for point in xy for value in point):
        issues.skip("shapes with coordinates that are not finite", where)
        return None
    shape = Shape(label=label.strip(), group=group, where=where)
    if kind == "point" and len(xy) == 1:
        shape.point = Point(*xy[0], _point_state(values), to_number(values.get("score")))
        _set_values(shape, values)
        return shape
    if kind in _OUTLINES and len(xy) >= 3:
        shape.polygon = tuple(itertools.chain.from_iterable(xy))
    elif kind != "rectangle" or len(xy) < 2:
        issues.skip(f"shapes of the type {kind!r} with {len(xy)} points", where, "Points and rectangles are converted")
        return None
    # corners of a rectangle are in any order; X-AnyLabeling writes four
    columns, rows = zip(*xy, strict=True)
    shape.box = Box.from_corners(min(columns), min(rows), max(columns), max(rows))
    _set_values(shape, values)
    return shape


def _parse_points(where: str, points: object) -> list[tuple[float, float]]:
    try:
        return [(float(x), float(y)) for x, y in cast("Sequence[Sequence[float]]", points)]
    except (TypeError, ValueError) as error:
        raise DataError(f"{where}: `points` must be a list of pairs of numbers ({error}).") from error


def _point_state(values: Json) -> PointState:
    flags = values.get("flags")
    if isinstance(flags, dict) and any(value and str(name).lower() in _HIDDEN_FLAGS for name, value in flags.items()):
        return PointState.HIDDEN
    if values.get("difficult") is True:
        return PointState.HIDDEN
    return _STATES.get(str(values.get("description") or "").strip().lower(), PointState.VISIBLE)


def _set_values(shape: Shape, values: Json) -> None:
    """Set the values of the instance that a shape states: those in `yolopose`, flags, and unknown fields of a box."""
    stored = values.get("yolopose")
    shape.fields = parse_instance_values(stored)
    attributes: Json = shape.fields["attributes"]
    if shape.point is not None:
        shape.category = str(cast(Json, stored).get("category") or "") if isinstance(stored, dict) else ""
    else:
        attributes |= {
            name: value for name, value in values.items() if name not in _SHAPE_FIELDS and value not in ("", {}, None)
        }
        flags = values.get("flags")
        if isinstance(flags, dict):
            attributes |= {name: value for name, value in flags.items() if name.lower() not in _HIDDEN_FLAGS}
        score = to_number(values.get("score"))
        if score is not None:
            shape.fields["confidence"] = score


def read(source: Path, options: ReadOptions) -> DatasetRecord:
    """Read the files of a folder and its subfolders, or one file.

    Raises:
        NotFoundError: the folder contains no file of Labelme.
        DataError: a file is damaged, or none has points.
    """
    reader = _Reader(source, options)
    if not reader.files:
        raise NotFoundError(f"{source} contains no .json file of {_TITLE}.")
    declared = reader.class_file.classes or _declared(options)
    classes = collect_classes(reader.images(IssueLog()), declared)
    classes, reader.default_class = merge_unnamed(classes)
    if not any(template.keypoints for template in classes):
        raise DataError(
            f"{source} has no shapes of the type point: draw the keypoints of an instance as points, labeled with "
            "their names, and a rectangle, labeled with the class, and give all of them one group_id."
        )
    return DatasetRecord(classes=classes, read_images=reader.images, attributes=reader.class_file.attributes)


def _declared(options: ReadOptions) -> tuple[ClassTemplate, ...]:
    return tuple(ClassTemplate(name=name, keypoints=options.kpt_names) for name in options.classes)


def detect(path: Path) -> bool:
    """Return whether a path is a file of Labelme, or a folder of such files."""
    if path.is_dir():
        return any(detect(file) for file in itertools.islice(folder_files(path, ".json"), 8) if file.is_file())
    return path.suffix.lower() == ".json" and starts_with(path, [b'"version"', b'"shapes"'])


def write(dataset: DatasetRecord, plan: OutputPlan, options: WriteOptions, issues: IssueLog) -> Path:
    """Write a file beside a copy of each image, in a folder for each split, and `labels.txt` for `labelme --labels`."""
    copies = options.copy_images is not False
    extra: dict[str, Json] = {}
    for image in dataset.images(issues):
        name = folder_name(image)
        plan.add(name, f"{image.name!r} of {image.split or 'the source'}", image.content if copies else None)
        plan.add(name.with_suffix(".json"), f"the annotations of {image.name!r}")
        extra[name.as_posix()] = image_to_json(image)
    plan.add(CLASS_FILE, "the class file")
    plan.add("labels.txt", "the list of labels")
    plan.check()
    plan.write(CLASS_FILE, class_file(dataset, extra))
    plan.write("labels.txt", "".join(f"{label}\n" for label in _labels(dataset)))
    for image in dataset.images():
        name = folder_name(image)
        content = json.dumps(_to_labelme(image, dataset, name.name, issues), indent=2, ensure_ascii=False)
        plan.write(name.with_suffix(".json"), content)
    for path in plan.copies:
        plan.copy(path)
    return plan.target


def _labels(dataset: DatasetRecord) -> list[str]:
    names = [template.name for template in dataset.classes]
    return list(dict.fromkeys([*names, *(name for template in dataset.classes for name in template.keypoints)]))


def _to_labelme(image: ImageRecord, dataset: DatasetRecord, file_name: str, issues: IssueLog) -> Json:
    shapes: list[Json] = []
    for group, instance in enumerate(image.instances, 1):
        shapes += _to_shapes(instance, dataset.template(instance.category), group, image, issues)
    flags = image.attributes.get("flags")
    return {
        "version": "5.5.0",
        "flags": cast(Json, flags) if isinstance(flags, dict) else {},
        "shapes": shapes,
        "imagePath": file_name,
        "imageData": None,
        "imageHeight": image.height,
        "imageWidth": image.width,
    }


def _to_shapes(
    instance: Instance, template: ClassTemplate, group: int, image: ImageRecord, issues: IssueLog
) -> list[Json]:
    shapes: list[Json] = []
    if instance.box is not None:
        x1, y1, x2, y2 = instance.box.corners
        shapes.append(_shape(instance.category, "rectangle", [[x1, y1], [x2, y2]], group))
        if instance.confidence is not None:
            shapes[0]["score"] = instance.confidence
    order = {name: number for number, name in enumerate(template.keypoints)}
    for name, point in sorted(instance.points.items(), key=lambda item: order.get(item[0], len(order))):
        if point.state == PointState.ABSENT:
            continue
        shape = _shape(name, "point", [[point.x, point.y]], group)
        if point.state == PointState.HIDDEN:
            shape["flags"] = {"hidden": True}
            shape["difficult"] = True  # as X-AnyLabeling marks hidden points
        if point.confidence is not None:
            shape["score"] = point.confidence
        shapes.append(shape)
    if not shapes:
        issues.skip("instances without a box and without labeled keypoints", f"{image.name}: {instance.category}")
        return []
    values = instance_values(instance)
    if instance.box is None:
        values["category"] = instance.category
    else:
        values.pop("confidence", None)  # the score of the rectangle
    if values:
        shapes[0]["yolopose"] = values
    return shapes


def _shape(label: str, kind: str, points: list[list[float]], group: int) -> Json:
    return {
        "label": label,
        "points": points,
        "group_id": group,
        "description": "",
        "shape_type": kind,
        "flags": {},
        "mask": None,
    }


FORMAT = AnnotationFormat(
    name="labelme",
    title="Labelme",
    capabilities=ALL_FEATURES - {Feature.ABSENT_XY},
    detect=detect,
    read=read,
    write=write,
)
