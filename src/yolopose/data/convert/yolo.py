"""Label files and data YAML of YOLO pose data sets, K×2 and K×3.

Values that label rows cannot hold are stored beside them, see `sidecar`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from yolopose.base.errors import DataError
from yolopose.base.files import make_folder
from yolopose.base.log import LOGGER
from yolopose.base.yamlfile import to_yaml
from yolopose.data.convert.coco import parse_categories, parse_instance
from yolopose.data.convert.coco_json import (
    CocoIds,
    CocoStream,
    annotation_json,
    category_ids,
    category_json,
    coco_attributes,
    image_json,
)
from yolopose.data.convert.json_stream import peek
from yolopose.data.convert.locate import read_image_info
from yolopose.data.convert.output import OutputPlan, check_split, output_name, split_key
from yolopose.data.convert.protocol import (
    ALL_FEATURES,
    AnnotationFormat,
    Feature,
    LossCounter,
    ReadOptions,
    WriteOptions,
)
from yolopose.data.convert.record import ClassTemplate, DatasetRecord, Id, ImageRecord, Instance, IssueLog
from yolopose.data.convert.sidecar import Sidecar, without_row
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
from yolopose.data.dataset import SPLITS, Dataset, load_dataset
from yolopose.data.label_file import LabelError, read_label_file
from yolopose.data.paths import label_path

_ROW_FEATURES = frozenset(
    {
        Feature.SPLIT, Feature.EMPTY_IMAGE, Feature.SEVERAL_INSTANCES, Feature.CLASS, Feature.BOX, Feature.NO_POINTS,
        Feature.CLASS_KEYPOINTS, Feature.KEYPOINT_NAMES, Feature.SKELETON, Feature.MIRROR, Feature.SIGMAS,
    }
)  # fmt: skip


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
                kind = "images are in several splits and were converted once, in the first"
                issues.change(kind, f"{name}: {repeated[0].name}", count=len(repeated))
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


@dataclass(slots=True)
class _SplitPlan:
    """A split of the output: its folder name, its paths by image name, and ids for the sidecar."""

    name: str
    paths: dict[str, PurePosixPath] = field(default_factory=dict[str, PurePosixPath])
    ids: CocoIds = field(default_factory=CocoIds)


@dataclass(slots=True)
class WrittenSplit:
    """What `write_yolo` wrote for a split; see `ConversionResult`."""

    images: int = 0
    instances: int = 0
    crowds: int = 0
    skipped: int = 0


def write(dataset: DatasetRecord, plan: OutputPlan, options: WriteOptions, issues: IssueLog) -> Path:
    """Write `data.yaml`, and `images/SPLIT` and `labels/SPLIT` for each split; images are copied unless refused.

    Returns:
        The data YAML.

    Raises:
        DataError: no class has keypoints, or two outputs would have the same path.
        OutputError: the output is not empty or cannot be written.
    """
    return write_yolo(dataset, plan, options, issues)[0]


def write_yolo(
    dataset: DatasetRecord, plan: OutputPlan, options: WriteOptions, issues: IssueLog
) -> tuple[Path, dict[str, WrittenSplit]]:
    """Write a data set as `write` does; return the data YAML and the counts of each split."""
    dims = options.kpt_dims or dataset.attributes.get("kpt_dims", 3)
    check_dims(dims)
    layout = make_layout(dataset.classes, dims)
    copy_images = options.copy_images is not False
    splits, needs_sidecar = _plan(dataset, plan, dims, copy_images)
    yaml_path = plan.add("data.yaml", "the data YAML")
    plan.check()
    written = _write_labels(dataset, layout, splits, plan, needs_sidecar, issues)
    for split in splits.values():
        make_folder(plan.target / "images" / split.name)  # the data YAML names it, even if no image was found
    for path in plan.copies:
        plan.copy(path)
    return plan.write(yaml_path, data_yaml(plan.target, list(splits), layout, needs_sidecar)), written


def _plan(dataset: DatasetRecord, plan: OutputPlan, dims: int, copy_images: bool) -> tuple[dict[str, _SplitPlan], bool]:
    features = _ROW_FEATURES | ({Feature.HIDDEN} if dims == 3 else set())
    rows = AnnotationFormat(name="rows", title="label rows", capabilities=features, detect=detect)
    losses = LossCounter(dataset, rows)
    splits: dict[str, _SplitPlan] = {}
    for image in losses.watch(dataset.images()):
        split = splits.setdefault(image.split, _SplitPlan(check_split(image.split) or "train"))
        try:
            path = output_name(image.name, split.name)
        except DataError as error:
            raise DataError(f"{image.source or split.name}: {error}") from error
        origin = f"{image.name!r} of {split.name}"
        split.paths[image.name] = plan.add(PurePosixPath("labels", split.name, path).with_suffix(".txt"), origin)
        if copy_images:
            plan.add(PurePosixPath("images", split.name, path), origin, image.content)
        split.ids.reserve(image)
    for split in splits.values():
        if losses.losses:
            plan.add(f"labels/{split.name}.coco.json", f"the annotations of {split.name}")
    return splits, bool(losses.losses)


def _write_labels(
    dataset: DatasetRecord,
    layout: RowLayout,
    splits: Mapping[str, _SplitPlan],
    plan: OutputPlan,
    needs_sidecar: bool,
    issues: IssueLog,
) -> dict[str, WrittenSplit]:
    classes = [template for template in dataset.classes if template.name in layout.slots]
    categories = category_ids(classes)
    written = {split: WrittenSplit() for split in splits}
    with ExitStack() as stack:
        sidecars: dict[str, CocoStream] = {}
        for key, split in splits.items() if needs_sidecar else ():
            sidecars[key] = CocoStream(stack.enter_context(plan.open(f"labels/{split.name}.coco.json")))
        for image in dataset.images():
            split = splits[image.split]
            rows = _image_rows(image, layout, written[image.split], issues)
            text = "".join(f"{row}\n" for row in dict.fromkeys(row for row in rows if row))
            plan.write(split.paths[image.name], text)
            if needs_sidecar:
                _add_to_sidecar(sidecars[image.split], image, rows, split.ids, categories, classes)
        entries = [category_json(template, categories[template.name]) for template in classes]
        for sidecar in sidecars.values():
            sidecar.close(entries, coco_attributes(dataset))
    return written


def _image_rows(image: ImageRecord, layout: RowLayout, counts: WrittenSplit, issues: IssueLog) -> list[str | None]:
    """Return the row of each instance; None for those without one: crowds, classes without keypoints, refused ones."""
    rows: list[str | None] = []
    for instance in image.instances:
        row = None
        if instance.category not in layout.slots:
            issues.skip("instances of classes without keypoints", f"{image.name}: {instance.category}")
        elif instance.crowd:
            counts.crowds += 1
        else:
            row = label_row(instance, image, layout, issues)
            counts.skipped += row is None
        rows.append(row)
    counts.images += 1
    counts.instances += len({row for row in rows if row})
    return rows


def _add_to_sidecar(
    sidecar: CocoStream,
    image: ImageRecord,
    rows: Sequence[str | None],
    ids: CocoIds,
    categories: Mapping[str, int],
    classes: Sequence[ClassTemplate],
) -> None:
    image_id = ids.images.take(image.id)
    sidecar.add_image(image_json(image, image_id) | {"file_name": image.attributes.get("file_name", image.name)})
    # the reader of label files drops duplicate rows, so the sidecar refers to the first of them
    order = {row: index for index, row in enumerate(dict.fromkeys(row for row in rows if row))}
    templates = {template.name: template for template in classes}
    for instance, row in zip(image.instances, rows, strict=True):
        if row is None and not (instance.crowd and instance.category in templates):
            continue
        entry_ids: dict[str, Id] = {
            "id": ids.annotations.take(instance.id),
            "image_id": image_id,
            "category_id": categories[instance.category],
        }
        entry = annotation_json(instance, templates[instance.category], image, entry_ids, IssueLog())
        if entry is not None:
            if instance.box is None:
                del entry["bbox"]  # it is computed again
            sidecar.add_annotation(entry | {"row": None if row is None else order[row]})


def data_yaml(target: Path, splits: Sequence[str], layout: RowLayout, has_sidecar: bool) -> str:
    """Return the text of a data YAML.

    Splits are sorted into train, val and test by the word in their name (`train2017`, `my_val`); others are added to
    train. If there is no such word at all, train and val are all images, with a warning.

    Args:
        target: folder of the data set.
        splits: names of the splits; empty for images without one.
        layout: classes and keypoints.
        has_sidecar: whether values are stored beside the label rows.
    """
    entries: dict[str, list[str]] = {}
    unsplit = not any(map(split_key, splits))
    for split in splits:
        name = split or "train"
        key = split_key(split)
        if key is None and not unsplit:
            LOGGER.warning(f"The split {name!r} is neither train, val nor test; the data YAML has it in `train:`.")
        entries.setdefault(key or "train", []).append(f"images/{name}")
    if unsplit:
        entries = dict.fromkeys(("train", "val"), entries["train"])
        LOGGER.warning(
            "The source has no splits: `train:` and `val:` of the data YAML are the same images. Split them before you "
            "trust a metric."
        )
    values = {
        key: entries[key][0] if len(entries[key]) == 1 else entries[key]
        for key in ("train", "val", "test")
        if key in entries
    }
    content = {"path": str(target.resolve()), **values, **layout.spec.to_dict()}
    if layout.own_names is not None:
        content["class_keypoints"] = layout.own_names
    if content["flip_idx"] is None:
        LOGGER.warning(
            "flip_idx cannot be inferred from the keypoint names (left_…, right_…): the data YAML has no flip_idx, and "
            "training will not mirror images. Add it: entry i is the keypoint that keypoint i becomes in a mirror."
        )
    text = to_yaml({key: value for key, value in content.items() if value})
    stored = "; areas, crowds and other values are in labels/*.coco.json" if has_sidecar else ""
    return f"# Converted by yolopose{stored}.\n{text}"


FORMAT = AnnotationFormat(
    name="yolo",
    title="YOLO pose",
    capabilities=ALL_FEATURES - {Feature.ROTATION},
    detect=detect,
    read=read,
    write=write,
)
