"""VGG Image Annotator (www.robots.ox.ac.uk/~vgg/software/via): projects and annotations of VIA 2, projects of VIA 3.

Regions are points and rectangles with attributes that each user names. These names are understood: the class as class,
label, category, type; the keypoint as keypoint, bodypart, landmark, part, joint, point, name; the instance as instance,
group, group_id, individual, track, object_id, person_id, id; the state as visibility, visible, state, v, occluded,
hidden. Others are given as options: `class_key`, `keypoint_key`, `instance_key`, `visibility_key`.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, cast

from yolopose.base.errors import DataError
from yolopose.data.convert.class_file import (
    CLASS_FILE,
    class_file,
    image_to_json,
    instance_values,
    parse_instance_values,
    read_class_file,
)
from yolopose.data.convert.grouping import Shape, group_shapes, to_number
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
    fill_size,
    folder_name,
    foreign_parts,
    merge_unnamed,
    read_json,
    split_and_name,
    starts_with,
)

_TITLE = "VIA"
_MAX_CSV_BYTES = 1 << 30
_CSV_COLUMNS = (
    "filename", "file_size", "file_attributes", "region_count", "region_id", "region_shape_attributes",
    "region_attributes",
)  # fmt: skip
# numbers of the shapes in VIA 3
_VIA3_POINT = 1
_VIA3_RECTANGLE = 2
_VIA3_OUTLINES = (6, 7)
_CLASS_KEYS = ("class", "label", "category", "type")
_KEYPOINT_KEYS = ("keypoint", "bodypart", "landmark", "part", "joint", "point", "name")
_INSTANCE_KEYS = ("instance", "group", "group_id", "individual", "track", "object_id", "person_id", "id")
_VISIBILITY_KEYS = ("visibility", "visible", "state", "v")
_HIDDEN_KEYS = ("hidden", "occluded")
_STATES = {
    "0": PointState.ABSENT, "absent": PointState.ABSENT, "not labeled": PointState.ABSENT,
    "1": PointState.HIDDEN, "hidden": PointState.HIDDEN, "occluded": PointState.HIDDEN, "false": PointState.HIDDEN,
    "no": PointState.HIDDEN,
}  # fmt: skip
_STORED = "yolopose"


@dataclass(slots=True)
class _Region:
    """A region of any version.

    Attributes:
        kind: `point`, `rect`, `polygon`, or another shape.
        xy: coordinates: x, y; left, top, width, height; or x, y, … of an outline.
        attributes: attributes by name.
        where: place in the source.
    """

    kind: str
    xy: tuple[float, ...]
    attributes: Json
    where: str


@dataclass(slots=True)
class _File:
    """An image of any version.

    Attributes:
        name: name as written.
        size: number of bytes as written, or None.
        attributes: attributes by name.
        regions: its regions.
    """

    name: str
    size: int | None = None
    attributes: Json = field(default_factory=dict[str, Any])
    regions: list[_Region] = field(default_factory=list[_Region])


@dataclass(frozen=True, slots=True)
class _Keys:
    """Names of the attributes with a meaning."""

    category: tuple[str, ...] = _CLASS_KEYS
    keypoint: tuple[str, ...] = _KEYPOINT_KEYS
    instance: tuple[str, ...] = _INSTANCE_KEYS
    visibility: tuple[str, ...] = _VISIBILITY_KEYS

    @classmethod
    def from_options(cls, values: Json) -> _Keys:
        """Return the names that the user gave, and the known ones for the others."""

        def names(option: str, known: tuple[str, ...]) -> tuple[str, ...]:
            return (str(values[option]),) if values.get(option) else known

        return cls(
            names("class_key", _CLASS_KEYS),
            names("keypoint_key", _KEYPOINT_KEYS),
            names("instance_key", _INSTANCE_KEYS),
            names("visibility_key", _VISIBILITY_KEYS),
        )


def read(source: Path, options: ReadOptions) -> DatasetRecord:
    """Read a project or annotations, as JSON or CSV, or a folder with one such file.

    Args:
        source: file or folder.
        options: `values` may have `class_key`, `keypoint_key`, `instance_key` and `visibility_key`.

    Raises:
        DataError: the file is damaged or has no points.
    """
    file = _find_file(source)
    issues = IssueLog()
    if file.suffix.lower() == ".csv":
        files = _read_csv(file)
    else:
        content = read_json(file, _TITLE)
        is_via3 = isinstance(content.get("file"), dict) and isinstance(content.get("metadata"), dict)
        files = _read_via3(file, content, issues) if is_via3 else _read_via2(file, content)
    stored = read_class_file(file.parent)
    reader = _Reader(file, files, stored.restore, options)
    declared = stored.classes or tuple(
        ClassTemplate(name=name, keypoints=options.kpt_names) for name in options.classes
    )
    classes, reader.default_class = merge_unnamed(collect_classes(reader.images(IssueLog()), declared))
    if not any(template.keypoints for template in classes):
        raise DataError(
            f"{file} has no points with the name of a keypoint. Give each point an attribute `keypoint` and, where an "
            "image has several instances, `instance`; or name your attributes: keypoint_key=…, instance_key=…, "
            "class_key=…"
        )
    return DatasetRecord(classes=classes, read_images=reader.images, attributes=stored.attributes, issues=issues)


def _find_file(source: Path) -> Path:
    if not source.is_dir():
        return source
    files = [file for file in sorted(source.iterdir()) if file.is_file() and detect(file)]
    if len(files) != 1:
        names = ", ".join(file.name for file in files) or "none"
        raise DataError(f"{source} must contain one file of {_TITLE}; it contains {names}. Name the file.")
    return files[0]


class _Reader:
    """Turns regions into instances."""

    def __init__(self, file: Path, files: Sequence[_File], restore: Any, options: ReadOptions) -> None:
        self.default_class = UNNAMED
        self._file = file
        self._files = files
        self._restore = restore
        self._keys = _Keys.from_options(options.values)
        self._split = options.split or ""
        root = file.parent
        folders = [options.images] if options.images else [root, root / "images", root.parent / "images", root.parent]
        self._locator = ForeignLocator(folders, [entry.name for entry in files])

    def images(self, issues: IssueLog) -> Iterator[ImageRecord]:
        """Read the images; see `ImageReader`."""
        names: set[tuple[str, str]] = set()
        for entry in self._files:
            parts = foreign_parts(entry.name)
            if not parts:
                raise DataError(f"{self._file}: an image has the name {entry.name!r}, which is not a file name.")
            relative = PurePosixPath(*parts)
            split, name = split_and_name(relative, self._split)
            image = ImageRecord(name=name, split=split, source=str(self._file))
            image.attributes |= entry.attributes
            shapes = [shape for region in entry.regions if (shape := self._shape(region, issues)) is not None]
            image.instances = group_shapes(shapes, image.name, issues)
            for instance in image.instances:
                instance.category = instance.category or self.default_class
            image.path = self._locator.find(entry.name, issues)
            fill_size(image, issues)
            image = self._restore(image, "/".join(parts))
            if (image.split, image.name) in names:
                issues.skip("entries of an image that has an entry already", image.name)
                continue
            names.add((image.split, image.name))
            yield image

    def _shape(self, region: _Region, issues: IssueLog) -> Shape | None:
        values = region.attributes
        keys = self._keys
        category = _text(values, keys.category)
        shape = Shape(label=category, category=category, where=region.where, group=_text(values, keys.instance) or None)
        if region.kind == "point":
            shape.label = _text(values, keys.keypoint)
            if not shape.label:
                # a single attribute names the keypoint
                shape.label, shape.category = category, ""
            if not shape.label:
                issues.skip("points without the name of a keypoint", region.where, "Name the attribute: keypoint_key=…")
                return None
            x, y = region.xy
            shape.point = Point(x, y, _state(values, keys), to_number(values.get("confidence")))
        elif region.kind == "rect":
            shape.box = Box(*region.xy)
        elif region.kind == "polygon" and len(region.xy) >= 6:
            shape.polygon = region.xy
            shape.box = Box.from_corners(
                min(region.xy[::2]), min(region.xy[1::2]), max(region.xy[::2]), max(region.xy[1::2])
            )
        else:
            issues.skip(f"regions of the shape {region.kind!r}", region.where, "Points and rectangles are converted")
            return None
        shape.fields = _fields(values, keys, is_point=shape.point is not None)
        return shape


def _text(values: Json, keys: Sequence[str]) -> str:
    """Return the first attribute with one of some names; a checkbox with one choice counts as its text."""
    by_name = {name.strip().lower(): value for name, value in values.items()}
    for key in keys:
        value = by_name.get(key.lower())
        if isinstance(value, dict):
            chosen = [str(choice) for choice, is_chosen in value.items() if is_chosen]
            value = chosen[0] if len(chosen) == 1 else None
        if value is not None and str(value).strip() not in ("", "undefined"):
            return str(value).strip()
    return ""


def _state(values: Json, keys: _Keys) -> PointState:
    if _text(values, _HIDDEN_KEYS).lower() in ("1", "true", "yes", "hidden", "occluded"):
        return PointState.HIDDEN
    return _STATES.get(_text(values, keys.visibility).lower(), PointState.VISIBLE)


def _fields(values: Json, keys: _Keys, is_point: bool) -> Json:
    """Return the fields of `Instance` that a region states."""
    known = {*keys.category, *keys.keypoint, *keys.instance, *keys.visibility, *_HIDDEN_KEYS, "confidence", _STORED}
    attributes = {name: value for name, value in values.items() if name.lower() not in known and value not in ("", {})}
    fields: Json = {}
    confidence = to_number(values.get("confidence"))
    if confidence is not None and not is_point:
        fields["confidence"] = confidence
    try:
        stored = json.loads(str(values.get(_STORED) or "{}"))
    except (ValueError, RecursionError):
        stored = {}
    fields |= parse_instance_values(stored)
    fields["attributes"] |= attributes
    return fields


def _read_via2(file: Path, content: Json) -> list[_File]:
    """Read a project of VIA 2, its annotations only, or annotations of VIA 1."""
    entries = content.get("_via_img_metadata", content)
    if not isinstance(entries, dict) or not all(isinstance(entry, dict) for entry in entries.values()):
        raise DataError(f"{file} is not a file of {_TITLE}: `_via_img_metadata` must be an object of images.")
    files: list[_File] = []
    for key, entry in cast("dict[str, Json]", entries).items():
        where = f"{file}, {key}"
        name = entry.get("filename")
        regions = entry.get("regions", [])
        if isinstance(regions, dict):  # VIA 1
            regions = list(regions.values())
        if not isinstance(name, str) or not isinstance(regions, list):
            raise DataError(f"{where}: an image must have `filename` and a list `regions`.")
        parsed = _File(name, entry.get("size"), _object(entry.get("file_attributes"), where, "file_attributes"))
        for index, region in enumerate(regions):
            place = f"{where}, region {index}"
            values = _object(region, place, "region")
            shape = _object(values.get("shape_attributes"), place, "shape_attributes")
            attributes = _object(values.get("region_attributes"), place, "region_attributes")
            parsed.regions.append(_parse_region(shape, attributes, place))
        files.append(parsed)
    return files


def _object(value: object, where: str, name: str) -> Json:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise DataError(f"{where}: `{name}` must be a JSON object; it is {str(value)[:80]!r}.")
    return cast(Json, value)


def _parse_region(shape: Json, attributes: Json, where: str) -> _Region:
    kind = str(shape.get("name"))
    keys = {"point": ("cx", "cy"), "rect": ("x", "y", "width", "height")}.get(kind)
    if keys is not None:
        xy = tuple(_coordinate(shape.get(key), where, key) for key in keys)
        return _Region(kind, xy, attributes, where)
    if kind in ("polygon", "polyline"):
        columns = shape.get("all_points_x")
        rows = shape.get("all_points_y")
        if not isinstance(columns, list) or not isinstance(rows, list) or len(columns) != len(rows):
            raise DataError(f"{where}: `all_points_x` and `all_points_y` must be lists of the same length.")
        pairs = zip(columns, rows, strict=True)
        xy = tuple(_coordinate(value, where, "all_points") for pair in pairs for value in pair)
        return _Region("polygon", xy, attributes, where)
    return _Region(kind, (), attributes, where)


def _coordinate(value: object, where: str, name: str) -> float:
    number = to_number(value)
    if number is None:
        raise DataError(f"{where}: `{name}` must be a finite number; it is {str(value)[:80]!r}.")
    return number


def _read_csv(file: Path) -> list[_File]:
    """Read the annotations of VIA 1 or 2 as CSV: one row for each region."""
    files: dict[str, _File] = {}
    try:
        if file.stat().st_size > _MAX_CSV_BYTES:
            raise DataError(f"{file} has more than {_MAX_CSV_BYTES >> 20} MiB.")
        with file.open(encoding="utf-8-sig", newline="") as lines:
            reader = csv.DictReader(lines)
            names = [str(name).lstrip("#").strip() for name in reader.fieldnames or ()]
            missing = [name for name in _CSV_COLUMNS if name not in names]
            if missing:
                raise DataError(f"{file} is not a CSV file of {_TITLE}: it has no column {missing[0]}.")
            reader.fieldnames = names
            for row in reader:
                _add_csv_row(files, row, f"{file}, line {reader.line_num}")
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{file} is not a CSV file of {_TITLE} ({error}).") from error
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror or error}.") from error
    return list(files.values())


def _add_csv_row(files: dict[str, _File], row: dict[str, Any], where: str) -> None:
    name = row.get("filename")
    if not name:
        raise DataError(f"{where}: `filename` must not be empty.")
    size = to_number(row.get("file_size"))
    entry = files.setdefault(f"{name}{row.get('file_size')}", _File(name, None if size is None else int(size)))
    entry.attributes |= _csv_object(row, "file_attributes", where)
    shape = _csv_object(row, "region_shape_attributes", where)
    if shape:  # images without regions have one row without a shape
        entry.regions.append(_parse_region(shape, _csv_object(row, "region_attributes", where), where))


def _csv_object(row: dict[str, Any], name: str, where: str) -> Json:
    text = row.get(name)
    try:
        value = json.loads(text) if text else {}
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: `{name}` must be a JSON object ({error}).") from error
    return _object(value, where, name)


def _read_via3(file: Path, content: Json, issues: IssueLog) -> list[_File]:
    """Read a project of VIA 3: metadata belong to views, views show files."""
    tables = {name: _object(content.get(name), str(file), name) for name in ("file", "view", "metadata", "attribute")}
    attributes = {
        key: _object(value, f"{file}, attribute {key}", "attribute") for key, value in tables["attribute"].items()
    }
    views: dict[str, _File] = {}
    for view_id, view in tables["view"].items():
        file_ids = _object(view, f"{file}, view {view_id}", "view").get("fid_list")
        file_ids = cast("list[object]", file_ids) if isinstance(file_ids, list) else []
        entries = [_object(tables["file"].get(str(file_id)), str(file), "file") for file_id in file_ids]
        if len(entries) != 1 or entries[0].get("type", 2) != 2:
            issues.skip("views of VIA 3 that do not show one image", f"view {view_id}")
            continue
        name = entries[0].get("fname") or entries[0].get("src")
        source = str(entries[0].get("src") or name)
        # `src` has the folders, unless the image is inside the project
        views[view_id] = _File(str(name) if source.startswith("data:") else source)
    for key, values in tables["metadata"].items():
        where = f"{file}, metadata {key}"
        metadata = _object(values, where, "metadata")
        view = views.get(str(metadata.get("vid")))
        xy = metadata.get("xy")
        if view is None or not isinstance(xy, list):
            issues.skip("metadata of VIA 3 without a view of an image", where)
            continue
        named = _name_attributes(_object(metadata.get("av"), where, "av"), attributes)
        if not xy:  # attributes of the image
            view.attributes |= named
            continue
        numbers = [_coordinate(value, where, "xy") for value in xy]
        view.regions.append(_via3_region(numbers, named, where))
    return list(views.values())


def _via3_region(numbers: Sequence[float], attributes: Json, where: str) -> _Region:
    shape = int(numbers[0])
    xy = tuple(numbers[1:])
    if shape == _VIA3_POINT and len(xy) == 2:
        return _Region("point", xy, attributes, where)
    if shape == _VIA3_RECTANGLE and len(xy) == 4:
        return _Region("rect", xy, attributes, where)
    if shape in _VIA3_OUTLINES and len(xy) % 2 == 0:
        return _Region("polygon", xy, attributes, where)
    return _Region(f"{shape} of VIA 3", xy, attributes, where)


def _name_attributes(values: Json, attributes: Json) -> Json:
    """Return values by the names of their attributes; choices by their text."""
    named: Json = {}
    for key, value in values.items():
        attribute = attributes.get(key, {})
        options = attribute.get("options")
        text = options.get(str(value), value) if isinstance(options, dict) else value
        named[str(attribute.get("aname") or key)] = text
    return named


def detect(path: Path) -> bool:
    """Return whether a path is a file of VIA, or a folder with one."""
    if path.is_dir():
        return any(detect(file) for file in sorted(path.iterdir())[:50] if file.is_file())
    if path.suffix.lower() == ".csv":
        return starts_with(path, [b"region_shape_attributes", b"region_attributes"], 4096)
    if path.suffix.lower() != ".json":
        return False
    markers = ([b"_via_"], [b'"shape_attributes"'], [b'"project"', b'"vid_list"'], [b'"filename"', b'"regions"'])
    return any(starts_with(path, head) for head in markers)


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
        regions[0]["region_attributes"][_STORED] = json.dumps(values)  # VIA shows attributes as text
    return regions


def _region(shape: Json, attributes: Json) -> Json:
    return {"shape_attributes": shape, "region_attributes": dict(attributes)}


def _to_csv(entries: dict[str, Json]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_CSV_COLUMNS)
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


FORMAT = AnnotationFormat(
    name="via",
    title="VIA",
    capabilities=ALL_FEATURES - {Feature.ABSENT_XY},
    detect=detect,
    read=read,
    write=write,
    suffixes=(".json", ".csv"),
)
