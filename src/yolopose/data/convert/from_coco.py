"""COCO keypoint annotations (cocodataset.org/#format-data) to label files and a data YAML.

Label files hold neither areas nor crowds, by which COCO numbers are counted: the annotations are kept beside them in
`labels/SPLIT.coco.json`, from where `to_coco` takes them.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from yolopose.base.errors import DataError, NotFoundError, OutputError, UsageError
from yolopose.base.files import make_folder, output_error, write_text
from yolopose.base.log import LOGGER
from yolopose.base.suggestions import suggest_path
from yolopose.data.yaml_checks import infer_flip_idx
from yolopose.schema import COCO_PERSON_NAMES, COCO_PERSON_SIGMAS, KeypointSchema, PoseSpec

_PREFIXES = ("person_keypoints_", "instances_", "keypoints_")

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ConversionResult:
    """What a conversion wrote.

    Attributes:
        data: the data YAML.
        images: images of each split.
        objects: label rows of each split.
        crowds: crowds of each split, which are no rows.
        dropped: annotations left out for a fault, of each split.
    """

    data: Path
    images: Mapping[str, int]
    objects: Mapping[str, int]
    crowds: Mapping[str, int]
    dropped: Mapping[str, int]


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
    Images are linked (copied where links are not possible) to `images/NAME` when they are found.

    Args:
        labels_dir: folder of the JSON files, or one of them.
        save_dir: folder to write; it must be empty or absent.
        use_segments: outlines are no matter of poses; must be False.
        use_keypoints: must be True: labels of boxes alone train no pose network.
        cls91to80: without effect: classes are the categories that have keypoints, in the order of their ids.
        lvis: must be False.
        images_dir: folder of the images, or of their folders; looked for beside `labels_dir` when None.

    Returns:
        What was written.

    Raises:
        UsageError: an option asks for something else than poses.
        NotFoundError: there is no JSON file.
        DataError: a JSON file is damaged, or its categories have keypoints of several shapes.
        OutputError: `save_dir` holds something already, or cannot be written.
    """
    if use_segments or lvis or not use_keypoints:
        raise UsageError("yolopose converts keypoints: call convert_coco(labels_dir=…, use_keypoints=True).")
    source, target = Path(labels_dir).expanduser(), Path(save_dir).expanduser()
    if target.exists() and any(target.iterdir()):
        raise OutputError(
            f"{target} holds something already; nothing was written. Choose another folder (output=…; "
            "save_dir in Python), or move it away."
        )
    files = [source] if source.is_file() else sorted(source.glob("*.json")) if source.is_dir() else []
    if not files:
        raise NotFoundError(
            f"There is no COCO .json file at {source} (current folder: {Path.cwd()}).{suggest_path(source)}"
        )
    read = {_split_name(file): _read(file) for file in files}
    posed = {name: found for name, found in read.items() if _categories(found)}
    if not posed:
        raise DataError(f"No category in {', '.join(map(str, files))} has keypoints (`keypoints: [names]`).")
    spec, ids = _spec(posed)
    counts = {name: _write_split(target, name, found, spec, ids) for name, found in posed.items()}
    places = (images_dir and [Path(images_dir)]) or [source.parent, source.parent / "images", source.parent.parent]
    for name, found in posed.items():
        _bring_images(found, name, [Path(place) for place in places], target / "images" / name)
    data = _write_yaml(target, list(posed), spec)
    done = ConversionResult(data, *({name: each[part] for name, each in counts.items()} for part in range(4)))
    LOGGER.info(_words(done))
    return done


def _split_name(file: Path) -> str:
    name = file.stem
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    return name or file.stem


def _read(file: Path) -> Json:
    try:
        found = json.loads(file.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is no COCO annotation file: it is no text (an image, an archive?).") from error
    except json.JSONDecodeError as error:
        raise DataError(
            f"{file} is no COCO annotation file: line {error.lineno}, column {error.colno} is no JSON "
            f"({error.msg.lower()}). source= takes the .json file of the annotations, or the folder of such files."
        ) from error
    except (OSError, RecursionError) as error:
        raise DataError(f"{file} cannot be read as a COCO annotation file ({error}).") from error
    try:
        if not all(isinstance(found.get(key), list) for key in ("images", "annotations", "categories")):
            raise ValueError
    except (ValueError, AttributeError) as error:
        raise DataError(
            f"{file} is no COCO annotation file: it has no lists `images`, `annotations` and `categories`."
        ) from error
    for number, image in enumerate(found["images"]):
        try:
            for key in ("id", "width", "height"):
                int(image[key])
            str(image["file_name"])
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{file}: entry {number} of `images` must have id, width, height (whole numbers) and file_name; it is "
                f"{str(image)[:200]}."
            ) from error
    return found


def _categories(found: Json) -> list[Json]:
    return sorted((one for one in found["categories"] if one.get("keypoints")), key=lambda one: int(one["id"]))


def _spec(posed: Mapping[str, Json]) -> tuple[PoseSpec, dict[int, int]]:
    """Classes and keypoints that all files share, and the class index of each category id."""
    every = {int(one["id"]): one for found in posed.values() for one in _categories(found)}
    categories = [every[index] for index in sorted(every)]
    counts = {len(one["keypoints"]) for one in categories}
    if len(counts) > 1:
        raise DataError(
            f"The categories have {sorted(counts)} keypoints; a pose network has one number for all classes. Convert "
            "each category by itself."
        )
    names = {index: tuple(map(str, one["keypoints"])) for index, one in enumerate(categories)}
    edges = categories[0].get("skeleton") or []
    person = names[0] == COCO_PERSON_NAMES
    keypoints = KeypointSchema(
        count=counts.pop(),
        names=names,
        flip_idx=infer_flip_idx(names[0]),
        skeleton=tuple((int(a) - 1, int(b) - 1) for a, b in edges),
        sigmas=tuple(categories[0].get("sigmas") or ()) or (COCO_PERSON_SIGMAS if person else None),
    )
    spec = PoseSpec(classes=tuple(str(one["name"]) for one in categories), keypoints=keypoints)
    return spec, {int(one["id"]): index for index, one in enumerate(categories)}


