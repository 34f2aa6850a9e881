"""Label files to COCO keypoint annotations (cocodataset.org/#format-data)."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from yolopose.base.errors import DataError, OutputError
from yolopose.base.files import write_text
from yolopose.base.log import LOGGER
from yolopose.data.convert.from_coco import label_row
from yolopose.data.dataset import Dataset, load_dataset
from yolopose.data.images import read_image
from yolopose.data.label_file import LabelError, read_label_file
from yolopose.data.label_scan import label_path
from yolopose.schema import PoseSpec

Json = dict[str, Any]


def export_coco(data: str | Path, split: str, target: str | Path) -> Path:
    """Write the labels of a split as a COCO keypoint JSON file.

    Ids, areas and crowds come from `labels/SPLIT.coco.json` where a conversion left it; else areas are those of the
    boxes, and ids are counted.

    Args:
        data: data YAML.
        split: `train`, `val` or `test`.
        target: the JSON file.

    Returns:
        `target`.

    Raises:
        DataError: the data set or a label file cannot be used.
        OutputError: the file is there already, or cannot be written.
    """
    if Path(target).exists():
        raise OutputError(
            f"{target} is there already and was left as it is. Choose another file (output=…), or move it away."
        )
    dataset = load_dataset(data)
    content = build_coco(dataset, dataset.image_files(split))
    write_text(target, json.dumps(content))
    LOGGER.info(f"Wrote {target}: {len(content['images'])} images, {len(content['annotations'])} annotations.")
    return Path(target)


def build_coco(dataset: Dataset, files: Sequence[Path], new_images: Mapping[Path, Json] | None = None) -> Json:
    """Make COCO keypoint annotations of label files, and of the record that a conversion left beside them.

    Args:
        dataset: the data set.
        files: images of one of its splits.
        new_images: entries of `images` for images that the record does not know; read from the images when None.

    Returns:
        The content of a COCO JSON file, its images in the order of `files`.

    Raises:
        DataError: a label file cannot be used.
    """
    record = _record(files)
    by_name = {PurePosixPath(image["file_name"]).name: image for image in record.get("images", [])}
    about: dict[int, list[Json]] = defaultdict(list)
    for annotation in record.get("annotations", []):
        about[annotation["image_id"]].append(annotation)
    images: list[Json] = []
    annotations: list[Json] = []
    for number, file in enumerate(files, 1):
        image = by_name.get(file.name) or (new_images[file] if new_images else _new_image(file, number))
        images.append(image)
        annotations += _annotations(file, image, about[image["id"]], dataset)
    used = {annotation["id"] for annotation in annotations if "id" in annotation}
    free = iter(range(max(used, default=0) + 1, max(used, default=0) + len(annotations) + 1))
    for annotation in annotations:
        annotation.setdefault("id", next(free))
    return {
        "info": record.get("info", {}),
        "licenses": record.get("licenses", []),
        "images": images,
        "annotations": annotations,
        "categories": record.get("categories") or _new_categories(dataset.spec),
    }


def _record(files: Sequence[Path]) -> Json:
    folder = label_path(files[0]).parent
    try:
        return json.loads((folder.parent / f"{folder.name}.coco.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _new_image(file: Path, number: int) -> Json:
    height, width = read_image(file).shape[:2]
    index = int(file.stem) if file.stem.isdigit() else number
    return {"id": index, "file_name": file.name, "width": width, "height": height}


def _annotations(file: Path, image: Json, about: Sequence[Json], dataset: Dataset) -> list[Json]:
    """The annotations of an image: one for each row, with what the record knows of it, and the crowds."""
    spec = dataset.spec
    label = label_path(file)
    try:
        read_label_file(label, spec)  # checks; the numbers are taken from the text, which holds more digits
    except LabelError as error:
        raise DataError(f"{label}, row {error.row}: {error.reason}.") from error
    lines = [line.split() for line in label.read_text(encoding="utf-8-sig").splitlines()] if label.exists() else []
    made: list[Json] = []
    for row, parts in enumerate(parts for parts in lines if parts):
        made += [_annotation(parts, image, one, spec) for one in about if one.get("row") == row] or [
            _annotation(parts, image, {}, spec)
        ]
    crowds = [{key: value for key, value in one.items() if key != "row"} for one in about if one.get("row") is None]
    return made + crowds


def _annotation(parts: Sequence[str], image: Json, about: Json, spec: PoseSpec) -> Json:
    if about and label_row(about, image, spec, {about["category_id"]: int(float(parts[0]))}) == " ".join(parts):
        return {key: value for key, value in about.items() if key != "row"}  # untouched since: every digit
    width, height = image["width"], image["height"]
    cls, (cx, cy, w, h) = int(float(parts[0])), (float(part) for part in parts[1:5])
    dims = spec.keypoints.dims
    points: list[float] = []
    for start in range(5, len(parts), dims):
        x, y = float(parts[start]), float(parts[start + 1])
        v = int(float(parts[start + 2])) if dims == 3 else 2 * bool(x or y)
        points += [x * width, y * height, v] if v else [0, 0, 0]
    made: Json = {
        "image_id": image["id"],
        "category_id": about.get("category_id", cls + 1),
        "bbox": [(cx - w / 2) * width, (cy - h / 2) * height, w * width, h * height],
        "keypoints": points,
        "num_keypoints": sum(v > 0 for v in points[2::3]),
        "area": about.get("area", w * width * h * height),
        "iscrowd": 0,
    }
    return made | {key: about[key] for key in ("id", "segmentation") if key in about}


def _new_categories(spec: PoseSpec) -> list[Json]:
    keypoints = spec.keypoints
    return [
        {
            "id": index + 1,
            "name": name,
            "supercategory": name,
            "keypoints": list(keypoints.keypoint_names(index)),
            "skeleton": [[a + 1, b + 1] for a, b in keypoints.skeleton],
        }
        for index, name in enumerate(spec.classes)
    ]
