"""Label files to COCO keypoint annotations (cocodataset.org/#format-data)."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from yolopose.base.errors import DataError, OutputError
from yolopose.base.files import read_regular
from yolopose.base.log import LOGGER
from yolopose.data.convert.coco import parse_instance
from yolopose.data.convert.locate import id_key
from yolopose.data.convert.output import create_file
from yolopose.data.convert.record import ImageRecord, IssueLog
from yolopose.data.convert.sidecar import Sidecar, without_row
from yolopose.data.convert.yolo_rows import label_row, layout_classes, layout_from_spec
from yolopose.data.dataset import Dataset, load_dataset
from yolopose.data.image_ids import image_ids, relative_names
from yolopose.data.images import read_image
from yolopose.data.label_file import MAX_LABEL_BYTES, LabelError, coco_visibility, parse_labels
from yolopose.data.paths import label_path
from yolopose.schema import PoseSpec

Json = dict[str, Any]


def export_coco(data: str | Path, split: str, target: str | Path) -> Path:
    """Write the labels of a split as a COCO keypoint JSON file.

    Ids, areas and crowds are restored from `labels/SPLIT.coco.json` if the labels were converted from COCO; otherwise
    areas are those of the boxes, and ids are numbered.

    Args:
        data: data YAML.
        split: `train`, `val` or `test`.
        target: the JSON file; it must not exist.

    Returns:
        `target`.

    Raises:
        DataError: the data set or a label file cannot be used.
        OutputError: `target` already exists or cannot be written.
    """
    target = Path(target)
    if os.path.lexists(target):
        raise OutputError(f"{target} already exists and was left unchanged. Choose another file (output=…) or move it.")
    dataset = load_dataset(data)
    content = build_coco(dataset, dataset.image_files(split))
    create_file(target, json.dumps(content).encode())
    LOGGER.info(f"Wrote {target}: {len(content['images'])} images, {len(content['annotations'])} annotations.")
    return target


def build_coco(
    dataset: Dataset,
    files: Sequence[Path],
    new_images: Mapping[Path, Json] | None = None,
    *,
    single_cls: bool = False,
) -> Json:
    """Return the label files of a split as COCO keypoint annotations, with the record of a conversion from COCO.

    Args:
        dataset: the data set.
        files: images of one of its splits.
        new_images: entries of `images` for images that are not in the record; made from the image files when None.
        single_cls: class 0 for every instance.

    Returns:
        The content of a COCO JSON file, its images in the order of `files` without repetitions.

    Raises:
        DataError: a label file cannot be used.
    """
    sidecar = Sidecar(files)
    new = [file for file in files if file not in sidecar.images]
    entries = new_images or _new_images(new, sidecar.images.values(), files)
    images = {file: sidecar.images.get(file) or entries[file] for file in files}
    record = sidecar.content
    categories = record.get("categories") or _new_categories(dataset.spec)
    classes = _Classes(dataset.spec, sorted(category["id"] for category in categories))
    annotations: list[Json] = []
    for file, image in images.items():
        annotations += _image_annotations(file, image, sidecar.annotations(file), classes, single_cls)
    _set_ids(annotations)
    return {
        "info": record.get("info", {}),
        "licenses": record.get("licenses", []),
        "images": list(images.values()),
        "annotations": annotations,
        "categories": categories,
    }


class _Classes:
    """The classes of a data set and the categories of its COCO file, which are in the order of their ids."""

    def __init__(self, spec: PoseSpec, category_ids: Sequence[int]) -> None:
        self.spec = spec
        self.layout = layout_from_spec(spec)
        self.category_ids = category_ids
        self.by_id = {
            id_key(category_id): template
            for category_id, template in zip(category_ids, layout_classes(self.layout), strict=False)
        }

    def row(self, annotation: Json, image: ImageRecord) -> str | None:
        """Return the label row that a conversion writes for an annotation, or None."""
        instance = parse_instance(without_row(annotation), self.by_id, "", IssueLog())
        return None if instance is None else label_row(instance, image, self.layout, IssueLog())


def _set_ids(annotations: Sequence[Json]) -> None:
    """Give an id to annotations without one, or with one that an earlier annotation has."""
    ids = [annotation.get("id") for annotation in annotations]
    last_id = max((item for item in ids if isinstance(item, int)), default=0)
    used: set[int | str] = set()
    for annotation, item in zip(annotations, ids, strict=True):
        if not isinstance(item, int | str) or item in used:
            last_id += 1
            annotation["id"] = item = last_id
        used.add(item)


def _new_images(new: Sequence[Path], recorded: Iterable[Json], files: Sequence[Path]) -> dict[Path, Json]:
    """Return entries of `images`: paths relative to the folder that all files share, ids from numeric file names."""
    used = {image["id"] for image in recorded}
    names = relative_names(files)
    entries: dict[Path, Json] = {}
    for file, image_id in image_ids(new).items():
        height, width = read_image(file).shape[:2]
        is_free = isinstance(image_id, int) and image_id not in used
        entries[file] = {
            "id": image_id if is_free else None,
            "file_name": names[file],
            "width": width,
            "height": height,
        }
        used.add(entries[file]["id"])
    last_id = max((image_id for image_id in used if isinstance(image_id, int)), default=0)
    for entry in entries.values():
        if entry["id"] is None:
            last_id += 1
            entry["id"] = last_id
    return entries


def _image_annotations(
    file: Path,
    image: Json,
    stored: Sequence[Json],
    classes: _Classes,
    single_cls: bool,
) -> list[Json]:
    """Return the annotations of an image: those of its label rows, completed from the stored ones, and the crowds."""
    label = label_path(file)
    spec = classes.spec
    try:
        data = read_regular(label, MAX_LABEL_BYTES)
        labels = parse_labels(data, spec, any_class=single_cls, precise=True)
    except FileNotFoundError:
        data = b""
        labels = parse_labels(data, spec)
    except OSError as error:
        raise DataError(f"The label file {label} cannot be read: {error.strerror or error}.") from error
    except LabelError as error:
        raise DataError(f"{label}, row {error.row}: {error.reason}.") from error
    lines = [" ".join(line.split()) for line in data.decode("utf-8-sig").split("\n")]
    texts = [line for line in lines if line]
    record = ImageRecord(name=file.name, width=image["width"], height=image["height"])
    mask = None if single_cls else spec.keypoints.point_mask(spec.nc)
    keypoints = labels.keypoints if mask is None else labels.keypoints * mask[labels.classes][..., None]
    annotations: list[Json] = []
    for index, row in enumerate(labels.rows):
        category = classes.category_ids[0 if single_cls else int(labels.classes[index])]
        box = labels.boxes[index].tolist()
        points = keypoints[index].tolist()
        for original in [annotation for annotation in stored if annotation.get("row") == row] or [{}]:
            # an unchanged row returns the stored annotation with all its digits
            if original and classes.row(original, record) == texts[row]:
                annotations.append(without_row(original) | {"category_id": category})
            else:
                annotations.append(_annotation(category, box, points, image, original, spec))
    crowds = [annotation for annotation in stored if "row" in annotation and annotation["row"] is None]
    return annotations + [without_row(crowd) for crowd in crowds]


def _annotation(
    category: int, box: Sequence[float], points: Sequence[Sequence[float]], image: Json, original: Json, spec: PoseSpec
) -> Json:
    """Return the annotation of a label row; ids and areas are those of the record, where it has them."""
    width, height = image["width"], image["height"]
    cx, cy, w, h = box
    keypoints: list[float] = []
    for x, y, v in points:
        # rows without v know only labeled keypoints and others
        flag = coco_visibility(v) if spec.keypoints.dims == 3 else 2 * int(v)
        keypoints += [x * width, y * height, flag] if flag else [0, 0, 0]
    annotation: Json = {
        "image_id": image["id"],
        "category_id": category,
        "bbox": [(cx - w / 2) * width, (cy - h / 2) * height, w * width, h * height],
        "keypoints": keypoints,
        "num_keypoints": sum(v > 0 for v in keypoints[2::3]),
        "area": original.get("area", w * width * h * height),
        "iscrowd": 0,
    }
    return annotation | {key: original[key] for key in ("id", "segmentation") if key in original}


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
