"""The COCO annotations that a split is judged by: given, found with the data set, or made of its labels."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from yolopose.base.errors import DataError, NotFoundError
from yolopose.base.log import LOGGER
from yolopose.base.suggestions import suggest_path
from yolopose.data.convert import build_coco, find_coco_record
from yolopose.data.dataset import Dataset
from yolopose.data.labels import Annotations
from yolopose.data.paths import label_path

Json = dict[str, Any]
Id = int | str
_SHOWN = 3
_MEND = "Name the right file (annotations=…), or move this one away to count against the labels."


@dataclass(frozen=True, slots=True, eq=False)
class CocoTruth:
    """COCO annotations, lined up with the images and classes of a run.

    Attributes:
        source: where they are from, in words.
        content: `images`, `annotations` and `categories`, of the measured images and classes alone.
        ids: id of each measured image that they know.
        categories: id of the category of each class.
        made: whether they were made of the labels, so that no file holds them yet.
    """

    source: str
    content: Json
    ids: Mapping[Path, Id]
    categories: tuple[Id, ...]
    made: bool


def find_truth(
    dataset: Dataset, labels: Annotations, split: str, given: str | None = None, classes: Sequence[int] | None = None
) -> CocoTruth:
    """Find or makes the annotations of a split.

    Looked at are, in this order: the given file, the record of a conversion beside the labels, and
    `annotations/person_keypoints_NAME.json` (`keypoints_NAME.json`, `NAME.json`) in the folder of the data set, where
    NAME is the folder of the images or the split. Where there is none, the labels are taken, with
    the area of the box.

    Args:
        dataset: the data set.
        labels: labels of the split.
        split: `train`, `val` or `test`.
        given: the file, where one is named.
        classes: class indices that count; None for all.

    Raises:
        NotFoundError: the given file is not there.
        DataError: the file is damaged, or belongs to another data set.
    """
    files, spec = labels.files, dataset.spec
    folder = label_path(files[0]).parent
    path = Path(given).expanduser() if given else None
    if path is None and find_coco_record(files[0]) is None:
        path = next((place for place in _places(dataset.root, (folder.name, split)) if place.is_file()), None)
    if path is None:
        source = f"the labels of {dataset.yaml_path}"
        content = build_coco(dataset, files, dict(zip(files, _new_images(labels), strict=True)))
        ids: dict[Path, Id] = {
            file: image["id"] for file, image in zip(dict.fromkeys(files), content["images"], strict=True)
        }
    else:
        source, content = str(path), _read(path)
        _check_points(path, content, spec.keypoints.count)
        ids = _image_ids(content, files)
        _compare_images(path, content, ids, files)
    categories = _category_ids(content, spec.classes, source)
    kept = [categories[index] for index in classes] if classes is not None else categories
    return CocoTruth(source, _cut(content, ids, kept), ids, categories, made=path is None)


def _places(root: Path, names: Sequence[str]) -> Iterator[Path]:
    for name in names:
        for prefix in ("person_keypoints_", "keypoints_", ""):
            yield root / "annotations" / f"{prefix}{name}.json"


def _new_images(labels: Annotations) -> Iterator[Json]:
    """Entries of `images` with the ids that predictions have: the file's name, a number where it is one."""
    stems = Counter(file.stem for file in labels.files)
    for file, (height, width) in zip(labels.files, labels.shapes.tolist(), strict=True):
        name = file.stem if stems[file.stem] == 1 else f"{file.parent.name}/{file.stem}"
        yield {
            "id": int(name) if name.isdecimal() else name,
            "file_name": file.name,
            "width": width,
            "height": height,
        }


def _read(path: Path) -> Json:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise NotFoundError(
            f"There is no annotation file {path} (current folder: {Path.cwd()}).{suggest_path(path)}"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} cannot be read as COCO annotations: {error}. {_MEND}") from error
    lists = ("images", "annotations", "categories")
    needed: dict[str, tuple[str, ...]] = {"images": ("id", "file_name"), "categories": ("id", "name")}
    needed["annotations"] = ("image_id", "category_id", "bbox")
    if not isinstance(content, dict) or not all(isinstance(content.get(key), list) for key in lists):
        raise DataError(
            f"{path} holds no COCO annotations: it has no lists `images`, `annotations` and `categories`. {_MEND}"
        )
    for key in lists:
        for number, entry in enumerate(content[key]):
            missing = [name for name in needed[key] if not isinstance(entry, dict) or name not in entry]
            if missing:
                raise DataError(f"{path}: entry {number} of `{key}` has no {', '.join(missing)}: {str(entry)[:200]}.")
    return content


