"""Exports of Roboflow: `YOLOv8 pose` and `COCO keypoints`, with their folders `train`, `valid` and `test`.

Both are read; the layout of `YOLOv8 pose` is written, that of `COCO keypoints` by `roboflow_coco`. Roboflow resizes and
augments images before the export and writes each version as `NAME_jpg.rf.HASH.jpg`: several images may show the same
original.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from yolopose.base.errors import DataError
from yolopose.base.yamlfile import to_yaml
from yolopose.data.convert import yolo
from yolopose.data.convert.coco import CocoFile, merge_classes
from yolopose.data.convert.locate import ImageLocator
from yolopose.data.convert.output import OutputPlan, split_key
from yolopose.data.convert.protocol import AnnotationFormat, Feature, ReadOptions, WriteOptions
from yolopose.data.convert.record import ClassTemplate, DatasetRecord, ImageRecord, IssueLog
from yolopose.data.convert.source_files import starts_with
from yolopose.data.convert.yolo_rows import RowLayout, check_dims, label_row, make_layout
from yolopose.data.paths import relative_name
from yolopose.data.yaml_checks import IMAGE_CHANNELS

ANNOTATIONS = "_annotations.coco.json"
_VERSION = re.compile(r"(.+)\.rf\.[0-9A-Za-z]{16,}\.\w+$")
_FOLDERS = {"val": "valid"}
_SPLITS = {"valid": "val"}


def read(source: Path, options: ReadOptions) -> DatasetRecord:
    """Read an unpacked export, its data.yaml, or one of its COCO files.

    Raises:
        DataError: it is damaged.
    """
    files = coco_files(source)
    record = _read_coco(source, files, options) if files else yolo.read(source, options)
    read_images = record.read_images

    def count_versions(issues: IssueLog) -> Iterator[ImageRecord]:
        originals: Counter[str] = Counter()
        splits: defaultdict[str, set[str]] = defaultdict(set)
        for image in read_images(issues):
            match = _VERSION.match(image.name)
            if match is not None:
                originals[match[1]] += 1
                splits[match[1]].add(image.split)
            yield image
        shared = [name for name, names in splits.items() if len(names) > 1]
        for name in shared:
            issues.change(
                "originals have augmented versions in several splits",
                name,
                "Metrics on them are too good; split by original",
            )

    return replace(record, read_images=count_versions)


def coco_files(source: Path) -> list[Path]:
    """Return the COCO files of an export, one for each split; none for other exports."""
    if source.is_file():
        return [source] if source.name == ANNOTATIONS else []
    files = [source / ANNOTATIONS, *sorted(source.glob(f"*/{ANNOTATIONS}"))]
    order = {"train": 0, "valid": 1, "test": 2}
    files.sort(key=lambda file: order.get(file.parent.name, 3))
    return [file for file in files if file.is_file()]


def _read_coco(source: Path, files: Sequence[Path], options: ReadOptions) -> DatasetRecord:
    issues = IssueLog()
    opened: list[CocoFile] = []
    root = source if source.is_dir() else source.parent
    for file in files:
        folder = file.parent.name
        # the folder of an export is not a split
        split = _SPLITS.get(folder, folder) if file.parent != root or folder in ("train", "valid", "test") else ""
        opened.append(CocoFile(file, options.split or split if len(files) == 1 else split, options, issues))
    classes = merge_classes([file.classes for file in opened], issues)
    if not any(template.keypoints for template in classes):
        raise DataError(f"{files[0]} has no category with keypoints. Export a keypoint project as COCO keypoints.")

    def read_images(log: IssueLog) -> Iterator[ImageRecord]:
        for file in opened:
            locator = ImageLocator([options.images or file.path.parent], file.file_names)
            yield from file.read_images(locator, log)

    values = opened[0].document.values
    attributes = {key: values[key] for key in values if key not in ("images", "annotations", "categories")}
    return DatasetRecord(
        classes=tuple(template for template in classes if not _is_group(template, classes)),
        read_images=read_images,
        attributes=attributes,
        issues=issues,
    )


def _is_group(template: ClassTemplate, classes: Sequence[ClassTemplate]) -> bool:
    """Return whether a class is the group that Roboflow puts in front, which has no annotations."""
    is_parent = any(other.attributes.get("supercategory") == template.name for other in classes)
    return is_parent and not template.keypoints and template.attributes.get("supercategory") == "none"


def detect(path: Path) -> bool:
    """Return whether a path is an unpacked export, its data.yaml, or one of its COCO files."""
    if path.is_dir():
        has_readme = any(path.glob("README.roboflow.txt"))
        return bool(coco_files(path)) or ((has_readme or _has_key(path / "data.yaml")) and yolo.detect(path))
    return path.name == ANNOTATIONS or _has_key(path)


def _has_key(path: Path) -> bool:
    return path.name == "data.yaml" and starts_with(path, [b"\nroboflow:"])


def write(dataset: DatasetRecord, plan: OutputPlan, options: WriteOptions, issues: IssueLog) -> Path:
    """Write `data.yaml`, and `SPLIT/images` and `SPLIT/labels` for each split.

    Raises:
        DataError: no class has keypoints.
    """
    dims = options.kpt_dims or dataset.attributes.get("kpt_dims", 3)
    check_dims(dims)
    layout = make_layout(dataset.classes, dims)
    main = plan.main("data.yaml", "the data YAML")
    labels: dict[tuple[str, str], PurePosixPath] = {}
    folders: dict[str, None] = {}
    for image in dataset.images(issues):
        folder = split_folder(image.split)
        folders.setdefault(folder)
        name = flat_name(image)
        origin = f"{image.name!r} of {folder}"
        path = plan.add(PurePosixPath(folder, "labels", name).with_suffix(".txt"), origin)
        labels[image.split, image.name] = path
        plan.add(PurePosixPath(folder, "images", name), origin, None if options.copy_images is False else image.content)
    plan.check()
    for image in dataset.images():
        rows: list[str] = []
        for instance in image.instances:
            if instance.crowd or instance.category not in layout.slots:
                issues.skip("crowds and instances of classes without keypoints", f"{image.name}: {instance.category}")
                continue
            row = label_row(instance, image, layout, issues)
            rows += [] if row is None else [row]
        plan.write(labels[image.split, image.name], "".join(f"{row}\n" for row in dict.fromkeys(rows)))
    for path in plan.copies:
        plan.copy(path)
    return plan.write(main, _data_yaml(list(folders), layout, dataset.attributes.get("channels", 3)))


def split_folder(split: str) -> str:
    """Return the folder of a split, `train`, `valid` or `test`: the one that its name states, otherwise `train`."""
    key = split_key(split) or "train"
    return _FOLDERS.get(key, key)


def flat_name(image: ImageRecord) -> str:
    """Return the file name of an image; Roboflow has no folders of images."""
    return "_".join(relative_name(image.name).parts)


def _data_yaml(folders: Sequence[str], layout: RowLayout, channels: object) -> str:
    keys = {"valid": "val"}
    content: dict[str, Any] = {keys.get(folder, folder): f"../{folder}/images" for folder in folders}
    spec = layout.spec.to_dict()
    names = spec.pop("names")
    content |= {"nc": len(names), "names": list(names.values()) if isinstance(names, dict) else list(names)}
    content |= {key: value for key, value in spec.items() if value and key != "nc"}
    if layout.own_names is not None:
        content["class_keypoints"] = layout.own_names
    if channels in IMAGE_CHANNELS and channels != 3:
        content["channels"] = channels
    return to_yaml(content)


FORMAT = AnnotationFormat(
    name="roboflow",
    title="Roboflow",
    capabilities=frozenset(
        {
            Feature.SPLIT,
            Feature.EMPTY_IMAGE,
            Feature.SEVERAL_INSTANCES,
            Feature.CLASS,
            Feature.BOX,
            Feature.NO_POINTS,
            Feature.HIDDEN,
            Feature.CLASS_KEYPOINTS,
            Feature.KEYPOINT_NAMES,
            Feature.SKELETON,
            Feature.MIRROR,
            Feature.SIGMAS,
        }
    ),
    detect=detect,
    read=read,
    write=write,
)
