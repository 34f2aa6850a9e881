"""The COCO protocol (cocodataset.org): the annotations of a split, and the evaluation by the library hotcoco."""

from __future__ import annotations

import importlib
import json
import tempfile
import warnings
from collections import Counter
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path, PurePosixPath
from typing import Any, cast

import numpy as np

from yolopose.base.errors import DataError, DependencyError, NotFoundError
from yolopose.base.files import expand_user, read_regular
from yolopose.base.log import LOGGER
from yolopose.base.suggestions import suggest_path
from yolopose.data.convert import build_coco, find_coco_record
from yolopose.data.convert.sidecar import MAX_RECORD_BYTES
from yolopose.data.dataset import Dataset
from yolopose.data.image_ids import image_ids, relative_names
from yolopose.data.labels import Annotations
from yolopose.data.paths import label_path

Json = dict[str, Any]
Id = int | str

KEYPOINT_SCORES = ("AP", "AP50", "AP75", "APM", "APL", "AR", "AR50", "AR75", "ARM", "ARL")
"""Scores of keypoints in the order of COCOeval; at most 20 detections per image count."""
BOX_SCORES = ("AP", "AP50", "AP75", "APS", "APM", "APL", "AR1", "AR10", "AR100", "ARS", "ARM", "ARL")
"""Scores of boxes in the order of COCOeval; at most 100 detections per image count."""
_IOU_TYPES = (("bbox", BOX_SCORES, "B"), ("keypoints", KEYPOINT_SCORES, "P"))
_MAX_LISTED = 3
_HINT = "Name the right file with annotations=…, or move this one away to evaluate against the labels."
_REQUIRED_KEYS: dict[str, tuple[str, ...]] = {
    "images": ("id", "file_name"),
    "annotations": ("image_id", "category_id", "bbox"),
    "categories": ("id", "name"),
}


def require_evaluator() -> Any:
    """Import hotcoco.

    Raises:
        DependencyError: it is not installed.
    """
    try:
        return importlib.import_module("hotcoco")
    except ImportError as error:
        raise DependencyError(
            "protocol=coco needs the evaluator hotcoco, which is not installed. Install with: "
            'pip install "yolopose[coco]"'
        ) from error


def score_coco(gt: Json, predictions: Path, sigmas: Sequence[float] | Sequence[Sequence[float]]) -> dict[str, float]:
    """Evaluate predictions as COCOeval does.

    Args:
        gt: content of a COCO annotation file; ids may be numbers or text.
        predictions: JSON list of detections with `image_id`, `category_id`, `bbox`, `score` and `keypoints`, one per
            line, as `save_json` writes it.
        sigmas: (K,) OKS sigma of each keypoint, or (nc, K) of those of each category, in their order.

    Returns:
        `AP(B)` … `ARL(B)` of boxes (`BOX_SCORES`) and `AP(P)` … `ARL(P)` of keypoints (`KEYPOINT_SCORES`), 0…1; -1
        without ground truth of that size.

    Raises:
        DependencyError: the evaluator is not installed.
    """
    library = require_evaluator()
    image_ids = _integer_ids([image["id"] for image in gt["images"]])
    category_ids = _integer_ids([category["id"] for category in gt["categories"]])
    unchanged = all(old == new for ids in (image_ids, category_ids) for old, new in ids.items())
    with nullcontext(predictions) if unchanged else _renumbered(predictions, image_ids, category_ids) as path:
        coco_gt = library.COCO(_renumbered_gt(gt, image_ids, category_ids))
        coco_dt = coco_gt.load_res(str(path))
        return {
            f"{name}({letter})": value
            for iou_type, names, letter in _IOU_TYPES
            for name, value in zip(names, _evaluate(library, coco_gt, coco_dt, iou_type, sigmas), strict=True)
        }