def _check_points(path: Path, content: Json, count: int) -> None:
    for annotation in content["annotations"]:
        points = annotation.setdefault("keypoints", [0] * (3 * count))
        if len(points) != 3 * count:
            raise DataError(
                f"{path} is of another data set: an annotation (id {annotation.get('id')}) has {len(points) // 3} "
                f"keypoints, and the data set has {count}. {_MEND}"
            )
        annotation.setdefault("num_keypoints", sum(v > 0 for v in points[2::3]))
        annotation.setdefault("iscrowd", 0)
        if "area" not in annotation:
            annotation["area"] = float(annotation["bbox"][2]) * float(annotation["bbox"][3])


def _image_ids(content: Json, files: Sequence[Path]) -> dict[Path, Id]:
    """Ids of the images that the annotations know: by folders and name where they have such, else by name alone."""
    places = {PurePosixPath(image["file_name"]).as_posix(): image["id"] for image in content["images"]}
    counts = Counter(PurePosixPath(place).name for place in places)
    names = {name: image for place, image in places.items() if counts[name := PurePosixPath(place).name] == 1}
    found: dict[Path, Id] = {}
    for file in files:
        tails = ("/".join(file.parts[-depth:]) for depth in (4, 3, 2, 1))
        image = next((places[tail] for tail in tails if tail in places), names.get(file.name))
        if image is not None:
            found[file] = image
    return found


def _category_ids(content: Json, classes: Sequence[str], source: str) -> tuple[Id, ...]:
    """The category of each class: by name, or by the order of the ids where there are as many."""
    by_name = {category["name"]: category["id"] for category in content["categories"]}
    if all(name in by_name for name in classes):
        return tuple(by_name[name] for name in classes)
    posed = [category for category in content["categories"] if category.get("keypoints")] or content["categories"]
    if len(posed) != len(classes):
        raise DataError(
            f"{source} is of another data set: its categories are {', '.join(map(str, by_name))}, and the classes of "
            f"the data set {', '.join(classes)}. {_MEND}"
        )
    LOGGER.warning(
        f"The categories of {source} ({', '.join(str(one['name']) for one in posed)}) and the classes of the data set "
        f"({', '.join(classes)}) differ by name; they are compared in the order of the ids."
    )
    return tuple(one["id"] for one in sorted(posed, key=lambda one: one["id"]))


def _compare_images(path: Path, content: Json, ids: Mapping[Path, Id], files: Sequence[Path]) -> None:
    """Name the images that only one side has; few in common are another data set.

    Raises:
        DataError: the file knows less than half of the measured images.
    """
    unknown = [file.name for file in files if file not in ids]
    if len(unknown) * 2 > len(files):
        raise DataError(
            f"{path} is of another data set or split: it knows {len(ids)} of the {len(files)} measured images (not "
            f"{_some(unknown)}). {_MEND}"
        )
    if unknown:
        LOGGER.warning(
            f"{len(unknown)} of {len(files)} measured images are not in {path} and do not count in the COCO "
            f"numbers: {_some(unknown)}."
        )
    measured = set(ids.values())
    absent = [str(image["file_name"]) for image in content["images"] if image["id"] not in measured]
    if absent:
        LOGGER.warning(
            f"{len(absent)} of {len(content['images'])} images of {path} were not measured (not in the split, or "
            f"refused) and do not count in the COCO numbers: {_some(absent)}."
        )


def _cut(content: Json, ids: Mapping[Path, Id], categories: Sequence[Id]) -> Json:
    """The content of measured images and categories alone."""
    images, chosen = set(ids.values()), set(categories)
    return {
        **content,
        "images": [one for one in content["images"] if one["id"] in images],
        "annotations": [
            one for one in content["annotations"] if one["image_id"] in images and one["category_id"] in chosen
        ],
        "categories": [one for one in content["categories"] if one["id"] in chosen],
    }


def _some(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
