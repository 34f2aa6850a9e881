"""Divide a data set into train, val and test, or take a smaller sample of it.

Frames of one video stay in one split, and each split has its share of every class and of images with few and many
instances. The user's files are never moved or changed: the result is a new data YAML with lists of images, or a copy.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from yolopose.base.errors import DataError, UsageError
from yolopose.base.log import LOGGER
from yolopose.base.progress import progress
from yolopose.data.dataset import SPLITS, Dataset, load_dataset
from yolopose.data.grouping import ImageGroups, detect_groups, groups_by_pattern
from yolopose.data.label_file import LabelError, read_label_file
from yolopose.data.paths import label_path
from yolopose.data.stratify import COUNT_BINS, Float64, Indices, assign_groups, image_features, share_counts
from yolopose.data.subset_files import (
    dataset_name,
    describe_counts,
    unique_files,
    unused_folder,
    warn_of_coco_record,
    write_splits,
)

_MAX_LISTED_CLASSES = 12
_TOLERANCE = 0.25  # how far whole groups may miss the share of a split before by=auto cuts them


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitResult:
    """What `split_dataset` or `sample_dataset` wrote.

    Attributes:
        data: the data YAML.
        images: number of images of each split.
        instances: number of instances of each split.
        groups: number of groups of each split that were kept together; empty if images were divided one by one.
    """

    data: Path
    images: Mapping[str, int]
    instances: Mapping[str, int]
    groups: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class ImagePool:
    """Images to divide, and what is balanced.

    Attributes:
        files: n images.
        features: (n, F), see `image_features`.
    """

    files: list[Path]
    features: Float64


def split_dataset(
    data: str | Path,
    output: str | Path | None = None,
    *,
    val: float = 0.2,
    test: float = 0.0,
    by: str = "auto",
    group: str | None = None,
    seed: int = 0,
    copy: bool = False,
) -> SplitResult:
    """Divide the images of a data set into train, val and, optionally, test.

    The images of all splits of the YAML are divided anew; an existing test split stays as it is unless `test` is given.
    The same seed gives the same splits.

    Args:
        data: data YAML.
        output: new folder for `data.yaml` and the splits; `NAME-split` in the current folder by default.
        val: share of the images for validation, 0…1.
        test: share of the images for testing, 0…1.
        by: `image` divides images one by one; `group` keeps detected groups together, see `detect_groups`; `auto` keeps
            groups together where that gives the shares, else it cuts them into runs of consecutive frames.
        group: regular expression on the path of an image: images with the same match, or the same first group of the
            expression, stay together.
        seed: random seed.
        copy: copy images and labels into a folder per split instead of writing lists of the originals.

    Raises:
        UsageError: a share or the expression is impossible.
        DataError: the data set cannot be used, or has too few images or groups.
        OutputError: `output` is not empty, or cannot be written.
    """
    fractions = _split_fractions(val, test)
    if by not in ("auto", "image", "group"):
        raise UsageError(f"by={by!r} is not possible: it is auto, image or group.")
    if group is not None and by == "image":
        raise UsageError("group= keeps images together, which contradicts by=image: omit one of them.")
    dataset = load_dataset(data)
    pooled = [split for split in dataset.entries if split != "test" or test > 0]
    unchanged = [split for split in dataset.entries if split not in pooled]
    pool = read_pool(dataset, _files_to_divide(dataset, pooled, unchanged))
    groups = choose_groups(pool, fractions, by, group, seed)
    split_idx = assign_images(pool, groups, fractions, seed)
    names = [split for split, fraction in zip(SPLITS, fractions, strict=True) if fraction > 0]
    splits = {
        split: [pool.files[index] for index in np.flatnonzero(split_idx == SPLITS.index(split))] for split in names
    }
    target = unused_folder(f"{dataset_name(dataset.yaml_path)}-split") if output is None else Path(output)
    shares = ", ".join(f"{split} {fractions[SPLITS.index(split)]:g}" for split in names)
    header = f"{dataset.yaml_path.name}, split by yolopose: {shares}, seed {seed}."
    path = _write(dataset, splits, unchanged, target, copy, header)
    members = {split: split_idx == SPLITS.index(split) for split in names}
    return _summarize(dataset, path, pool, members, _count_groups(groups, members))


def sample_dataset(
    data: str | Path,
    n: int,
    output: str | Path | None = None,
    *,
    split: str | None = None,
    seed: int = 0,
    copy: bool = False,
) -> SplitResult:
    """Take a sample of a data set with the same proportions of classes and instance counts.

    Args:
        data: data YAML.
        n: number of images.
        output: new folder for `data.yaml` and the splits; `NAME-sample` in the current folder by default.
        split: sample only this split and keep the others whole; None shares `n` among all in proportion to their sizes.
        seed: random seed; the same seed gives the same sample.
        copy: copy images and labels into a folder per split instead of writing lists of the originals.

    Raises:
        UsageError: `n` is below 1, or the split does not exist.
        DataError: the data set cannot be used, or has fewer than `n` images.
        OutputError: `output` is not empty, or cannot be written.
    """
    if n < 1:
        raise UsageError(f"n={n} is not possible: give a number of images from 1.")
    dataset = load_dataset(data)
    chosen = list(dataset.entries) if split is None else [split]
    files = {name: unique_files(dataset, [name]) for name in chosen}
    total = sum(map(len, files.values()))
    if n > total:
        raise DataError(f"{dataset.yaml_path} has {total} images in {' and '.join(chosen)}, fewer than n={n}.")
    sizes = share_counts(n, [len(files[name]) / total for name in chosen])
    splits: dict[str, list[Path]] = {}
    pools: list[ImagePool] = []
    for name, size in zip(chosen, sizes, strict=True):
        pool = read_pool(dataset, files[name])
        share = size / len(pool.files)
        members = np.arange(len(pool.files))
        if share < 1:
            split_idx = assign_images(pool, ImageGroups.single(len(pool.files)), (share, 1 - share, 0), seed)
            members = np.flatnonzero(split_idx == 0)
        splits[name] = [pool.files[index] for index in members]
        pools.append(ImagePool(splits[name], pool.features[members]))
    unchanged = [name for name in dataset.entries if name not in chosen]
    target = unused_folder(f"{dataset_name(dataset.yaml_path)}-sample") if output is None else Path(output)
    header = f"{n} images of {dataset.yaml_path.name}, sampled by yolopose, seed {seed}."
    path = _write(dataset, splits, unchanged, target, copy, header)
    features = np.concatenate([pool.features for pool in pools])
    joined = ImagePool([file for pool in pools for file in pool.files], features)
    origin = np.repeat(np.arange(len(chosen)), [len(pool.files) for pool in pools])
    return _summarize(dataset, path, joined, {name: origin == index for index, name in enumerate(chosen)}, {})


def _split_fractions(val: float, test: float) -> tuple[float, float, float]:
    if not (0 <= val < 1 and 0 <= test < 1 and 0 < val + test < 1):
        raise UsageError(
            f"val={val:g} and test={test:g} are not possible: give shares of the images from 0 to 1 whose sum is below "
            "1, since the rest is for training, as in val=0.2 test=0.1."
        )
    return 1 - val - test, val, test


def _files_to_divide(dataset: Dataset, pooled: Sequence[str], unchanged: Sequence[str]) -> list[Path]:
    """Return the images of the pooled splits, without those of a split that stays as it is."""
    if not pooled:
        raise DataError(f"{dataset.yaml_path} has only a test split, which is kept: give test=… to divide it, too.")
    files = unique_files(dataset, pooled)
    if not unchanged:
        return files
    excluded = set(unique_files(dataset, unchanged))
    rest = [file for file in files if file not in excluded]
    if len(rest) < len(files):
        LOGGER.warning(
            f"{len(files) - len(rest)} images of {' and '.join(pooled)} are also in the test split, which is kept: "
            "they remain there only. test=… divides all images anew."
        )
    if not rest:
        raise DataError(f"{dataset.yaml_path}: all images are in the test split. Give test=… to divide them, too.")
    return rest


def read_pool(dataset: Dataset, files: Sequence[Path]) -> ImagePool:
    """Read the classes of all instances; images with a faulty label file count as images without instances."""
    classes: list[npt.NDArray[np.int32]] = []
    faults: list[str] = []
    for file in progress(files, "Labels"):
        label = label_path(file)
        try:
            labels = read_label_file(label, dataset.spec)
        except LabelError as error:
            faults.append(f"{label}: {error.reason}")
            labels = None
        classes.append(np.zeros(0, np.int32) if labels is None else labels.classes)
    if faults:
        LOGGER.warning(
            f"{len(faults)} of {len(files)} label files are faulty and count as images without instances; training "
            f"will refuse them. The first: {faults[0]}."
        )
    if not any(map(len, classes)):
        LOGGER.warning(
            f"{dataset.yaml_path}: none of {len(files)} images has a labeled instance, so images are divided without "
            f"regard to their content (the label file of {files[0]} would be {label_path(files[0])})."
        )
    return ImagePool(list(files), image_features(classes, dataset.spec.nc))


_ADVICE = " by=group never cuts, by=image ignores groups, and group=… describes other groups."


def choose_groups(
    pool: ImagePool, fractions: Sequence[float], by: str, pattern: str | None, seed: int, advice: str = _ADVICE
) -> ImageGroups:
    """Return the groups that stay together, and log how they were detected; `advice` ends the message."""
    count = len(pool.files)
    if by == "image":
        return ImageGroups.single(count)
    if pattern is not None:
        return groups_by_pattern(pool.files, pattern)
    groups = detect_groups(pool.files)
    if len(groups) == count:
        if by == "group":
            raise UsageError(
                f"by=group: the names of the {count} images show no groups (frames such as walk_0012.png and "
                "walk_0013.png). Use by=image, or describe the groups with group='REGULAR EXPRESSION'."
            )
        return groups
    summary = f"By their names, the {count} images are {_plural(len(groups), 'group')}, such as {_example(groups)}"
    active = sum(fraction > 0 for fraction in fractions)
    if by == "group" and len(groups) < active:
        raise UsageError(
            f"by=group: {summary}. They cannot be divided into {active} splits: use by=auto, which cuts groups into "
            "runs of consecutive frames, or describe other groups with group='REGULAR EXPRESSION'."
        )
    if by == "group" or keeps_shares(pool, groups, fractions, seed):
        LOGGER.info(f"{summary}.")
        return groups
    smallest = min(share_counts(count, [fraction for fraction in fractions if fraction > 0]))
    size = max(smallest // 2, 1)
    while not keeps_shares(pool, runs := groups.cut(size), fractions, seed, class_tolerance=0.5) and size > 1:
        size //= 2
    LOGGER.info(
        f"{summary}: too few, or too large, to divide them whole. They are cut into {len(runs)} runs of consecutive "
        f"frames, so that only frames at the ends of a run have neighbors in another split.{advice}"
    )
    return runs


def _example(groups: ImageGroups) -> str:
    largest = int(groups.sizes.argmax())
    name = groups.names[largest].rstrip("#")
    return f"{Path(name).name or name}… ({_plural(int(groups.sizes[largest]), 'image')})"


def _plural(count: int, word: str) -> str:
    return f"{count} {word}{'' if count == 1 else 's'}"


def keeps_shares(
    pool: ImagePool, groups: ImageGroups, fractions: Sequence[float], seed: int, class_tolerance: float = np.inf
) -> bool:
    """Return whether whole groups give each split about its share of the images, and some instances of every class.

    Args:
        pool: the images.
        groups: their groups.
        fractions: share of each split.
        seed: random seed of the assignment.
        class_tolerance: how far the share of a class may be from that of the images, relative to it.
    """
    active = [fraction for fraction in fractions if fraction > 0]
    if len(groups) < len(active):
        return False
    split_idx = assign_images(pool, groups, fractions, seed)
    classes = slice(1, pool.features.shape[1] - COUNT_BINS)
    totals = pool.features.sum(axis=0)
    for index, fraction in enumerate(fractions):
        if not fraction:
            continue
        shares = pool.features[split_idx == index].sum(axis=0) / np.maximum(totals, 1)
        if abs(shares[0] - fraction) > _TOLERANCE * fraction:
            return False
        frequent = totals[classes] * fraction >= 2  # a split can be expected to have instances of these classes
        deviation = np.abs(shares[classes] - fraction)
        if (frequent & ((shares[classes] == 0) | (deviation > class_tolerance * fraction))).any():
            return False
    return True


def assign_images(pool: ImagePool, groups: ImageGroups, fractions: Sequence[float], seed: int) -> Indices:
    """Return the split index of each image."""
    sums = np.zeros((len(groups), pool.features.shape[1]))
    np.add.at(sums, groups.group_idx, pool.features)
    return assign_groups(sums, fractions, seed)[groups.group_idx]


def _write(
    dataset: Dataset,
    splits: Mapping[str, Sequence[Path]],
    unchanged: Sequence[str],
    target: Path,
    copy: bool,
    header: str,
) -> Path:
    everything = {**splits, **{split: unique_files(dataset, [split]) for split in unchanged}}
    if copy:
        warn_of_coco_record([file for files in everything.values() for file in files])
    return write_splits(dataset, {split: everything[split] for split in SPLITS if split in everything}, target,
                        copy=copy, header=header)  # fmt: skip


def _instances(features: Float64, dataset: Dataset) -> npt.NDArray[np.int64]:
    """Return the number of instances of each class."""
    return features[:, 1 : 1 + dataset.spec.nc].sum(axis=0).astype(np.int64)


def _count_groups(groups: ImageGroups, members: Mapping[str, npt.NDArray[np.bool_]]) -> dict[str, int]:
    """Return the number of groups of each split; empty if every image is a group."""
    if len(groups) == len(groups.group_idx):
        return {}
    return {split: len(np.unique(groups.group_idx[mask])) for split, mask in members.items()}


def _summarize(
    dataset: Dataset,
    path: Path,
    pool: ImagePool,
    members: Mapping[str, npt.NDArray[np.bool_]],
    groups: Mapping[str, int],
) -> SplitResult:
    """Log and return the counts of each split, whose images are a mask over the pool."""
    _log(dataset, path, pool, members, groups)
    return SplitResult(
        data=path,
        images={split: int(mask.sum()) for split, mask in members.items()},
        instances={split: int(_instances(pool.features[mask], dataset).sum()) for split, mask in members.items()},
        groups=groups,
    )


def _log(
    dataset: Dataset,
    path: Path,
    pool: ImagePool,
    members: Mapping[str, npt.NDArray[np.bool_]],
    groups: Mapping[str, int],
) -> None:
    classes = _instances(pool.features, dataset)
    listed = np.argsort(-classes, kind="stable")[:_MAX_LISTED_CLASSES] if dataset.spec.nc > 1 else ()
    rows: dict[str, dict[str, object]] = {}
    for split, chosen in members.items():
        counts = _instances(pool.features[chosen], dataset)
        rows[split] = {"images": int(chosen.sum())}
        if groups:
            rows[split]["groups"] = groups[split]
        rows[split]["instances"] = int(counts.sum())
        rows[split] |= {dataset.spec.classes[index]: int(counts[index]) for index in listed}
    LOGGER.info(describe_counts(rows))
    shown = os.path.relpath(path) if path.is_relative_to(Path.cwd()) else path
    LOGGER.info(f"Wrote {shown}. Train with: yolo pose train data={shown}")