def _evaluate(
    library: Any, coco_gt: Any, coco_dt: Any, iou_type: str, sigmas: Sequence[float] | Sequence[Sequence[float]]
) -> list[float]:
    """Return the scores of boxes or keypoints.

    The scores of several categories are means over those with ground truth, so that categories with σ of their own are
    evaluated one by one.
    """
    rows = np.asarray(sigmas, dtype=np.float64)
    if iou_type != "keypoints" or rows.ndim == 1:
        return _run_evaluator(library, coco_gt, coco_dt, iou_type, rows.tolist())
    categories = sorted(coco_gt.get_cat_ids())
    if len(categories) != len(rows):
        raise DataError(
            f"The ground truth has {len(categories)} categories, but the data set {len(rows)} classes with keypoints "
            "of their own: give annotations with the same classes."
        )
    scores = np.array(
        [
            _run_evaluator(library, coco_gt, coco_dt, iou_type, row.tolist(), [category])
            for category, row in zip(categories, rows, strict=True)
        ]
    )
    known = scores >= 0
    means = (scores * known).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    return np.where(known.any(axis=0), means, -1.0).tolist()


def _run_evaluator(
    library: Any,
    coco_gt: Any,
    coco_dt: Any,
    iou_type: str,
    sigmas: Sequence[float],
    categories: Sequence[int] | None = None,
) -> list[float]:
    evaluator = library.COCOeval(coco_gt, coco_dt, iou_type)
    if iou_type == "keypoints":
        evaluator.params.kpt_oks_sigmas = list(sigmas)
    if categories is not None:
        evaluator.params.cat_ids = list(categories)
    with redirect_stdout(StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # hotcoco warns about sigmas that are not those of COCO persons
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return [float(value) for value in evaluator.stats]


def _integer_ids(ids: Sequence[Id]) -> dict[Id, int]:
    """Map each id to an integer: itself if all are integers that fit a float, else 1, 2, … in COCOeval's order."""
    if all(isinstance(item, int) and 0 <= item < 2**53 for item in ids):
        return {item: int(item) for item in ids}
    order = sorted(set(ids), key=lambda item: (isinstance(item, str), item))
    return {item: number for number, item in enumerate(order, 1)}


def _renumbered_gt(gt: Json, image_ids: Mapping[Id, int], category_ids: Mapping[Id, int]) -> Json:
    return {
        "images": [{**image, "id": image_ids[image["id"]]} for image in gt["images"]],
        "annotations": [
            {
                **{key: value for key, value in annotation.items() if key != "segmentation"},
                "id": number,
                "image_id": image_ids[annotation["image_id"]],
                "category_id": category_ids[annotation["category_id"]],
            }
            for number, annotation in enumerate(gt["annotations"], 1)
        ],
        "categories": [{**category, "id": category_ids[category["id"]]} for category in gt["categories"]],
    }


@contextmanager
def _renumbered(path: Path, image_ids: Mapping[Id, int], category_ids: Mapping[Id, int]) -> Generator[Path, None, None]:
    """Copy predictions with integer ids, line by line, so that memory does not grow with their number."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "predictions.json"
        with copy.open("w", encoding="utf-8") as text:
            separator = "["
            for row in _read_rows(path):
                if row["image_id"] not in image_ids or row["category_id"] not in category_ids:
                    raise DataError(
                        f"{path} contains predictions of another data set: image {row['image_id']!r} or category "
                        f"{row['category_id']!r} is not in the annotations."
                    )
                values = {key: row[key] for key in ("bbox", "score", "keypoints") if key in row}
                values |= {"image_id": image_ids[row["image_id"]], "category_id": category_ids[row["category_id"]]}
                text.write(separator + json.dumps(values))
                separator = ",\n"
            text.write("]" if separator != "[" else "[]")
        yield copy


def _read_rows(path: Path) -> Iterator[Json]:
    with path.open(encoding="utf-8") as text:
        first = text.readline()
        if first.strip() != "[":  # not written with one row per line
            yield from cast("list[Json]", json.loads(first + text.read()))
            return
        for line in text:
            if line.strip() != "]":
                yield json.loads(line.rstrip().rstrip(","))


@dataclass(frozen=True, slots=True, eq=False)
class CocoAnnotations:
    """COCO annotations, mapped to the images and classes of a run.

    Attributes:
        source: where they come from, for messages.
        content: `images`, `annotations` and `categories`, only of the measured images and classes.
        ids: id of each measured image that they contain.
        categories: category id of each class.
        from_labels: whether they were made from the labels, so that no file contains them yet.
    """

    source: str
    content: Json
    ids: Mapping[Path, Id]
    categories: tuple[Id, ...]
    from_labels: bool

    def without(self, files: Collection[Path]) -> CocoAnnotations:
        """Return the annotations of all images but some."""
        ids = {file: id_ for file, id_ in self.ids.items() if file not in files}
        return replace(self, content=_select(self.content, ids, self.categories), ids=ids) if files else self


def load_coco_gt(
    dataset: Dataset,
    labels: Annotations,
    split: str,
    file: str | None = None,
    classes: Sequence[int] | None = None,
    *,
    single_cls: bool = False,
) -> CocoAnnotations:
    """Find or make the annotations of a split.

    The first that exists is used: `file`; the record of a conversion beside the labels;
    `annotations/person_keypoints_NAME.json` (`keypoints_NAME.json`, `NAME.json`) in the root of the data set, where
    NAME is the image folder or the split; the labels, with the area of the box.

    Args:
        dataset: the data set.
        labels: labels of the split.
        split: `train`, `val` or `test`.
        file: the file, if the user names one.
        classes: class indices that count; None for all.
        single_cls: whether all classes of the label files count as the only one of the data set.

    Raises:
        NotFoundError: `file` does not exist.
        DataError: the file is damaged, or belongs to another data set.
    """
    files, spec = labels.files, dataset.spec
    folder = label_path(files[0]).parent
    path = expand_user(file) if file else None
    if path is None and find_coco_record(files[0]) is None:
        candidates = _annotation_paths(dataset.root, (folder.name, split))
        path = next((candidate for candidate in candidates if candidate.is_file()), None)
    if path is None:
        source = f"the labels of {dataset.yaml_path}"
        content = build_coco(dataset, files, _image_entries(labels), single_cls=single_cls)
        unique_files = dict.fromkeys(files)
        ids: dict[Path, Id] = {name: image["id"] for name, image in zip(unique_files, content["images"], strict=True)}
    else:
        source, content = str(path), _read_annotations(path)
        _complete_annotations(path, content, spec.keypoints.count)
        ids = _image_ids(content, files)
        _check_images(path, content, ids, files)
    categories = _category_ids(content, spec.classes, source)
    selected = [categories[index] for index in classes] if classes is not None else categories
    return CocoAnnotations(source, _select(content, ids, selected), ids, categories, from_labels=path is None)


def _annotation_paths(root: Path, names: Sequence[str]) -> Iterator[Path]:
    for name in names:
        for prefix in ("person_keypoints_", "keypoints_", ""):
            yield root / "annotations" / f"{prefix}{name}.json"


def _image_entries(labels: Annotations) -> dict[Path, Json]:
    """Return entries of `images` with the ids that predictions have."""
    ids = image_ids(labels.files)
    names = relative_names(labels.files)
    return {
        file: {"id": ids[file], "file_name": names[file], "width": width, "height": height}
        for file, (height, width) in zip(labels.files, labels.shapes.tolist(), strict=True)
    }


def _read_annotations(path: Path) -> Json:
    try:
        content = json.loads(read_regular(path, MAX_RECORD_BYTES).decode("utf-8-sig"))
    except FileNotFoundError:
        raise NotFoundError(
            f"The annotation file {path} does not exist (current folder: {Path.cwd()}).{suggest_path(path)}"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} cannot be read as COCO annotations: {error}. {_HINT}") from error
    if not isinstance(content, dict) or not all(isinstance(content.get(key), list) for key in _REQUIRED_KEYS):
        raise DataError(
            f"{path} does not contain COCO annotations: the lists `images`, `annotations` and `categories` are "
            f"missing. {_HINT}"
        )
    for key, required in _REQUIRED_KEYS.items():
        for number, entry in enumerate(content[key]):
            missing = [name for name in required if not isinstance(entry, dict) or name not in entry]
            if missing:
                raise DataError(f"{path}: entry {number} of `{key}` has no {', '.join(missing)}: {str(entry)[:200]}.")
    return content


def _complete_annotations(path: Path, content: Json, count: int) -> None:
    """Add missing optional keys, and check the number of keypoints.

    Raises:
        DataError: an annotation has another number of keypoints.
    """
    for annotation in content["annotations"]:
        points = annotation.setdefault("keypoints", [0] * (3 * count))
        if len(points) != 3 * count:
            raise DataError(
                f"{path} belongs to another data set: an annotation (id {annotation.get('id')}) has "
                f"{len(points) // 3} keypoints, but the data set has {count}. {_HINT}"
            )
        annotation.setdefault("num_keypoints", sum(v > 0 for v in points[2::3]))
        annotation.setdefault("iscrowd", 0)
        if "area" not in annotation:
            annotation["area"] = float(annotation["bbox"][2]) * float(annotation["bbox"][3])


def _image_ids(content: Json, files: Sequence[Path]) -> dict[Path, Id]:
    """Map files to image ids: by the longest matching path, else by the file name if it is unique on both sides."""
    by_path = {
        str(image["file_name"]).replace("\\", "/").removeprefix("./"): image["id"] for image in content["images"]
    }
    counts = Counter(PurePosixPath(path).name for path in by_path)
    by_name = {name: image for path, image in by_path.items() if counts[name := PurePosixPath(path).name] == 1}
    file_counts = Counter(file.name for file in set(files))
    names = relative_names(files)
    ids: dict[Path, Id] = {}
    for file in names:
        # a name without folder identifies a file only where no other file has it
        depths = range(min(len(file.parts) - 1, 8), 0 if file_counts[file.name] == 1 else 1, -1)
        tails = (names[file], *("/".join(file.parts[-depth:]) for depth in depths))
        image = next((by_path[tail] for tail in tails if tail in by_path), None)
        if image is None and file_counts[file.name] == 1:
            image = by_name.get(file.name)
        if image is not None:
            ids[file] = image
    id_counts = Counter(ids.values())
    return {file: image for file, image in ids.items() if id_counts[image] == 1}


def _category_ids(content: Json, classes: Sequence[str], source: str) -> tuple[Id, ...]:
    """Map classes to category ids: by name, or by the order of the ids if there are as many of them.

    Raises:
        DataError: neither is possible.
    """
    by_name = {category["name"]: category["id"] for category in content["categories"]}
    is_unique = len(by_name) == len(content["categories"]) and len(set(classes)) == len(classes)
    if is_unique and all(name in by_name for name in classes):
        return tuple(by_name[name] for name in classes)
    categories = [item for item in content["categories"] if item.get("keypoints")] or content["categories"]
    if len(categories) != len(classes):
        raise DataError(
            f"{source} belongs to another data set: its categories are {', '.join(map(str, by_name))}, but the classes "
            f"of the data set are {', '.join(classes)}. {_HINT}"
        )
    if [item["name"] for item in categories] != list(classes):
        LOGGER.warning(
            f"The categories of {source} ({', '.join(str(item['name']) for item in categories)}) and the classes of "
            f"the data set ({', '.join(classes)}) have different names; they are matched by the order of the ids."
        )
    return tuple(item["id"] for item in sorted(categories, key=lambda item: item["id"]))


def _check_images(path: Path, content: Json, ids: Mapping[Path, Id], files: Sequence[Path]) -> None:
    """Warn of images that only one side has.

    Raises:
        DataError: the file contains less than half of the measured images.
    """
    unknown = [file.name for file in files if file not in ids]
    if len(unknown) * 2 > len(files):
        raise DataError(
            f"{path} belongs to another data set or split: it contains {len(ids)} of the {len(files)} measured images "
            f"(not {_listed(unknown)}). {_HINT}"
        )
    if unknown:
        LOGGER.warning(
            f"{len(unknown)} of {len(files)} measured images are not in {path} and do not count in the COCO "
            f"scores: {_listed(unknown)}."
        )
    measured = set(ids.values())
    absent = [str(image["file_name"]) for image in content["images"] if image["id"] not in measured]
    if absent:
        LOGGER.warning(
            f"{len(absent)} of {len(content['images'])} images of {path} were not measured (not in the split, or "
            f"refused) and do not count in the COCO scores: {_listed(absent)}."
        )


def _select(content: Json, ids: Mapping[Path, Id], categories: Sequence[Id]) -> Json:
    """Return the content of measured images and selected categories."""
    images, selected = set(ids.values()), set(categories)
    return {
        **content,
        "images": [item for item in content["images"] if item["id"] in images],
        "annotations": [
            item for item in content["annotations"] if item["image_id"] in images and item["category_id"] in selected
        ],
        "categories": [item for item in content["categories"] if item["id"] in selected],
    }


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _MAX_LISTED
    return ", ".join(names[:_MAX_LISTED]) + (f" and {more} more" if more > 0 else "")
