"""Files of VIA 2 (projects, annotations, CSV) and VIA 3 (projects), as images with regions.

Formats: www.robots.ox.ac.uk/~vgg/software/via.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from yolopose.base.errors import DataError
from yolopose.data.convert.grouping import to_number
from yolopose.data.convert.record import IssueLog
from yolopose.data.convert.source_files import Json, starts_with

TITLE = "VIA"
CSV_COLUMNS = (
    "filename", "file_size", "file_attributes", "region_count", "region_id", "region_shape_attributes",
    "region_attributes",
)  # fmt: skip
_MAX_CSV_BYTES = 1 << 30
# numbers of the shapes in VIA 3
_VIA3_POINT = 1
_VIA3_RECTANGLE = 2
_VIA3_OUTLINES = (6, 7)


@dataclass(slots=True)
class Region:
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
class AnnotatedFile:
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
    regions: list[Region] = field(default_factory=list[Region])


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


def read_via2(file: Path, content: Json) -> list[AnnotatedFile]:
    """Read a project of VIA 2, its annotations only, or annotations of VIA 1."""
    entries = content.get("_via_img_metadata", content)
    if not isinstance(entries, dict) or not all(isinstance(entry, dict) for entry in entries.values()):
        raise DataError(f"{file} is not a file of {TITLE}: `_via_img_metadata` must be an object of images.")
    files: list[AnnotatedFile] = []
    for key, entry in cast("dict[str, Json]", entries).items():
        where = f"{file}, {key}"
        name = entry.get("filename")
        regions = entry.get("regions", [])
        if isinstance(regions, dict):  # VIA 1
            regions = list(regions.values())
        if not isinstance(name, str) or not isinstance(regions, list):
            raise DataError(f"{where}: an image must have `filename` and a list `regions`.")
        parsed = AnnotatedFile(name, entry.get("size"), _object(entry.get("file_attributes"), where, "file_attributes"))
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


def _parse_region(shape: Json, attributes: Json, where: str) -> Region:
    kind = str(shape.get("name"))
    keys = {"point": ("cx", "cy"), "rect": ("x", "y", "width", "height")}.get(kind)
    if keys is not None:
        xy = tuple(_coordinate(shape.get(key), where, key) for key in keys)
        return Region(kind, xy, attributes, where)
    if kind in ("polygon", "polyline"):
        columns = shape.get("all_points_x")
        rows = shape.get("all_points_y")
        if not isinstance(columns, list) or not isinstance(rows, list) or len(columns) != len(rows):
            raise DataError(f"{where}: `all_points_x` and `all_points_y` must be lists of the same length.")
        pairs = zip(columns, rows, strict=True)
        xy = tuple(_coordinate(value, where, "all_points") for pair in pairs for value in pair)
        return Region("polygon", xy, attributes, where)
    return Region(kind, (), attributes, where)


def _coordinate(value: object, where: str, name: str) -> float:
    number = to_number(value)
    if number is None:
        raise DataError(f"{where}: `{name}` must be a finite number; it is {str(value)[:80]!r}.")
    return number


def read_csv(file: Path) -> list[AnnotatedFile]:
    """Read the annotations of VIA 1 or 2 as CSV: one row for each region."""
    files: dict[str, AnnotatedFile] = {}
    try:
        if file.stat().st_size > _MAX_CSV_BYTES:
            raise DataError(f"{file} has more than {_MAX_CSV_BYTES >> 20} MiB.")
        with file.open(encoding="utf-8-sig", newline="") as lines:
            reader = csv.DictReader(lines)
            names = [str(name).lstrip("#").strip() for name in reader.fieldnames or ()]
            missing = [name for name in CSV_COLUMNS if name not in names]
            if missing:
                raise DataError(f"{file} is not a CSV file of {TITLE}: it has no column {missing[0]}.")
            reader.fieldnames = names
            for row in reader:
                _add_csv_row(files, row, f"{file}, line {reader.line_num}")
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{file} is not a CSV file of {TITLE} ({error}).") from error
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror or error}.") from error
    return list(files.values())


def _add_csv_row(files: dict[str, AnnotatedFile], row: dict[str, Any], where: str) -> None:
    name = row.get("filename")
    if not name:
        raise DataError(f"{where}: `filename` must not be empty.")
    size = to_number(row.get("file_size"))
    entry = files.setdefault(f"{name}{row.get('file_size')}", AnnotatedFile(name, None if size is None else int(size)))
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


def read_via3(file: Path, content: Json, issues: IssueLog) -> list[AnnotatedFile]:
    """Read a project of VIA 3: metadata belong to views, views show files."""
    tables = {name: _object(content.get(name), str(file), name) for name in ("file", "view", "metadata", "attribute")}
    attributes = {
        key: _object(value, f"{file}, attribute {key}", "attribute") for key, value in tables["attribute"].items()
    }
    views: dict[str, AnnotatedFile] = {}
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
        views[view_id] = AnnotatedFile(str(name) if source.startswith("data:") else source)
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


def _via3_region(numbers: Sequence[float], attributes: Json, where: str) -> Region:
    shape = int(numbers[0])
    xy = tuple(numbers[1:])
    if shape == _VIA3_POINT and len(xy) == 2:
        return Region("point", xy, attributes, where)
    if shape == _VIA3_RECTANGLE and len(xy) == 4:
        return Region("rect", xy, attributes, where)
    if shape in _VIA3_OUTLINES and len(xy) % 2 == 0:
        return Region("polygon", xy, attributes, where)
    return Region(f"{shape} of VIA 3", xy, attributes, where)


def _name_attributes(values: Json, attributes: Json) -> Json:
    """Return values by the names of their attributes; choices by their text."""
    named: Json = {}
    for key, value in values.items():
        attribute = attributes.get(key, {})
        options = attribute.get("options")
        text = options.get(str(value), value) if isinstance(options, dict) else value
        named[str(attribute.get("aname") or key)] = text
    return named
