"""COCO keypoint annotations (cocodataset.org/#format-data), with the variants of CrowdPose, Halpe and labeling tools.

Each JSON file is a split. Annotations are indexed by image in one pass and decoded again when their image is read, so a
file of any size needs the memory of its text.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from yolopose.base.errors import DataError, NotFoundError
from yolopose.base.log import LOGGER
from yolopose.base.suggestions import suggest_path
from yolopose.data.convert.coco_json import write
from yolopose.data.convert.instances import default_names, is_finite, parse_points, unique_names
from yolopose.data.convert.json_stream import JsonDocument, peek
from yolopose.data.convert.locate import ImageLocator, complete_size, id_key
from yolopose.data.convert.output import check_split, split_key
from yolopose.data.convert.protocol import ALL_FEATURES, AnnotationFormat, Feature, ReadOptions
from yolopose.data.convert.record import Box, ClassTemplate, DatasetRecord, ImageRecord, Instance, IssueLog, Point
from yolopose.data.images import IMAGE_SUFFIXES, is_image
from yolopose.data.paths import relative_name
from yolopose.schema import COCO_PERSON_NAMES

_PREFIXES = ("person_keypoints_", "instances_", "keypoints_")
_NO_SPLIT = ("annotations", "annotation", "instances", "coco", "labels", "keypoints", "person_keypoints", "data")
_TITLE = "COCO annotation file"
FAULTY = "annotations with faulty values"
NOT_IMAGES = "entries of `images` that are not image files"
_FAULTY_ADVICE = "bbox must be 4 and keypoints 3·K finite numbers"
_IMAGE_KEYS = frozenset({"id", "file_name", "width", "height"})
_ANNOTATION_KEYS = frozenset(
    {"id", "image_id", "category_id", "bbox", "keypoints", "num_keypoints", "area", "iscrowd", "segmentation", "score",
     "track_id", "keypoint_scores", "row"}
)  # fmt: skip
_CATEGORY_KEYS = frozenset({"name", "keypoints", "skeleton", "sigmas", "mirror"})
# Halpe-FullBody publishes 26 body keypoints without names (github.com/Fang-Haoshu/Halpe-FullBody)
_HALPE_26 = (
    "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow",
    "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle",
    "right_ankle", "head", "neck", "hip", "left_big_toe", "right_big_toe", "left_small_toe", "right_small_toe",
    "left_heel", "right_heel",
)  # fmt: skip

Json = dict[str, Any]


class CocoFile:
    """One COCO JSON file, indexed by image.

    Args:
        path: the file.
        split: name of the split.
        options: see `ReadOptions`.
        issues: log of what is changed in the classes.

    Attributes:
        classes: its categories, ordered by id.
        has_keypoints: whether a category has keypoints.

    Raises:
        DataError: the file is not a COCO annotation file.
    """

    def __init__(self, path: Path, split: str, options: ReadOptions, issues: IssueLog) -> None:
        self.path = path
        self.split = split
        self._options = options
        self._offsets: dict[str, list[int]] = defaultdict(list)
        self._image_keys: set[str] = set()
        self._counts: dict[str, int] = {}  # keypoints of the first annotation of each category
        self.document = JsonDocument(path, _TITLE, self._index)
        if "images" not in self.document.offsets:
            raise DataError(f"{path} is not a {_TITLE}: it has no lists `images`, `annotations` and `categories`.")
        self._by_number: dict[str, list[str]] = defaultdict(list)
        for key in self._offsets:
            self._by_number[_without_zeros(key)].append(key)
        self.by_id = parse_categories(self.document.elements("categories"), path, options, self._counts, issues)
        self.classes = list(self.by_id.values())
        self.has_keypoints = any(template.keypoints for template in self.classes)

    @property
    def file_names(self) -> list[str]:
        """File names of the images that have one."""
        names = (image.get("file_name") for image in self.document.elements("images") if isinstance(image, dict))
        return [name for name in names if isinstance(name, str)]

    def _index(self, key: str, offset: int, element: Any) -> None:
        if key not in ("images", "annotations", "categories"):
            return
        needs = {"categories": ("id", "name")}.get(key, ())
        if not isinstance(element, dict) or not all(name in element for name in needs):
            with_keys = f" with {' and '.join(needs)}" if needs else ""
            raise DataError(f"{self.path} is not a {_TITLE}: `{key}` must be a list of objects{with_keys}.")
        if key == "images" and isinstance(element.get("id"), int | float | str):
            self._image_keys.add(id_key(element["id"]))
        if key == "annotations":
            image_id = element.get("image_id")
            self._offsets[id_key(image_id) if isinstance(image_id, int | float | str) else ""].append(offset)
            category_id = element.get("category_id")
            values = element.get("keypoints")
            if isinstance(category_id, int | float | str) and isinstance(values, list):
                self._counts.setdefault(id_key(category_id), len(values) // 3)

    def read_images(self, locator: ImageLocator, issues: IssueLog) -> Iterator[ImageRecord]:
        """Yield the images of the file in their order; see `ImageReader`.

        Raises:
            DataError: an entry of `images` has no id or file name, its name is not safe, or its size is not known.
        """
        keys: set[str] = set()
        pending = set(self._offsets)
        for index, entry in enumerate(self.document.elements("images")):
            image = self._image(index, entry)
            key = id_key(entry["id"])
            spellings = self._spellings(key)
            pending.difference_update(spellings)
            if key in keys:
                issues.skip("images with the id of another image", image.name, "Give each image an id of its own")
                continue
            keys.add(key)
            # hidden folders are not searched for images
            if not is_image(Path(image.name)) or any(part.startswith(".") for part in image.name.split("/")):
                issues.skip(NOT_IMAGES, image.name, _suffixes())
                continue
            image.path = locator.find(image.name, issues, self.split)
            image.instances = [
                instance
                for spelling in spellings
                for offset in self._offsets.get(spelling, ())
                if (instance := self._instance(offset, issues)) is not None
            ]
            if not complete_size(image, issues):
                raise _entry_error(self.path, index, entry)
            yield image
        for key in (key for key in self._offsets if key in pending):
            advice = "`image_id` must be the id of an entry of `images`"
            where = f"{self.path.name}: image_id {key!r}"
            issues.skip("annotations of images that are not listed", where, advice, len(self._offsets[key]))

    def _spellings(self, key: str) -> list[str]:
        """Return the image_id of annotations of an image: its id, also with other leading zeros (000000000139)."""
        others = self._by_number.get(_without_zeros(key), ()) if key.isdecimal() else ()
        return [key, *(other for other in others if other != key and other not in self._image_keys)]

    def _instance(self, offset: int, issues: IssueLog) -> Instance | None:
        annotation = self.document.element(offset)
        where = f"{self.path.name}: annotation {annotation.get('id', '?')}"
        return parse_instance(annotation, self.by_id, where, issues)

    def _image(self, index: int, entry: Json) -> ImageRecord:
        if not isinstance(entry.get("id"), int | float | str) or not isinstance(entry.get("file_name"), str):
            raise _entry_error(self.path, index, entry)
        try:
            name = relative_name(entry["file_name"]).as_posix()
        except DataError as error:
            raise DataError(f"{self.path}: entry {index} of `images`: file_name {error}.") from error
        width, height = (_side(entry.get(key)) for key in ("width", "height"))
        attributes = {key: value for key, value in entry.items() if key not in _IMAGE_KEYS}
        if name != entry["file_name"]:
            attributes["file_name"] = entry["file_name"]
        return ImageRecord(
            name=name,
            width=width if height else None,
            height=height if width else None,
            split=self.split,
            id=entry["id"],
            attributes=attributes,
            source=str(self.path),
        )


def parse_categories(
    entries: Iterable[Json], path: Path, options: ReadOptions, counts: Mapping[str, int], issues: IssueLog
) -> dict[str, ClassTemplate]:
    """Return the classes of `categories` by id (see `id_key`), ordered by id.

    Args:
        entries: the list `categories`.
        path: file that contains it.
        options: see `ReadOptions`.
        counts: number of keypoints of the annotations by category id, for categories that do not name them.
        issues: log.

    Raises:
        DataError: an id, a skeleton or σ are not valid.
    """
    categories: list[tuple[int, Json]] = []
    for category in entries:
        try:
            categories.append((int(category["id"]), category))
        except (TypeError, ValueError, OverflowError, KeyError) as error:
            raise DataError(f"{path}: the id of a category is not an integer ({error}).") from error
    by_id: dict[str, ClassTemplate] = {}
    names: set[str] = set()
    for index, category in sorted(categories, key=lambda item: item[0]):
        where = f"{path.name}, category {str(category.get('name', index))!r}"
        template = _template(category, where, options, counts.get(str(index), 0), issues)
        if template.name in names:
            template = replace(template, name=f"{template.name} {index}")
            issues.change("categories of the same name got their id behind it", where)
        names.add(template.name)
        by_id[str(index)] = template
    return by_id


def _template(category: Json, where: str, options: ReadOptions, count: int, issues: IssueLog) -> ClassTemplate:
    names = category.get("keypoints") or ()
    if not isinstance(names, list | tuple):
        raise DataError(f"{where}: `keypoints` must be a list of names, got {names!r}.")
    if names:
        names = unique_names(names, issues, where)
    elif count:
        names = options.kpt_names if len(options.kpt_names) == count else _known_names(count)
        advice = f"Named {', '.join(names[:3])}, …; give others with kpt_names=[…]"
        issues.change("categories have keypoints without names", f"{where}: {count} keypoints", advice)
    sigmas = category.get("sigmas") or ()
    if not isinstance(sigmas, list | tuple) or (
        sigmas and (len(sigmas) != len(names) or not is_finite(*sigmas) or min(sigmas) <= 0)
    ):
        raise DataError(f"{where}: `sigmas` must be {len(names)} positive numbers, got {sigmas!r}.")
    mirror = category.get("mirror")
    try:
        pairs = None if mirror is None else tuple((str(a), str(b)) for a, b in mirror)
    except (TypeError, ValueError) as error:
        raise DataError(f"{where}: `mirror` must be a list of pairs of keypoint names ({error}).") from error
    return ClassTemplate(
        name=str(category.get("name", category["id"])),
        keypoints=tuple(names),
        skeleton=_skeleton(category.get("skeleton") or (), names, where, issues),
        mirror=pairs,
        sigmas=dict(zip(names, sigmas, strict=True)) if sigmas else {},
        attributes={key: value for key, value in category.items() if key not in _CATEGORY_KEYS},
    )


def parse_instance(
    annotation: Json, classes: Mapping[str, ClassTemplate], where: str, issues: IssueLog
) -> Instance | None:
    """Return the instance of an entry of `annotations`; None if it cannot be used, which is logged.

    Args:
        annotation: the entry.
        classes: classes by category id, see `id_key`.
        where: place in the source.
        issues: log.
    """
    category_id = annotation.get("category_id")
    template = classes.get(id_key(category_id)) if isinstance(category_id, int | float | str) else None
    if template is None:
        advice = "`category_id` must be the id of an entry of `categories`"
        issues.skip("annotations of categories that are not listed", where, advice)
        return None
    names = template.keypoints
    points: dict[str, Point] | None = {}
    if names and annotation.get("keypoints"):
        scores = annotation.get("keypoint_scores") or ()
        points = parse_points(annotation["keypoints"], names, issues, where, scores)
    box = _box(annotation)
    if points is None or ("bbox" in annotation and box is None):
        issues.skip(FAULTY, where, _FAULTY_ADVICE)
        return None
    area = annotation.get("area")
    attributes = {key: value for key, value in annotation.items() if key not in _ANNOTATION_KEYS}
    labeled = sum(bool(point.state) for point in points.values())
    if annotation.get("num_keypoints", labeled) != labeled:
        attributes["num_keypoints"] = annotation["num_keypoints"]
    return Instance(
        category=template.name,
        box=box,
        points=points,
        crowd=bool(annotation.get("iscrowd")),
        area=area if is_finite(area) else None,
        segmentation=annotation.get("segmentation"),
        confidence=annotation.get("score"),
        track_id=annotation.get("track_id"),
        id=annotation.get("id"),
        attributes=attributes,
        source=where,
    )


def read(path: Path, options: ReadOptions) -> DatasetRecord:
    """Read a COCO JSON file, or a folder of such files: one split for each.

    Raises:
        NotFoundError: the source contains no files of that suffix.
        DataError: a file is damaged, or two files are annotations of one split.
    """
    issues = IssueLog()
    files = open_files(path, options, issues)
    return make_record(files, path, options, issues)


def make_record(files: Sequence[CocoFile], path: Path, options: ReadOptions, issues: IssueLog) -> DatasetRecord:
    """Return the record of opened files; `path` is where their images are searched."""
    locators = {file: ImageLocator.beside(path, options.images, file.file_names) for file in files}

    def read_images(log: IssueLog) -> Iterator[ImageRecord]:
        for file in files:
            yield from file.read_images(locators[file], log)

    values = files[0].document.values
    attributes = {key: values[key] for key in values if key not in ("images", "annotations", "categories")}
    for key in files[0].document.offsets:
        if key not in ("images", "annotations", "categories"):
            attributes[key] = list(files[0].document.elements(key))
    classes = merge_classes([file.classes for file in files], issues)
    return DatasetRecord(classes=classes, read_images=read_images, format="coco", attributes=attributes, issues=issues)


def open_files(path: Path, options: ReadOptions, issues: IssueLog) -> list[CocoFile]:
    """Open the JSON files of a source; those without keypoints are skipped beside others that have some."""
    paths = _json_files(path)
    files: list[CocoFile] = []
    for file in paths:
        split = split_name(file)
        if options.split and len(paths) == 1 and split_key(split) is None:
            split = options.split
        try:
            files.append(CocoFile(file, split, options, issues))
        except DataError:
            if len(paths) == 1:
                raise
            if '"images"' in peek(file, 1 << 16):
                raise  # a damaged file of annotations must not disappear
            issues.skip("JSON files that are not COCO annotations", file.name)
    with_keypoints = [file for file in files if file.has_keypoints] or files
    for file in files:
        if file not in with_keypoints:
            LOGGER.info(f"{file.path.name} has no keypoint categories and is skipped.")
    if not with_keypoints:
        raise DataError(
            f"{path} contains no COCO annotation file: {', '.join(file.name for file in paths[:5])} are not."
        )
    origins: dict[str, CocoFile] = {}
    for file in with_keypoints:
        try:
            check_split(file.split)
        except DataError as error:
            raise DataError(
                f"The name of {str(file.path)!r} cannot be used as the name of a split: {error}."
            ) from error
        other = origins.setdefault(file.split, file)
        if other is not file:
            raise DataError(
                f"{other.path} and {file.path} are both annotations of the split {file.split}. Convert them to "
                "separate folders, or rename one of them."
            )
    return with_keypoints


def split_name(file: Path) -> str:
    """Return the split that the name of a COCO file states: `person_keypoints_val2017.json` is of `val2017`."""
    name = file.stem
    if name.startswith("_annotations.coco"):  # Roboflow: one folder for each split
        return file.parent.name
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    return "" if name in _NO_SPLIT else name


def merge_classes(lists: Sequence[Sequence[ClassTemplate]], issues: IssueLog) -> tuple[ClassTemplate, ...]:
    """Return the classes of several files by name; keypoints that only a later file has are appended."""
    merged: dict[str, ClassTemplate] = {}
    for template in (template for classes in lists for template in classes):
        known = merged.setdefault(template.name, template)
        added = [name for name in template.keypoints if name not in known.keypoints]
        if added:
            issues.change("classes have other keypoints in another file", f"{template.name}: {', '.join(added)}")
            merged[template.name] = replace(known, keypoints=(*known.keypoints, *added))
    return tuple(merged.values())


def detect(path: Path) -> bool:
    """Return whether a path is a COCO JSON file or a folder of such files."""
    if path.is_dir():
        files = sorted(path.glob("*.json")) or sorted((path / "annotations").glob("*.json"))
        return any(detect(file) for file in files if file.is_file() and not file.name.startswith("."))
    if path.suffix.lower() != ".json":
        return False
    head = peek(path, 1 << 16)
    if not head.startswith("{"):
        return False
    if re.search(r'"(annotations|categories|licenses|info)"\s*:', head) and re.search(r'"images"\s*:\s*\[', head):
        return True
    # other lists may come first and be long
    keys = re.search(r'"(image_id|category_id|categories|licenses|file_name)"\s*:', head)
    return keys is not None and '"shapes"' not in head


def _json_files(path: Path) -> list[Path]:
    if not path.is_dir():
        files = [path] if path.is_file() else []
    else:
        # hidden files: macOS leaves `._NAME.json` on foreign disks
        folders = (path, path / "annotations")
        lists = (sorted(file for file in folder.glob("*.json") if file.is_file()) for folder in folders)
        files = next((files for files in lists if files), [])
        files = [file for file in files if not file.name.startswith(".")]
    if not files:
        raise NotFoundError(f"No COCO .json file exists at {path} (current folder: {Path.cwd()}).{suggest_path(path)}")
    return files


def _known_names(count: int) -> tuple[str, ...]:
    return {17: COCO_PERSON_NAMES, 26: _HALPE_26}.get(count) or default_names(count)


def _skeleton(edges: Any, names: Sequence[str], where: str, issues: IssueLog) -> tuple[tuple[str, str], ...]:
    """Return edges as pairs of names; COCO counts keypoints from 1, but some tools count them from 0."""
    count = len(names)
    try:
        indices = [(int(a), int(b)) for a, b in edges]
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{where}: `skeleton` must be a list of pairs of keypoint numbers ({error}).") from error
    first = 1
    if any(0 in edge for edge in indices):
        first = 0
        issues.change("skeletons count keypoints from 0, COCO from 1", where, "They were read as counted from 0")
    for a, b in indices:
        if not (0 <= a - first < count and 0 <= b - first < count):
            raise DataError(f"{where}: the skeleton edge {[a, b]} is not valid: there are {count} keypoints.")
    return tuple((names[a - first], names[b - first]) for a, b in indices)


def _box(annotation: Mapping[str, Any]) -> Box | None:
    values = annotation.get("bbox")
    if not isinstance(values, list | tuple) or len(values) != 4 or not is_finite(*values):
        return None
    return Box(*values) if values[2] >= 0 and values[3] >= 0 else None


def _without_zeros(key: str) -> str:
    return key.lstrip("0") or "0"


def _side(value: object) -> int | None:
    """Return a width or height; None where it is missing, 0 or not a number."""
    try:
        side = int(value)  # type: ignore[call-overload]  # anything else raises a TypeError
    except (TypeError, ValueError, OverflowError):
        return None
    return side if side > 0 else None


def _entry_error(path: Path, index: int, entry: object) -> DataError:
    return DataError(
        f"{path}: entry {index} of `images` must have id, file_name, and width and height (positive integers; they are "
        f"read from the image where it is found); it is {str(entry)[:200]!r}."
    )


def _suffixes() -> str:
    return f"Supported suffixes: {' '.join(sorted(IMAGE_SUFFIXES))}"


FORMAT = AnnotationFormat(
    name="coco",
    title="COCO keypoints",
    capabilities=ALL_FEATURES - {Feature.ROTATION},
    detect=detect,
    read=read,
    write=write,
    suffixes=(".json",),
)
