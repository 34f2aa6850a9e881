"""COCO keypoint annotations (cocodataset.org/#format-data) to label files and a data YAML.

Label files contain neither areas nor crowds, which the COCO metrics need: the annotations are stored beside them in
`labels/SPLIT.coco.json`, from which `to_coco` restores them.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yolopose.base.errors import DataError, NotFoundError, UsageError
from yolopose.base.log import LOGGER
from yolopose.base.suggestions import suggest_path
from yolopose.data.convert.output import (
    PlannedImage,
    PlannedSplit,
    check_target,
    locate_images,
    output_name,
    write_dataset,
)
from yolopose.data.images import IMAGE_SUFFIXES, is_image
from yolopose.data.paths import relative_name
from yolopose.data.yaml_checks import infer_flip_idx
from yolopose.schema import COCO_PERSON_NAMES, COCO_PERSON_SIGMAS, KeypointSchema, PoseSpec

_PREFIXES = ("person_keypoints_", "instances_", "keypoints_")

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ConversionResult:
    """What a conversion wrote; counts are by split.

    Attributes:
        data: the data YAML.
        images: number of images.
        instances: number of label rows.
        crowds: number of crowd annotations, which have no label row.
        skipped: number of faulty annotations that were skipped.
    """

    data: Path
    images: Mapping[str, int]
    instances: Mapping[str, int]
    crowds: Mapping[str, int]
    skipped: Mapping[str, int]

    @property
    def objects(self) -> Mapping[str, int]:
        """Alias of `instances`, the name in yolopose 0.1."""
        return self.instances


def convert_coco(
    labels_dir: str | Path = "../coco/annotations/",
    save_dir: str | Path = "coco_converted/",
    use_segments: bool = False,
    use_keypoints: bool = True,
    cls91to80: bool = True,
    lvis: bool = False,
    *,
    images_dir: str | Path | None = None,
) -> ConversionResult:
    """Write label files and a data YAML from COCO keypoint JSON files.

    Each file `person_keypoints_NAME.json` becomes the split `labels/NAME`. Coordinates are written with 8 decimals.
    Images that are located are copied to `images/NAME`, with their sub-folders. Files without keypoint categories
    (captions, boxes) are skipped. Nothing is written unless the whole output can be written without a clash.

    Args:
        labels_dir: folder of the JSON files, or one of them.
        save_dir: output folder; it must be empty or absent.
        use_segments: must be False; segments are not used for pose estimation.
        use_keypoints: must be True; a pose network cannot be trained on boxes only.
        cls91to80: has no effect: classes are the categories that have keypoints, in the order of their ids.
        lvis: must be False.
        images_dir: folder of the images, or of their split folders; searched for beside `labels_dir` when None.

    Raises:
        UsageError: an option asks for something other than poses.
        NotFoundError: no JSON file exists.
        DataError: a JSON file is damaged, its categories have different numbers of keypoints, an image name leaves the
            folder of the images, or two outputs would have the same path.
        OutputError: `save_dir` is not empty or cannot be written.
    """
    if use_segments or lvis or not use_keypoints:
        raise UsageError("yolopose converts keypoints: call convert_coco(labels_dir=…, use_keypoints=True).")
    source = Path(labels_dir).expanduser()
    target = Path(save_dir).expanduser()
    check_target(target)
    contents = _read_splits(source)
    spec, class_ids = _read_spec(contents)
    roots = [Path(images_dir).expanduser()] if images_dir else [source.parent, source.parent.parent]
    splits: list[PlannedSplit] = []
    counts: dict[str, _Counts] = {}
    for name, content in contents.items():
        labels, record, counts[name] = _convert_annotations(content, spec, class_ids)
        file_names = [image["file_name"] for image in content["images"]]
        sources = locate_images(file_names, name, roots, target)
        names = (output_name(file_name, name) for file_name in file_names)
        splits.append(PlannedSplit(name, [*map(PlannedImage, names, sources, labels)], record))
    result = ConversionResult(
        data=write_dataset(target, splits, spec),
        images={name: len(content["images"]) for name, content in contents.items()},
        instances={name: count.instances for name, count in counts.items()},
        crowds={name: count.crowds for name, count in counts.items()},
        skipped={name: count.skipped for name, count in counts.items()},
    )
    LOGGER.info(_summary(result))
    return result


def _read_splits(source: Path) -> dict[str, Json]:
    """Read the JSON files that have keypoint categories, by split."""
    if source.is_dir():
        # hidden files: macOS leaves `._NAME.json` on foreign disks
        files = sorted(path for path in source.glob("*.json") if path.is_file() and not path.name.startswith("."))
    else:
        files = [source] if source.is_file() else []
    if not files:
        raise NotFoundError(
            f"No COCO .json file exists at {source} (current folder: {Path.cwd()}).{suggest_path(source)}"
        )
    contents: dict[str, Json] = {}
    origins: dict[str, Path] = {}
    for file in files:
        content = _read_json(file)
        if not _keypoint_categories(content):
            if len(files) > 1:
                LOGGER.info(f"{file.name} has no keypoint categories and is skipped.")
            continue
        name = _split_name(file)
        if name in contents:
            raise DataError(
                f"{origins[name]} and {file} are both annotations of the split {name}. Convert them to separate "
                "folders, or rename one of them."
            )
        contents[name] = _check_images(file, content)
        origins[name] = file
    if not contents:
        raise DataError(f"No category in {', '.join(map(str, files))} has keypoints (`keypoints: [names]`).")
    return contents


def _split_name(file: Path) -> str:
    name = file.stem
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    name = name or file.stem
    # a folder `images/images` would get its labels from `images/labels`
    try:
        valid = len(relative_name(name).parts) == 1 and name != "images"
    except DataError:
        valid = False
    if not valid:
        raise DataError(f"The name of {str(file)!r} cannot be used as the name of a split; rename the file.")
    return name


def _read_json(file: Path) -> Json:
    try:
        content = json.loads(file.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is not a COCO annotation file: it is not text (an image or an archive?).") from error
    except json.JSONDecodeError as error:
        raise DataError(
            f"{file} is not a COCO annotation file: line {error.lineno}, column {error.colno} is not JSON "
            f"({error.msg.lower()}). source= takes the .json file of the annotations, or the folder of such files."
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{file} cannot be read as a COCO annotation file ({error}).") from error
    if not isinstance(content, dict) or not isinstance(content.get("images"), list):
        raise DataError(
            f"{file} is not a COCO annotation file: it has no lists `images`, `annotations` and `categories`."
        )
    for key, required in (("annotations", ()), ("categories", ("id", "name"))):
        entries = content.setdefault(key, [])
        if not isinstance(entries, list) or not all(
            isinstance(entry, dict) and all(name in entry for name in required) for entry in entries
        ):
            needs = f" with {' and '.join(required)}" if required else ""
            raise DataError(f"{file} is not a COCO annotation file: `{key}` must be a list of objects{needs}.")
    return content


def _check_images(file: Path, content: Json) -> Json:
    """Check the entries of `images`; those that are not images of a supported format are skipped with a warning."""
    split = _split_name(file)
    images: list[Json] = []
    for index, image in enumerate(content["images"]):
        try:
            valid = int(image["width"]) > 0 and int(image["height"]) > 0 and isinstance(image["file_name"], str)
            valid = valid and isinstance(image["id"], int | float | str)
        except (ValueError, KeyError, TypeError, OverflowError):
            valid = False
        if not valid:
            raise DataError(
                f"{file}: entry {index} of `images` must have id, file_name, and width and height (positive integers); "
                f"it is {str(image)[:200]!r}."
            )
        try:
            name = output_name(image["file_name"], split)
        except DataError as error:
            raise DataError(f"{file}: entry {index} of `images`: file_name {error}.") from error
        # hidden folders are not searched for images
        if is_image(Path(name)) and not any(part.startswith(".") for part in name.parts):
            images.append(image)
    skipped = len(content["images"]) - len(images)
    if skipped:
        LOGGER.warning(
            f"{file}: {skipped} of {len(content['images'])} entries of `images` are not image files and are skipped "
            f"(supported suffixes: {' '.join(sorted(IMAGE_SUFFIXES))})."
        )
    return {**content, "images": images}


def _keypoint_categories(content: Json) -> list[Json]:
    categories = [category for category in content["categories"] if category.get("keypoints")]
    try:
        return sorted(categories, key=lambda category: int(category["id"]))
    except (TypeError, ValueError) as error:
        raise DataError(f"The id of a category is not an integer ({error}).") from error


def _read_spec(contents: Mapping[str, Json]) -> tuple[PoseSpec, dict[int, int]]:
    """Return the classes and keypoints that all files share, and the class index of each category id."""
    by_id = {
        int(category["id"]): category for content in contents.values() for category in _keypoint_categories(content)
    }
    categories = [by_id[category_id] for category_id in sorted(by_id)]
    first = categories[0]
    try:
        counts = {len(category["keypoints"]) for category in categories}
        if len(counts) > 1:
            raise DataError(
                f"The categories have {sorted(counts)} keypoints; a pose network has the same number for all classes. "
                "Convert each category separately."
            )
        names = {index: tuple(map(str, category["keypoints"])) for index, category in enumerate(categories)}
        is_person = names[0] == COCO_PERSON_NAMES
        keypoints = KeypointSchema(
            count=counts.pop(),
            names=names,
            flip_idx=infer_flip_idx(names[0]),
            # COCO counts the keypoints of an edge from 1
            skeleton=tuple((int(a) - 1, int(b) - 1) for a, b in first.get("skeleton") or []),
            sigmas=tuple(first.get("sigmas") or ()) or (COCO_PERSON_SIGMAS if is_person else None),
        )
    except (TypeError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"The category {first['name']!r} is not valid: {error}") from error
    spec = PoseSpec(classes=tuple(str(category["name"]) for category in categories), keypoints=keypoints)
    return spec, {category_id: index for index, category_id in enumerate(sorted(by_id))}


@dataclass(slots=True)
class _Counts:
    instances: int = 0
    crowds: int = 0
    skipped: int = 0


def _convert_annotations(
    content: Json, spec: PoseSpec, class_ids: Mapping[int, int]
) -> tuple[list[str], Json, _Counts]:
    """Return the text of each label file, the record to store beside them, and the counts."""
    by_image: dict[Any, list[Json]] = defaultdict(list)
    for annotation in content["annotations"]:
        if isinstance(annotation.get("image_id"), int | float | str):
            by_image[annotation["image_id"]].append(annotation)
    counts = _Counts()
    labels: list[str] = []
    stored: list[Json] = []
    for image in content["images"]:
        rows: list[str] = []
        for annotation in by_image.get(image["id"], []):
            if not isinstance(annotation.get("category_id"), int | float) or annotation["category_id"] not in class_ids:
                continue
            if annotation.get("iscrowd"):
                stored.append({**annotation, "row": None})
                counts.crowds += 1
                continue
            row = label_row(annotation, image, spec, class_ids)
            if row is None:
                counts.skipped += 1
                continue
            # the reader of label files drops duplicate rows, so the record refers to the first of them
            if row not in rows:
                rows.append(row)
            stored.append({**annotation, "row": rows.index(row)})
        counts.instances += len(rows)
        labels.append("".join(f"{row}\n" for row in rows))
    record = {
        "images": content["images"],
        "annotations": stored,
        "categories": [category for category in content["categories"] if int(category["id"]) in class_ids],
        "info": content.get("info", {}),
        "licenses": content.get("licenses", []),
    }
    return labels, record, counts


def label_row(annotation: Json, image: Json, spec: PoseSpec, class_ids: Mapping[int, int]) -> str | None:
    """Return the label row of an annotation, 8 decimals; None when its box has no area or values are missing.

    Args:
        annotation: an entry of `annotations`.
        image: its entry of `images`.
        spec: classes and keypoints.
        class_ids: class index of each category id.
    """
    width = float(image["width"])
    height = float(image["height"])
    values = annotation.get("keypoints") or [0] * (3 * spec.keypoints.count)
    try:
        x, y, w, h = (float(value) for value in annotation["bbox"])
        points = [(float(a), float(b), int(v)) for a, b, v in zip(*[iter(values)] * 3, strict=True)]
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    finite = all(math.isfinite(value) for value in (x, y, w, h, *(value for point in points for value in point)))
    if not finite or w <= 0 or h <= 0 or len(points) != spec.keypoints.count:
        return None
    box = [(x + w / 2) / width, (y + h / 2) / height, w / width, h / height]
    fields = [str(class_ids[annotation["category_id"]]), *(f"{value:.8f}" for value in box)]
    for a, b, v in points:
        fields += [f"{a / width:.8f}", f"{b / height:.8f}", str(v)] if v else ["0", "0", "0"]
    return " ".join(fields)


def _summary(result: ConversionResult) -> str:
    lines = [
        f"{name}: {result.images[name]} images, {result.instances[name]} instances, {result.crowds[name]} crowds "
        f"(stored in labels/{name}.coco.json), {result.skipped[name]} faulty annotations skipped"
        for name in result.images
    ]
    return "\n".join([*lines, f"Data YAML: {result.data}"])
