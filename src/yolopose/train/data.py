"""Training data: the labels of the splits, the training subset, and class weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np

from yolopose.base.errors import DataError, UsageError
from yolopose.base.log import LOGGER
from yolopose.config import TrainOptions, limit_workers
from yolopose.data import Annotations, Dataset, load_dataset, load_labels
from yolopose.data.dataset import Split
from yolopose.data.doctor import log_short_report
from yolopose.data.side_names import suggest_flip_idx
from yolopose.schema import PoseSpec


@dataclass(frozen=True, slots=True)
class TrainData:
    """Labels that a run trains on and validates with.

    Attributes:
        dataset: the data set.
        spec: its classes (one, with `single_cls`), keypoints and channels.
        train: labels of the training images.
        val: labels of the validation images; None when the data set has none.
        available: number of training images before `fraction` selected some.
        pseudo: pseudo labels of further images; None without `unlabeled`.
    """

    dataset: Dataset
    spec: PoseSpec
    train: Annotations
    val: Annotations | None
    available: int
    pseudo: Annotations | None = None

    def image_file(self, index: int) -> Path:
        """Return a training image; pseudo-labeled images follow the labeled ones."""
        if self.pseudo is not None and index >= len(self.train):
            return self.pseudo.files[index - len(self.train)]
        return self.train.files[index]

    def describe(self, fraction: object) -> str:
        """Return the number of training images as text: `19 of 93 images (fraction=0.2)`."""
        used = len(self.train)
        text = f"{used} images" if used == self.available else f"{used} of {self.available} images ({fraction=})"
        return text if self.pseudo is None else f"{text} and {len(self.pseudo)} with pseudo labels"


def load_data(options: TrainOptions, channels: int, visibility: object = None) -> TrainData:
    """Load the data set that the options name.

    Args:
        options: of the run.
        channels: channels of the network, with which images are read if the data YAML has no `channels:`.
        visibility: states of visibility of the network, which it keeps if neither options nor data YAML set them.

    Raises:
        UsageError: they name none, or `fraction` does not fit.
        NotFoundError: the data YAML does not exist.
        DataError: a split is missing or unusable.
    """
    if not options.data:
        raise UsageError("Training needs a data set: set data= to a data YAML, such as data=coco8-pose.yaml.")
    dataset = load_dataset(options.data, download=options.download, splits=["train", cast(Split, options.split)])
    spec = dataset.spec
    if options.single_cls and spec.nc > 1:
        spec = spec.with_one_class("item")
    if dataset.raw.get("channels") is None and channels != spec.channels:
        spec = replace(spec, channels=channels)
        LOGGER.info(f"{dataset.yaml_path} has no `channels:`: images are read as the network does, {channels=}.")
    spec = _with_visibility(dataset, spec, options, visibility)
    _warn_without_effect(spec, options)
    if "train" not in dataset.entries:
        raise DataError(f"{dataset.yaml_path} has no `train:` entry: add one that names the training images.")
    if options.val and options.split not in dataset.entries:
        raise DataError(
            f"{dataset.yaml_path} has no `{options.split}:` entry for validation during training. Add one, or set "
            "val=False to train without validation."
        )
    labels = _load_labels(dataset, "train", options)
    train = subset(labels, options.fraction, dataset)
    if not len(train.classes):
        raise DataError(
            f"None of the {len(train)} training images of {dataset.yaml_path} has a labeled instance. Label files are "
            "looked for beside the images: the last `images` folder of an image's path becomes `labels`, and the "
            f"suffix becomes .txt (first image: {train.files[0]})."
        )
    _warn_without_states(spec, train)
    val = _load_labels(dataset, options.split, options) if options.split in dataset.entries else None
    _warn_without_flip_idx(dataset, spec, options)
    splits = {"train": labels} if val is None or options.split == "train" else {"train": labels, options.split: val}
    log_short_report(dataset, splits, options.imgsz if isinstance(options.imgsz, int) else max(options.imgsz))
    return TrainData(dataset, spec, train, val, len(labels))


def _load_labels(dataset: Dataset, split: str, options: TrainOptions) -> Annotations:
    return load_labels(
        dataset, split, strict=options.strict, single_cls=options.single_cls, workers=limit_workers(options.workers)
    )


def _with_visibility(dataset: Dataset, spec: PoseSpec, options: TrainOptions, network: object) -> PoseSpec:
    """Return the spec with the states of visibility of the option, of the data YAML, or of the network."""
    states = options.visibility
    if states is None and dataset.raw.get("visibility") is None and network == 3 and spec.keypoints.dims == 3:
        states = 3
    if states is None:
        return spec
    return replace(spec, keypoints=replace(spec.keypoints, visibility=states))


def _warn_without_states(spec: PoseSpec, train: Annotations) -> None:
    """Warn if three states cannot be learned because the labels have no hidden, or no visible, keypoint."""
    if spec.keypoints.visibility != 3:
        return
    v = train.keypoints[..., 2]
    hidden = int((v == 1).sum())
    visible = int((v != 0).sum()) - hidden
    if not hidden or not visible:
        missing = "hidden (v = 1)" if not hidden else "visible (v = 2)"
        LOGGER.warning(
            f"visibility=3: no keypoint of the training images is labeled as {missing}, so that the network cannot "
            "learn this state. Labels have v 0 (absent), 1 (hidden) or 2 (visible)."
        )


def _warn_without_effect(spec: PoseSpec, options: TrainOptions) -> None:
    """Warn of augmentations that need color images and were given, but the images have other channels."""
    changed = [
        f"{key}={getattr(options, key):g}"
        for key in ("hsv_h", "hsv_s", "hsv_v", "bgr")
        if getattr(options, key) and getattr(options, key) != getattr(TrainOptions, key)
    ]
    if spec.channels != 3 and changed:
        LOGGER.warning(f"{', '.join(changed)} without effect: images have {spec.channels} channels, not 3.")


def _warn_without_flip_idx(dataset: Dataset, spec: PoseSpec, options: TrainOptions) -> None:
    """Warn that flips are disabled because the data YAML does not define `flip_idx`."""
    flips = [key for key in ("fliplr", "flipud") if getattr(options, key) > 0]
    keypoints = spec.keypoints
    if keypoints.flip_idx is not None or not flips:
        return
    guesses = {suggest_flip_idx(keypoints.keypoint_names(index)) for index in range(spec.nc)}
    guess = guesses.pop() if len(guesses) == 1 else None
    if guess:
        fix = f"Add the line `flip_idx: {list(guess)}`, which the names of the keypoints suggest"
    else:
        fix = (
            f"Add a line `flip_idx: [{keypoints.count} integers]`, a permutation of 0…{keypoints.count - 1}: entry i "
            "is the keypoint that keypoint i becomes in a mirrored image"
        )
    LOGGER.warning(
        f"{dataset.yaml_path} has no `flip_idx`, so no image is flipped ({' and '.join(flips)} without effect): "
        f"left and right keypoints would be mixed up. {fix}, or set {' '.join(f'{key}=0' for key in flips)} to train "
        "without flips and this warning."
    )


def dataset_reference(dataset: Dataset) -> str:
    """Return what checkpoints store of a data set: the absolute path of its YAML, or the name of a shipped one."""
    path = dataset.yaml_path
    return path.name if dataset.shipped else str(path.resolve())


def subset(table: Annotations, fraction: float | int | Sequence[float], dataset: Dataset) -> Annotations:
    """Select training images at even intervals, so that every scene of a video is represented.

    Args:
        table: labels of the training images.
        fraction: a share in (0, 1], an integer number of images above 1, or a list with one of these for each entry
            of `train:` in the data YAML.
        dataset: the data set of the table.

    Raises:
        UsageError: a list does not match the entries of the data YAML.
    """
    if isinstance(fraction, (int, float)):
        rows = _even_indices(len(table), fraction)
        return table if len(rows) == len(table) else table.subset(rows)
    entries = dataset.entries["train"]
    if len(fraction) != len(entries):
        raise UsageError(
            f"fraction={list(fraction)} must hold one number for each entry of `train:` in {dataset.yaml_path} "
            f"({len(entries)}: {', '.join(entries)})."
        )
    selected: set[int] = set()
    for entry, part in zip(entries, fraction, strict=True):
        files = set(replace(dataset, entries={"train": (entry,)}).image_files("train"))
        entry_rows = [index for index, file in enumerate(table.files) if file in files]
        selected |= {entry_rows[index] for index in _even_indices(len(entry_rows), part)}
    return table.subset(sorted(selected))


def _even_indices(count: int, fraction: float) -> list[int]:
    wanted = round(count * fraction) if fraction <= 1 else int(fraction)
    wanted = min(max(wanted, 1), count)
    return [index * count // wanted for index in range(wanted)]


def class_weights(table: Annotations, nc: int, power: float) -> list[float] | None:
    """Return class weights (1 / frequency)^power with mean 1 for the class loss; None when `power` is 0."""
    if not power:
        return None
    counts = np.maximum(np.bincount(table.classes, minlength=nc), 1)
    weights = counts ** -float(power)
    return (weights / weights.mean()).tolist()
