"""Divide a data set into folds for cross-validation; frames of one video and nearly equal images share a fold."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from yolopose.base.errors import DataError, SourceError
from yolopose.base.files import make_folder, write_text
from yolopose.base.log import LOGGER
from yolopose.base.progress import progress
from yolopose.base.yamlfile import to_yaml
from yolopose.data.dataset import SPLITS, Dataset
from yolopose.data.grouping import ImageGroups
from yolopose.data.images import read_image
from yolopose.data.splitting import assign_images, choose_groups, keeps_shares, read_pool
from yolopose.data.subset_files import unique_files

_OWN_KEYS = {"path", *SPLITS, "download", "download_sha256", "figures", "info"}  # that do not hold for a fold


@dataclass(frozen=True, slots=True)
class Folds:
    """Images of a data set, divided into folds.

    Attributes:
        files: the images, sorted.
        fold_idx: fold of each image, from 0.
        count: number of folds.
    """

    files: tuple[Path, ...]
    fold_idx: tuple[int, ...]
    count: int

    def members(self, fold: int) -> list[Path]:
        """Return the images of a fold."""
        return [file for file, index in zip(self.files, self.fold_idx, strict=True) if index == fold]


def divide_into_folds(dataset: Dataset, count: int, seed: int = 0, splits: Sequence[str] = ("train", "val")) -> Folds:
    """Divide the images of some splits into folds of about equal size and content.

    Groups are those of `split_dataset`: frames of one video and copies of one image, or runs of consecutive frames
    where there are too few videos. Images that are nearly equal by `near_groups` share a fold too.

    Args:
        dataset: the data set.
        count: number of folds.
        seed: random seed; the same seed divides in the same way.
        splits: the splits whose images are divided; images of a test split that is not among them are left out.

    Raises:
        DataError: there are too few images or groups.
    """
    files = unique_files(dataset, [split for split in splits if split in dataset.entries])
    if "test" in dataset.entries and "test" not in splits:
        test = set(unique_files(dataset, ["test"]))
        files = [file for file in files if file not in test]
    if len(files) < 2 * count:
        raise DataError(
            f"{dataset.yaml_path} has {len(files)} images in {' and '.join(splits)}, too few for {count} folds of at "
            "least two: choose fewer folds."
        )
    pool = read_pool(dataset, files)
    shares = [1 / count] * count
    groups = choose_groups(pool, shares, "auto", None, seed, advice="")
    joined, duplicates = _join_duplicates(files, groups)
    if duplicates:
        if keeps_shares(pool, joined, shares, seed):
            groups = joined
            LOGGER.info(f"{duplicates} images are nearly equal to another one: they are in the same fold.")
        else:
            LOGGER.warning(
                f"{duplicates} images are nearly equal to another one, and too many of them belong together for "
                f"{count} folds of equal size: some folds share nearly equal images, so that scores are optimistic."
            )
    fold_idx = assign_images(pool, groups, shares, seed)
    return Folds(tuple(files), tuple(fold_idx.tolist()), count)


def _join_duplicates(files: Sequence[Path], groups: ImageGroups) -> tuple[ImageGroups, int]:
    """Return the groups, joined where they have nearly equal images, and the number of these images."""
    from yolopose.data.doctor.image_hash import near_groups  # the package of the doctor imports this one

    hashes, thumbs, usable = _hash_images(files)
    parents = list(range(len(groups)))

    def root(index: int) -> int:
        while parents[index] != index:
            index = parents[index]
        return index

    duplicates = 0
    for members in near_groups(hashes, thumbs, usable):
        duplicates += len(members) - 1
        first, *others = (int(groups.group_idx[image]) for image in members)
        for other in others:
            parents[root(other)] = root(first)
    keys = [groups.names[root(int(group))] for group in groups.group_idx]
    return ImageGroups.from_keys(keys, groups.numbers), duplicates


def _hash_images(files: Sequence[Path]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    import cv2

    from yolopose.data.doctor.image_hash import THUMB_SIDE, difference_hash

    hashes = np.zeros(len(files), np.uint64)
    thumbs = np.zeros((len(files), THUMB_SIDE, THUMB_SIDE), np.uint8)
    usable = np.zeros(len(files), np.bool_)
    for index, file in enumerate(progress(files, "Images")):
        try:
            gray = cv2.cvtColor(read_image(file), cv2.COLOR_BGR2GRAY)
        except SourceError:  # training skips and reports it
            continue
        hashes[index] = difference_hash(np.asarray(gray, np.uint8))
        thumbs[index] = cv2.resize(gray, (THUMB_SIDE, THUMB_SIDE), interpolation=cv2.INTER_AREA)
        usable[index] = True
    return hashes, thumbs, usable


def write_folds(dataset: Dataset, folds: Folds, folder: Path) -> list[Path]:
    """Write a data YAML for each fold, which is its `val`; the images of the other folds are its `train`.

    Args:
        dataset: the data set; images and labels stay where they are.
        folds: its folds.
        folder: for `fold1.yaml`, …, and the lists of images.

    Returns:
        The data YAMLs.

    Raises:
        OutputError: a file cannot be written.
    """
    yamls: list[Path] = []
    for fold in range(folds.count):
        val = folds.members(fold)
        train = [file for index in range(folds.count) if index != fold for file in folds.members(index)]
        yamls.append(write_lists(dataset, {"train": sorted(train), "val": val}, folder / f"fold{fold + 1}"))
    return yamls


def write_lists(dataset: Dataset, splits: dict[str, list[Path]], stem: Path) -> Path:
    """Write `STEM.yaml`, a data YAML with these images, and its lists `STEM_train.txt`, ….

    Raises:
        OutputError: a file cannot be written.
    """
    make_folder(stem.parent)
    stem = Path(os.path.abspath(stem))
    entries: dict[str, str] = {}
    for split, files in splits.items():
        path = stem.with_name(f"{stem.name}_{split}.txt")
        write_text(path, "".join(f"{file}\n" for file in files))
        entries[split] = str(path)
    described = {key: value for key, value in dataset.raw.items() if key not in _OWN_KEYS}
    described |= {"names": list(dataset.spec.classes)}
    target = stem.with_name(f"{stem.name}.yaml")
    header = f"# Images of {dataset.yaml_path.name}, divided by yolopose.\n"
    write_text(target, header + to_yaml({"path": str(dataset.root), **entries, **described}))
    return target
