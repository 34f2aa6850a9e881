"""What the options come to for this network and machine, and which images are trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np

from yolopose.base.errors import DataError, UsageError
from yolopose.base.log import LOGGER
from yolopose.config import TrainOptions, limit_workers
from yolopose.data import Annotations, Dataset, load_dataset, load_labels
from yolopose.data.dataset import Split
from yolopose.data.yaml_checks import infer_flip_idx
from yolopose.schema import PoseSpec

DEFAULT_BATCH = 16
"""The batch where what fits is asked for and cannot be measured."""


@dataclass(frozen=True, slots=True)
class TrainData:
    """What is learned from and measured on.

    Attributes:
        dataset: the data set.
        spec: its classes (one, with `single_cls`) and keypoints.
        train: labels of the training images.
        val: labels of the images that are measured on; None when the data set has none.
        available: training images that there are, of which `fraction` took a part.
    """

    dataset: Dataset
    spec: PoseSpec
    train: Annotations
    val: Annotations | None
    available: int

    def amount(self, fraction: object) -> str:
        """Return in words how many images are learned from: `19 of 93 images (fraction=0.2)`."""
        used = len(self.train)
        return f"{used} images" if used == self.available else f"{used} of {self.available} images ({fraction=})"


def resolve_options(options: TrainOptions, stride: int) -> TrainOptions:
    """Return the options with the input size as one side, and the batch checked.

    Args:
        options: as they were given.
        stride: largest stride of the network; the side is a multiple of it.

    Raises:
        UsageError: an option is impossible, or asks for what this version does not have.
    """
    return replace(options, batch=_batch(options.batch), imgsz=_side(options.imgsz, stride))


def load_data(options: TrainOptions) -> TrainData:
    """Load the data set that the options name.

    Raises:
        UsageError: they name none, or `fraction` does not fit.
        NotFoundError: the data YAML is not there.
        DataError: a split is missing or unusable.
    """
    if not options.data:
        raise UsageError("Training needs a data set: give data=… (a data YAML, such as coco8-pose.yaml).")
    dataset = load_dataset(options.data, download=options.download, splits=["train", cast(Split, options.split)])
    spec = dataset.spec
    if options.single_cls and spec.nc > 1:
        spec = replace(spec, classes=("item",))
    if "train" not in dataset.entries:
        raise DataError(f"{dataset.yaml_path} has no `train:` entry, so there is nothing to learn from.")
    if options.val and options.split not in dataset.entries:
        raise DataError(
            f"{dataset.yaml_path} has no `{options.split}:` entry to measure on during training. Add one, or give "
            "val=False to train without."
        )
    whole = _labels(dataset, "train", options)
    train = take(whole, options.fraction, dataset)
    if not len(train.classes):
        raise DataError(
            f"None of the {len(train)} training images of {dataset.yaml_path} has a labeled object, so there is "
            "nothing to learn. Label files are looked for beside the images: the last `images` folder of an image's "
            f"path becomes `labels`, the suffix .txt (first image: {train.files[0]})."
        )
    val = _labels(dataset, options.split, options) if options.split in dataset.entries else None
    _note_mirror(dataset, spec, options)
    return TrainData(dataset, spec, train, val, len(whole))


def _note_mirror(dataset: Dataset, spec: PoseSpec, options: TrainOptions) -> None:
    """Warn that nothing is mirrored where the data do not say how points change their names in a mirror."""
    wanted = [key for key in ("fliplr", "flipud") if getattr(options, key) > 0]
    keypoints = spec.keypoints
    if keypoints.flip_idx is not None or not wanted:
        return
    told = {infer_flip_idx(keypoints.keypoint_names(index)) for index in range(spec.nc)}
    known = told.pop() if len(told) == 1 else None
    if known:
        mend = f"Add the line `flip_idx: {list(known)}`, which the names of the points suggest"
    else:
        mend = (
            f"Add a line `flip_idx: [{keypoints.count} numbers]`; number i says which point i becomes in a mirror, "
            f"0…{keypoints.count - 1} in order that none becomes another"
        )
    LOGGER.warning(
        f"{dataset.yaml_path} has no `flip_idx`, so no image is mirrored ({' and '.join(wanted)} without effect): "
        f"left and right points would be mixed up. {mend}. {' '.join(f'{key}=0' for key in wanted)} says that it is "
        "meant so."
    )


def remembered_name(dataset: Dataset) -> str:
    """Return what weights remember of a data set: its YAML wherever the process runs, or the name of a shipped one."""
    path = dataset.yaml_path
    return path.name if dataset.shipped else str(path.resolve())


def take(table: Annotations, fraction: float | int | Sequence[float], dataset: Dataset) -> Annotations:
    """Return a part of a table: images spread evenly over it, so that a video's every scene stays.

    Args:
        table: labels of the training images.
        fraction: a share up to 1 (1 is all), a number of images above 1, or a list with one of these for each
            entry of `train:` in the data YAML.
        dataset: what the table was made of.

    Raises:
        UsageError: the fraction is nothing of these, or leaves no image.
    """
    if not isinstance(fraction, (int, float)):
        return _take_of_each(table, list(fraction), dataset)
    keep = _spread(len(table), fraction)
    return table if len(keep) == len(table) else table.subset(keep)


def _take_of_each(table: Annotations, parts: list[float], dataset: Dataset) -> Annotations:
    entries = dataset.entries["train"]
    if len(parts) != len(entries) or not all(isinstance(part, (int, float)) for part in parts):
        raise UsageError(
            f"fraction={parts} must hold one number for each entry of `train:` in {dataset.yaml_path} "
            f"({len(entries)}: {', '.join(entries)})."
        )
    keep: set[int] = set()
    for entry, part in zip(entries, parts, strict=True):
        files = set(replace(dataset, entries={"train": (entry,)}).image_files("train"))
        mine = [index for index, file in enumerate(table.files) if file in files]
        keep |= {mine[index] for index in _spread(len(mine), part)}
    return table.subset(sorted(keep))


def _spread(count: int, fraction: float) -> list[int]:
    wanted = round(count * fraction) if fraction <= 1 else int(fraction)
    wanted = min(max(wanted, 1 if fraction > 0 else 0), count)
    if not wanted:
        raise UsageError(f"fraction={fraction} leaves no training image: give a share above 0 or a number.")
    return [index * count // wanted for index in range(wanted)]


def _labels(dataset: Dataset, split: str, options: TrainOptions) -> Annotations:
    return load_labels(
        dataset, split, strict=options.strict, single_cls=options.single_cls, workers=limit_workers(options.workers)
    )


def _batch(batch: float) -> int | float:
    if batch >= 1 and int(batch) == batch:
        return int(batch)
    if batch == -1 or 0 < batch < 1:
        return batch
    raise UsageError(
        f"batch={batch:g} is not a number of images: give a whole number from 1, -1 for as many as fit the memory, "
        "or the share of the free memory to fill, between 0 and 1."
    )


def _side(imgsz: int | Sequence[int], stride: int) -> int:
    sides = (imgsz,) if isinstance(imgsz, int) else tuple(imgsz)
    side = -(-max(sides) // stride) * stride
    if len(set(sides)) > 1:
        LOGGER.warning(f"imgsz={list(sides)}: training uses squares, here of {side} pixels.")
    elif side != sides[0]:
        LOGGER.warning(f"imgsz={sides[0]} is rounded up to {side}: sides are multiples of the stride {stride}.")
    return side


def class_weights(table: Annotations, nc: int, power: float) -> list[float] | None:
    """Return weights (1/frequency)^power of mean 1 for the class loss; None when `power` is 0."""
    if not power:
        return None
    counts = np.maximum(np.bincount(table.classes, minlength=nc), 1)
    weights = counts ** -float(power)
    return (weights / weights.mean()).tolist()
