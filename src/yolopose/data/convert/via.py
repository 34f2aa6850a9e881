"""VGG Image Annotator (www.robots.ox.ac.uk/~vgg/software/via): projects and annotations of VIA 2, projects of VIA 3.

Regions are points and rectangles with attributes that each user names. These names are understood: the class as class,
label, category, type; the keypoint as keypoint, bodypart, landmark, part, joint, point, name; the instance as instance,
group, group_id, individual, track, object_id, person_id, id; the state as visibility, visible, state, v, occluded,
hidden. Others are given as options: `class_key`, `keypoint_key`, `instance_key`, `visibility_key`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from yolopose.base.errors import DataError
from yolopose.data.convert.class_file import (
    parse_instance_values,
    read_class_file,
)
from yolopose.data.convert.grouping import Shape, group_shapes, to_number
from yolopose.data.convert.protocol import ALL_FEATURES, AnnotationFormat, Feature, ReadOptions
from yolopose.data.convert.record import (
    Box,
    ClassTemplate,
    DatasetRecord,
    ImageRecord,
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
    foreign_parts,
    merge_unnamed,
    read_json,
    split_and_name,
)
from yolopose.data.convert.via_files import TITLE, AnnotatedFile, Region, detect, read_csv, read_via2, read_via3
from yolopose.data.convert.via_writer import STORED, write

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
        files = read_csv(file)
    else:
        content = read_json(file, TITLE)
        is_via3 = isinstance(content.get("file"), dict) and isinstance(content.get("metadata"), dict)
        files = read_via3(file, content, issues) if is_via3 else read_via2(file, content)
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
        raise DataError(f"{source} must contain one file of {TITLE}; it contains {names}. Name the file.")
    return files[0]


class _Reader:
    """Turns regions into instances."""

    def __init__(self, file: Path, files: Sequence[AnnotatedFile], restore: Any, options: ReadOptions) -> None:
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

    def _shape(self, region: Region, issues: IssueLog) -> Shape | None:
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
    known = {*keys.category, *keys.keypoint, *keys.instance, *keys.visibility, *_HIDDEN_KEYS, "confidence", STORED}
    attributes = {name: value for name, value in values.items() if name.lower() not in known and value not in ("", {})}
    fields: Json = {}
    confidence = to_number(values.get("confidence"))
    if confidence is not None and not is_point:
        fields["confidence"] = confidence
    try:
        stored = json.loads(str(values.get(STORED) or "{}"))
    except (ValueError, RecursionError):
        stored = {}
    fields |= parse_instance_values(stored)
    fields["attributes"] |= attributes
    return fields


FORMAT = AnnotationFormat(
    name="via",
    title="VIA",
    capabilities=ALL_FEATURES - {Feature.ABSENT_XY},
    detect=detect,
    read=read,
    write=write,
    suffixes=(".json", ".csv"),
)
