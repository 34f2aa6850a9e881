"""Write YOLO pose data sets: label files, data YAML, and beside them what label rows cannot hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from yolopose.base.errors import DataError
from yolopose.base.files import make_folder
from yolopose.base.log import LOGGER
from yolopose.base.yamlfile import to_yaml
from yolopose.data.convert.coco_json import (
    CocoIds,
    CocoStream,
    annotation_json,
    category_ids,
    category_json,
    coco_attributes,
    image_json,
)
from yolopose.data.convert.output import OutputPlan, check_split, output_name, split_key
from yolopose.data.convert.protocol import AnnotationFormat, Feature, LossCounter, WriteOptions
from yolopose.data.convert.record import ClassTemplate, DatasetRecord, Id, ImageRecord, IssueLog
from yolopose.data.convert.yolo_rows import RowLayout, check_dims, label_row, make_layout
from yolopose.data.side_names import describe_identity, suggest_flip_idx
from yolopose.data.yaml_checks import IMAGE_CHANNELS

_ROW_FEATURES = frozenset(
    {
        Feature.SPLIT, Feature.EMPTY_IMAGE, Feature.SEVERAL_INSTANCES, Feature.CLASS, Feature.BOX, Feature.NO_POINTS,
        Feature.CLASS_KEYPOINTS, Feature.KEYPOINT_NAMES, Feature.SKELETON, Feature.MIRROR, Feature.SIGMAS,
    }
)  # fmt: skip


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
    channels = dataset.attributes.get("channels", 3)
    text = data_yaml(plan.target, list(splits), layout, needs_sidecar, channels)
    return plan.write(yaml_path, text), written


def _plan(dataset: DatasetRecord, plan: OutputPlan, dims: int, copy_images: bool) -> tuple[dict[str, _SplitPlan], bool]:
    features = _ROW_FEATURES | ({Feature.HIDDEN} if dims == 3 else set())
    rows = AnnotationFormat(name="rows", title="label rows", capabilities=features, detect=lambda _: False)
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


def _warn_without_flip_idx(layout: RowLayout) -> None:
    """Warn that the names of the keypoints do not show with certainty which ones exchange in a mirror."""
    spec = layout.spec
    guesses = {suggest_flip_idx(spec.keypoints.keypoint_names(index)) for index in range(spec.nc)}
    guess = guesses.pop() if len(guesses) == 1 else None
    fix = "Add it: entry i is the keypoint that keypoint i becomes in a mirror. "
    if guess:
        fix += f"The names suggest `flip_idx: {list(guess)}`; compare it with the images."
    else:
        fix += f"If no keypoint has a side, that is `flip_idx: {describe_identity(spec.keypoints.count)}`."
    LOGGER.warning(
        "flip_idx cannot be inferred from the keypoint names (left_…, right_…): the data YAML has no flip_idx, and "
        f"training will not mirror images. {fix}"
    )


def data_yaml(target: Path, splits: Sequence[str], layout: RowLayout, has_sidecar: bool, channels: object = 3) -> str:
    """Return the text of a data YAML.

    Splits are sorted into train, val and test by the word in their name (`train2017`, `my_val`); others are added to
    train. If no image has such a word, train and val are all images, with a warning.

    Args:
        target: folder of the data set.
        splits: names of the splits; empty for images without one.
        layout: classes and keypoints.
        has_sidecar: whether values are stored beside the label rows.
        channels: channels of the images, if the source has them.
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
            "The source has no splits: `train:` and `val:` of the data YAML are the same images, so that "
            f"metrics would be too good. Divide them before you train: yolo data split data={target / 'data.yaml'}"
        )
    values = {
        key: entries[key][0] if len(entries[key]) == 1 else entries[key]
        for key in ("train", "val", "test")
        if key in entries
    }
    content = {"path": str(target.resolve()), **values, **layout.spec.to_dict()}
    if layout.own_names is not None:
        content["class_keypoints"] = layout.own_names
    if channels in IMAGE_CHANNELS and channels != 3:
        content["channels"] = channels
    if content["flip_idx"] is None:
        _warn_without_flip_idx(layout)
    text = to_yaml({key: value for key, value in content.items() if value})
    stored = "; areas, crowds and other values are in labels/*.coco.json" if has_sidecar else ""
    return f"# Converted by yolopose{stored}.\n{text}"
