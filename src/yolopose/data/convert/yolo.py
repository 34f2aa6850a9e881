"""Label files and data YAML of YOLO pose data sets, K×2 and K×3.

Values that label rows cannot hold are stored beside them, see `sidecar`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from yolopose.base.errors import DataError
from yolopose.data.convert.coco import parse_categories, parse_instance
from yolopose.data.convert.json_stream import peek
from yolopose.data.convert.locate import read_image_info
from yolopose.data.convert.output import split_key
from yolopose.data.convert.protocol import (
    ALL_FEATURES,
    AnnotationFormat,
    Feature,
    ReadOptions,
)
from yolopose.data.convert.record import ClassTemplate, DatasetRecord, ImageRecord, Instance, IssueLog
from yolopose.data.convert.sidecar import Sidecar, without_row
from yolopose.data.convert.yolo_rows import (
    RowLayout,
    has_scores,
    label_row,
    layout_classes,
    layout_from_spec,
    parse_row,
)
from yolopose.data.convert.yolo_writer import write
from yolopose.data.dataset import SPLITS, Dataset, load_dataset
from yolopose.data.label_file import LabelError, read_label_file
from yolopose.data.paths import label_path


def detect(path: Path) -> bool:
    """Return whether a path is a data YAML, or a folder with one."""
    if path.is_dir():
        return yaml_in(path) is not None
    text = peek(path, 1 << 16) if path.suffix.lower() in (".yaml", ".yml") else ""
    return re.search(r"^\s*[\"']?(kpt_shape|train|val)[\"']?\s*:", text, re.MULTILINE) is not None


def yaml_in(folder: Path) -> Path | None:
    """Return the data YAML in a folder: `data.yaml`, or the only one; None if there is none."""
    files = sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")])
    files = [file for file in files if file.is_file() and detect(file)]
    return next((file for file in files if file.stem == "data"), files[0] if len(files) == 1 else None)


def read(path: Path, options: ReadOptions) -> DatasetRecord:
    """Read a data YAML with its label files, or the folder of one.

    Raises:
        NotFoundError: it does not exist.
        DataError: it cannot be used, see `load_dataset`.
    """
    source = yaml_in(path) if path.is_dir() else path
    if source is None:
        raise DataError(f"{path} contains no data YAML, or several; name one (source=data.yaml).")
    dataset = load_dataset(source)
    own_names = dataset.raw.get("class_keypoints")
    own = {str(key): list(map(str, names)) for key, names in own_names.items()} if isinstance(own_names, dict) else None
    layout = layout_from_spec(dataset.spec, own)
    issues = IssueLog()
    splits = _split_files(dataset, options.split, issues)
    sidecars = {split: Sidecar(files) for split, files in splits.items()}
    stored = next((sidecar for sidecar in sidecars.values() if sidecar.content), Sidecar([]))
    content = stored.content
    by_name = {template.name: template.attributes for template in _stored_categories(stored, source).values()}
    classes = [replace(template, attributes=by_name.get(template.name, {})) for template in layout_classes(layout)]

    def read_images(log: IssueLog) -> Iterator[ImageRecord]:
        for split, files in splits.items():
            yield from _read_split(dataset.yaml_path, split, files, layout, sidecars[split], log)

    attributes = {key: value for key, value in content.items() if key not in ("images", "annotations", "categories")}
    if dataset.spec.keypoints.dims == 2:
        attributes["kpt_dims"] = 2
    if dataset.spec.channels != 3:
        attributes["channels"] = dataset.spec.channels
    return DatasetRecord(
        classes=tuple(classes), read_images=read_images, format="yolo", attributes=attributes, issues=issues
    )


def _split_files(dataset: Dataset, split: str | None, issues: IssueLog) -> dict[str, list[Path]]:
    """Return the images of each split; an image that is in several splits is part of the first.

    A split is named after its folder where that name states the split (`images/val2017`), else `train`, `val`, `test`.
    """
    splits: dict[str, list[Path]] = {}
    used: set[Path] = set()
    keys = [key for key in SPLITS if key in dataset.entries] if split is None else [split_key(split) or split]
    for key in keys:
        for name, part in _named_entries(dataset, key):
            if split not in (None, key, name):
                continue
            try:
                files = list(dict.fromkeys(part.image_files(key)))
            except DataError as error:
                if key != "test" or split is not None:
                    raise
                issues.skip("splits without images", str(error))
                continue
            repeated = [file for file in files if file in used]
            if repeated:
                kind = "images are in several splits and were converted once, in the first of them"
                issues.change(kind, f"also in {name}: {repeated[0].name}", count=len(repeated))
            splits.setdefault(name, []).extend(file for file in files if file not in used)
            used.update(files)
    return {name: files for name, files in splits.items() if files}


def _named_entries(dataset: Dataset, key: str) -> list[tuple[str, Dataset]]:
    """Return the name of each entry of a split, and the data set with only this entry."""
    entries = dataset.entries.get(key, ()) if key in SPLITS else ()  # type: ignore[call-overload]
    folders = [PurePosixPath(entry.replace("\\", "/")) for entry in entries]
    names = [folder.name for folder in folders]
    if len(entries) < 2:
        name = names[0] if names and split_key(names[0]) == key and not folders[0].suffix else key
        return [(name, dataset)]
    if len(set(names)) < len(names) or any(folder.parent.name != "images" for folder in folders):
        return [(key, dataset)]
    # a conversion writes a folder, and a file of stored annotations, for each split of its source
    return [
        (name, replace(dataset, entries={**dataset.entries, key: (entry,)}))
        for name, entry in zip(names, entries, strict=True)
    ]


def _stored_categories(sidecar: Sidecar, source: Path) -> dict[str, ClassTemplate]:
    """Return the classes of the sidecar by category id; none if it was not written by a conversion."""
    try:
        return parse_categories(sidecar.content.get("categories", []), source, ReadOptions(), {}, IssueLog())
    except (DataError, KeyError, TypeError, AttributeError):
        return {}


def _read_split(
    source: Path, split: str, files: Sequence[Path], layout: RowLayout, sidecar: Sidecar, issues: IssueLog
) -> Iterator[ImageRecord]:
    folder = image_folder(split, files)
    categories = _stored_categories(sidecar, source)
    for file in files:
        info = read_image_info(file)
        if info is None:
            issues.skip("images that cannot be read", file)
            continue
        stored = sidecar.images.get(file, {})
        image = ImageRecord(
            name=_stored_name(stored, file, folder),
            width=info.width,
            height=info.height,
            split=split,
            path=file,
            id=stored.get("id"),
            attributes={key: stored[key] for key in stored if key not in ("id", "file_name", "width", "height")},
            source=str(label_path(file)),
        )
        try:
            read_label_file(label_path(file), layout.spec)
        except LabelError as error:
            where = f"{label_path(file)}" + (f", row {error.row}" if error.row else "")
            issues.skip("images whose label file is refused", f"{where}: {error.reason}")
            continue
        image.instances = read_instances(image, file, layout, sidecar, categories, issues)
        yield image


def _stored_name(stored: Mapping[str, Any], file: Path, folder: Path) -> str:
    name = str(stored.get("file_name") or file.relative_to(folder).as_posix()).replace("\\", "/")
    return PurePosixPath(name).as_posix()


def image_folder(split: str, files: Sequence[Path]) -> Path:
    """Return the folder that the names of images are relative to: the folder of the split, or the one that all share.

    Args:
        split: name of the split.
        files: its images.
    """
    shared = Path(os.path.commonpath([file.parent for file in files]))
    named = [folder for folder in (shared, *shared.parents) if folder.name == split and "images" in folder.parts[:-1]]
    return named[0] if named else shared


def read_instances(
    image: ImageRecord,
    file: Path,
    layout: RowLayout,
    sidecar: Sidecar,
    categories: Mapping[str, ClassTemplate],
    issues: IssueLog,
) -> list[Instance]:
    """Return the instances of a label file that `read_label_file` accepts, completed from the sidecar.

    Args:
        image: its image, of known size.
        file: the image file.
        layout: meaning of the columns.
        sidecar: stored annotations of the split.
        categories: classes of the sidecar by category id.
        issues: log.
    """
    label = label_path(file)
    rows = _rows(label)
    scores = has_scores(rows, layout.spec.keypoints.dims)
    stored = sidecar.annotations(file)
    instances: list[tuple[int, Instance]] = []  # in the order of the stored annotations
    for row, fields in enumerate(rows):
        where = f"{label}, row {row + 1}"
        current = parse_row(fields, image, layout, scores, where, issues)
        originals = [index for index, annotation in enumerate(stored) if annotation.get("row") == row]
        for index in originals:
            instances.append((index, _completed(current, fields, stored[index], image, layout, categories)))
        if not originals:
            instances.append((len(stored), current))
    for index, annotation in enumerate(stored):
        if "row" in annotation and annotation["row"] is None:
            original = parse_instance(without_row(annotation), categories, f"{label}, stored", issues)
            instances += [] if original is None else [(index, original)]
    return [instance for _, instance in sorted(instances, key=lambda item: item[0])]


def _rows(label: Path) -> list[list[str]]:
    if not label.exists():
        return []
    rows = [line.split() for line in label.read_text(encoding="utf-8-sig").splitlines()]
    return [fields for fields in rows if fields]


def _completed(
    current: Instance,
    fields: Sequence[str],
    annotation: Mapping[str, Any],
    image: ImageRecord,
    layout: RowLayout,
    categories: Mapping[str, ClassTemplate],
) -> Instance:
    """Return the stored instance if its row is unchanged; otherwise the current one with what rows cannot hold."""
    log = IssueLog()
    original = parse_instance(without_row(annotation), categories, current.source, log)
    if original is None:
        return current
    if original.category in layout.slots and label_row(original, image, layout, log) == " ".join(fields):
        return original
    return replace(
        current,
        area=original.area,
        segmentation=original.segmentation,
        track_id=original.track_id,
        id=original.id,
        attributes={key: value for key, value in original.attributes.items() if key != "num_keypoints"},
    )


FORMAT = AnnotationFormat(
    name="yolo",
    title="YOLO pose",
    capabilities=ALL_FEATURES - {Feature.ROTATION},
    detect=detect,
    read=read,
    write=write,
)
