"""NDJSON data sets, as training platforms exchange them: one JSON object per line.

The first line describes the data set (`type: dataset`) with the keys of a data YAML; `class_names` are its `names`.
Each further line is an image (`type: image`) with `file`, `url`, `width`, `height`, `split` and `annotations`, whose
list `pose` contains the rows of label files as numbers.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from yolopose.base.errors import DataError, UsageError
from yolopose.data.convert.instances import is_finite
from yolopose.data.convert.json_stream import peek
from yolopose.data.convert.locate import ImageLocator, complete_size
from yolopose.data.convert.output import OutputPlan
from yolopose.data.convert.protocol import AnnotationFormat, Feature, ReadOptions, WriteOptions
from yolopose.data.convert.record import Box, ClassTemplate, DatasetRecord, ImageRecord, Instance, IssueLog
from yolopose.data.convert.yolo_rows import (
    RowLayout,
    check_dims,
    has_scores,
    label_row,
    layout_classes,
    layout_from_spec,
    make_layout,
    parse_row,
)
from yolopose.data.label_file import LabelError, parse_labels
from yolopose.data.paths import relative_name
from yolopose.schema import KeypointSchema, PoseSpec, class_names

_TITLE = "NDJSON data set"
_HEADER_KEYS = frozenset(
    {"type", "task", "class_names", "names", "kpt_shape", "kpt_names", "flip_idx", "skeleton", "kpt_oks_sigmas",
     "class_keypoints"}
)  # fmt: skip
_IMAGE_KEYS = frozenset({"type", "file", "url", "width", "height", "split", "annotations"})
_SPLITS = {"valid": "val", "validation": "val"}


def detect(path: Path) -> bool:
    """Return whether a path is an NDJSON data set, by its suffix or first line, or the folder of one."""
    if path.is_dir():
        return len(list(path.glob("*.ndjson"))) == 1
    if path.suffix.lower() == ".ndjson":
        return True
    line = peek(path, 1 << 16).partition("\n")[0]
    return path.suffix.lower() in (".jsonl", ".json") and '"class_names"' in line and line.rstrip().endswith("}")


def read(path: Path, options: ReadOptions) -> DatasetRecord:
    """Read an NDJSON data set.

    Raises:
        DataError: a line is not JSON, or the first does not describe a data set.
    """
    path = next(iter(sorted(path.glob("*.ndjson"))), path) if path.is_dir() else path
    lines = _lines(path)
    header = next(lines, None)
    if header is None or not isinstance(header.get("class_names", header.get("names")), dict | list):
        raise DataError(f"{path} is not an {_TITLE}: its first line must be an object with `class_names`.")
    issues = IssueLog()
    layout = _read_layout(path, header)
    names = class_names(header.get("class_names", header.get("names")), None)
    classes = tuple(ClassTemplate(name=name) for name in names) if layout is None else layout_classes(layout)
    locator = ImageLocator.beside(path, options.images)

    def read_images(log: IssueLog) -> Iterator[ImageRecord]:
        rest = _lines(path)
        next(rest)
        for number, entry in enumerate(rest, 2):
            image = _image(entry, f"{path.name}, line {number}", options)
            if image is None:
                log.skip("lines that do not describe an image", f"{path.name}, line {number}")
                continue
            image.path = locator.find(image.name, log, image.split)
            rows = entry.get("annotations") or {}
            pose = rows.get("pose") if isinstance(rows, dict) else None
            boxes = rows.get("boxes") if isinstance(rows, dict) else None
            # rows are relative to the size, so the size of the file is what counts
            image.width, image.height = (None, None) if image.path is not None else (image.width, image.height)
            if not complete_size(image, IssueLog()):
                log.skip("images of unknown size", f"{path.name}, line {number}", "Give their folder with images=…")
                continue
            if pose and layout is not None:
                image.instances = _pose_instances(pose, image, layout, log)
            elif boxes:
                image.instances = _box_instances(boxes, image, classes, log)
            yield image

    attributes = {key: value for key, value in header.items() if key not in _HEADER_KEYS}
    if layout is not None and layout.spec.keypoints.dims == 2:
        attributes["kpt_dims"] = 2
    return DatasetRecord(
        classes=classes, read_images=read_images, format="ndjson", attributes=attributes, issues=issues
    )


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    if not path.is_file():  # opening a pipe would block
        raise DataError(f"{path} cannot be read as an {_TITLE}: it is not a file.")
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                try:
                    entry = json.loads(line)
                except (ValueError, RecursionError) as error:
                    raise DataError(f"{path}, line {number} is not JSON ({error}).") from error
                if not isinstance(entry, dict):
                    raise DataError(f"{path}, line {number} is not a JSON object.")
                yield entry
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as an {_TITLE} ({error}).") from error


def _read_layout(path: Path, header: dict[str, Any]) -> RowLayout | None:
    """Return the layout of the rows; None for a data set of boxes."""
    values = {**header, "names": header.get("class_names", header.get("names"))}
    if values.get("kpt_shape") is None:
        values["kpt_shape"] = _guess_shape(path)
    if values["kpt_shape"] is None:
        return None
    try:
        spec = PoseSpec(classes=class_names(values["names"], None), keypoints=KeypointSchema.from_dict(values))
    except UsageError as error:
        raise DataError(f"{path}, line 1: {error}") from error
    own = values.get("class_keypoints")
    return layout_from_spec(spec, own if isinstance(own, dict) else None)


def _guess_shape(path: Path) -> list[int] | None:
    """Return the kpt_shape that the first row has the right length for; x y v if every third value is 0, 1 or 2."""
    for entry in _lines(path):
        rows = entry.get("annotations")
        pose: Any = rows.get("pose") if isinstance(rows, dict) else None
        row = pose[0] if isinstance(pose, list) and pose else None
        if not isinstance(row, list) or len(row) < 7:
            continue
        count = len(row) - 5
        if count % 3 == 0 and all(value in (0, 1, 2) for value in row[7::3]):
            return [count // 3, 3]
        if count % 2 == 0:
            return [count // 2, 2]
    return None


def _image(entry: dict[str, Any], where: str, options: ReadOptions) -> ImageRecord | None:
    if entry.get("type", "image") != "image" or not isinstance(entry.get("file"), str):
        return None
    try:
        name = relative_name(entry["file"]).as_posix()
    except DataError as error:
        raise DataError(f"{where}: file {error}.") from error
    split = str(entry.get("split") or options.split or "")
    width, height = entry.get("width"), entry.get("height")
    known = is_finite(width, height) and isinstance(width, int) and isinstance(height, int) and min(width, height) > 0
    return ImageRecord(
        name=name,
        width=width if known else None,
        height=height if known else None,
        split=_SPLITS.get(split, split),
        url=str(entry.get("url") or ""),
        attributes={key: value for key, value in entry.items() if key not in _IMAGE_KEYS},
        source=where,
    )


def _pose_instances(rows: Any, image: ImageRecord, layout: RowLayout, issues: IssueLog) -> list[Instance]:
    instances: list[Instance] = []
    texts: list[list[str]] = []
    for row in rows if isinstance(rows, list) else ():
        fields = [str(value) for value in row] if isinstance(row, list) else []
        try:
            parse_labels(" ".join(fields).encode(), layout.spec)
        except LabelError as error:
            issues.skip("rows that are not valid", f"{image.source}: {error.reason}")
            continue
        if fields:
            texts.append(fields)
    scores = has_scores(texts, layout.spec.keypoints.dims)
    for index, fields in enumerate(texts):
        instances.append(parse_row(fields, image, layout, scores, f"{image.source}, row {index + 1}", issues))
    return instances


def _box_instances(rows: Any, image: ImageRecord, classes: Sequence[ClassTemplate], issues: IssueLog) -> list[Instance]:
    width, height = image.size or (0, 0)
    instances: list[Instance] = []
    for row in rows if isinstance(rows, list) else ():
        valid = isinstance(row, list) and len(row) >= 5 and is_finite(*row[:5]) and 0 <= row[0] < len(classes)
        if not valid:
            issues.skip("rows that are not valid", image.source)
            continue
        cx, cy, w, h = row[1:5]
        box = Box.from_center(cx * width, cy * height, w * width, h * height)
        instances.append(Instance(category=classes[int(row[0])].name, box=box, source=image.source))
    return instances


def write(dataset: DatasetRecord, plan: OutputPlan, options: WriteOptions, issues: IssueLog) -> Path:
    """Write `dataset.ndjson`; images are copied to `images/SPLIT` if `copy_images` is set.

    With `url` each image has the address `url` + name.

    Raises:
        DataError: no class has keypoints.
    """
    dims = options.kpt_dims or dataset.attributes.get("kpt_dims", 3)
    check_dims(dims)
    layout = make_layout(dataset.classes, dims)
    path = plan.main("dataset.ndjson", "the data set")
    for image in dataset.images():
        if options.copy_images and image.content is not None:
            name = PurePosixPath("images", image.split, image.name)
            plan.add(name, f"{image.name!r} of {image.split!r}", image.content)
    plan.check()
    values = layout.spec.to_dict()
    names = {str(index): name for index, name in values.pop("names").items()}
    header: dict[str, Any] = {"type": "dataset", "task": "pose", "name": path.stem, "class_names": names}
    header |= {key: value for key, value in values.items() if value}
    header |= {key: value for key, value in dataset.attributes.items() if key != "kpt_dims" and key not in _HEADER_KEYS}
    if layout.own_names is not None:
        header["class_keypoints"] = layout.own_names
    with plan.open(path) as file:
        file.write(json.dumps(header, default=str).encode() + b"\n")
        for image in dataset.images():
            file.write(json.dumps(_line(image, layout, options.url, issues), default=str).encode() + b"\n")
    for name in plan.copies:
        plan.copy(name)
    return plan.target / path


def _line(image: ImageRecord, layout: RowLayout, url: str, issues: IssueLog) -> dict[str, Any]:
    rows: list[list[float]] = []
    for instance in image.instances:
        if instance.category not in layout.slots:
            issues.skip("instances of classes without keypoints", f"{image.name}: {instance.category}")
        elif instance.crowd:
            issues.skip("crowds, which would become instances", instance.source or image.name)
        elif (row := label_row(instance, image, layout, issues)) is not None:
            values = [float(value) for value in row.split()]
            rows.append([int(values[0]), *values[1:]])
    entry: dict[str, Any] = {**image.attributes, "type": "image", "file": image.name}
    if url or image.url:
        entry["url"] = url + image.name if url else image.url
    entry |= {"width": image.width, "height": image.height, "split": image.split or "train"}
    return entry | {"annotations": {"pose": rows}}


FORMAT = AnnotationFormat(
    name="ndjson",
    title="NDJSON",
    capabilities=frozenset(
        {
            Feature.SPLIT, Feature.IMAGE_ATTRIBUTES, Feature.EMPTY_IMAGE, Feature.SEVERAL_INSTANCES, Feature.CLASS,
            Feature.BOX, Feature.NO_POINTS, Feature.HIDDEN, Feature.CLASS_KEYPOINTS, Feature.KEYPOINT_NAMES,
            Feature.SKELETON, Feature.MIRROR, Feature.SIGMAS, Feature.DATASET_ATTRIBUTES,
        }
    ),
    detect=detect,
    read=read,
    write=write,
    suffixes=(".ndjson", ".jsonl"),
)  # fmt: skip