def _write_split(target: Path, name: str, found: Json, spec: PoseSpec, ids: Mapping[int, int]) -> tuple[int, ...]:
    """Write the label files of a split; returns images, rows, crowds and faulty annotations."""
    folder = make_folder(target / "labels" / name)
    by_image: dict[int, list[Json]] = defaultdict(list)
    for annotation in found["annotations"]:
        by_image[annotation.get("image_id")].append(annotation)
    kept: list[Json] = []
    rows_total = crowds = dropped = 0
    for image in found["images"]:
        rows: list[str] = []
        for annotation in by_image.get(image["id"], []):
            if annotation.get("category_id") not in ids:
                continue
            row = None if annotation.get("iscrowd") else label_row(annotation, image, spec, ids)
            if row is None and not annotation.get("iscrowd"):
                dropped += 1
                continue
            kept.append({**annotation, "row": len(rows)})
            if row is None:
                kept[-1]["row"] = None
                crowds += 1
            elif row in rows:  # the reader of labels takes equal rows for one, and so does the record
                kept[-1]["row"] = rows.index(row)
            else:
                rows.append(row)
        rows_total += len(rows)
        path = folder / PurePosixPath(image["file_name"]).with_suffix(".txt").name
        write_text(path, "".join(f"{row}\n" for row in rows))
    record = {
        "images": found["images"],
        "annotations": kept,
        "categories": [one for one in found["categories"] if int(one["id"]) in ids],
        "info": found.get("info", {}),
        "licenses": found.get("licenses", []),
    }
    write_text(target / "labels" / f"{name}.coco.json", json.dumps(record))
    return len(found["images"]), rows_total, crowds, dropped


def label_row(annotation: Json, image: Json, spec: PoseSpec, ids: Mapping[int, int]) -> str | None:
    """Return the label row of an annotation, 8 decimals; None when its box has no area or numbers are missing.

    Args:
        annotation: as in the JSON file.
        image: its image there.
        spec: classes and keypoints.
        ids: class index of each category id.
    """
    width, height = float(image["width"]), float(image["height"])
    values = annotation.get("keypoints") or [0] * (3 * spec.keypoints.count)
    try:
        x, y, w, h = (float(value) for value in annotation["bbox"])
        points = [(float(a), float(b), int(v)) for a, b, v in zip(*[iter(values)] * 3, strict=True)]
    except (KeyError, TypeError, ValueError):
        return None
    if w <= 0 or h <= 0 or len(points) != spec.keypoints.count:
        return None
    numbers = [(x + w / 2) / width, (y + h / 2) / height, w / width, h / height]
    parts = [str(ids[annotation["category_id"]]), *(_number(value) for value in numbers)]
    for a, b, v in points:
        parts += [_number(a / width), _number(b / height), str(v)] if v else ["0", "0", "0"]
    return " ".join(parts)


def _number(value: float) -> str:
    return f"{value:.8f}"


def _bring_images(found: Json, name: str, places: Sequence[Path], target: Path) -> None:
    """Link the images of a split into place; those that are nowhere are counted in a warning."""
    make_folder(target)
    folders = [folder for place in places for folder in (place / name, place / "images" / name, place)]
    missing = 0
    for image in found["images"]:
        file = PurePosixPath(image["file_name"])
        origin = next(
            (path for folder in folders for path in (folder / file, folder / file.name) if path.is_file()), None
        )
        if origin is None:
            missing += 1
            continue
        goal = target / file.name
        try:
            with suppress(OSError):
                os.link(origin, goal)
                continue
            shutil.copyfile(origin, goal)
        except OSError as error:
            raise output_error(goal, error) from error
    if missing:
        LOGGER.warning(
            f"{missing} of {len(found['images'])} images of {name} were not found (looked in "
            f"{', '.join(dict.fromkeys(map(str, folders)))}): put them into {target}, or name "
            "their folder (images=…; images_dir in Python)."
        )


def _write_yaml(target: Path, splits: Sequence[str], spec: PoseSpec) -> Path:
    """The data YAML: splits named train…, val… and test… are these, a single one is both train and val."""
    entries: dict[str, str] = {}
    for key in ("train", "val", "test"):
        of_key = [f"images/{name}" for name in splits if name.lower().startswith(key)]
        if of_key:
            entries[key] = of_key[0]
    if not entries:
        entries = dict.fromkeys(("train", "val"), f"images/{splits[0]}")
    content = {"path": str(target.resolve()), **entries, **spec.to_dict()}
    if content["flip_idx"] is None:
        del content["flip_idx"]
        LOGGER.warning(
            "How the keypoints mirror cannot be told from their names (left_…, right_…): the data YAML has no "
            "flip_idx, and training will not mirror. Add it: entry i is the keypoint that i becomes in a mirror."
        )
    text = yaml.safe_dump({key: value for key, value in content.items() if value}, sort_keys=False, allow_unicode=True)
    path = target / "data.yaml"
    write_text(path, f"# Converted from COCO annotations; areas and crowds are in labels/*.coco.json.\n{text}")
    return path


def _words(done: ConversionResult) -> str:
    lines = [
        f"{name}: {done.images[name]} images, {done.objects[name]} objects, {done.crowds[name]} crowds kept aside, "
        f"{done.dropped[name]} faulty annotations left out"
        for name in done.images
    ]
    return "\n".join([*lines, f"Data YAML: {done.data}"])
