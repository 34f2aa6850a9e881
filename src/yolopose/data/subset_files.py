"""Write splits of a data set: as lists of the user's own files, or as copies in a folder per split."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from yolopose.base.errors import DataError
from yolopose.base.files import expand_user
from yolopose.base.log import LOGGER
from yolopose.base.progress import progress
from yolopose.base.yamlfile import to_yaml
from yolopose.data.convert.output import OutputPlan
from yolopose.data.dataset import SPLITS, Dataset
from yolopose.data.paths import label_path, portable_key

# Names of files that say nothing about the data set.
_PLAIN_NAMES = {"data", "dataset", "train", "val", "test", "annotations", "labels", "instances_default"}
# Keys of a data YAML that do not hold for the new data set.
_OWN_KEYS = {"path", *SPLITS, "download", "download_sha256", "figures", "info"}


def write_splits(
    dataset: Dataset, splits: Mapping[str, Sequence[Path]], output: Path, *, copy: bool, header: str
) -> Path:
    """Write a data YAML and its splits into a new folder; the images and labels of the user stay as they are.

    Everything is planned first: if a file cannot be written, nothing is left behind.

    Args:
        dataset: the data set whose images these are; all keys of its YAML that describe classes and keypoints remain.
        splits: images of each split.
        output: the folder; absent or empty.
        copy: copy images and labels to `images/SPLIT` and `labels/SPLIT` instead of writing `SPLIT.txt`.
        header: first line of the YAML, a comment.

    Returns:
        The data YAML.

    Raises:
        OutputError: the folder is not empty, or a file cannot be written.
        DataError: an image cannot be read.
    """
    output = Path(os.path.abspath(expand_user(output)))
    entries = {split: f"images/{split}" if copy else f"{split}.txt" for split in splits}
    described = {key: value for key, value in dataset.raw.items() if key not in _OWN_KEYS}
    yaml = f"# {header}\n" + to_yaml({"path": ".", **entries, **described})
    plan = OutputPlan(output)
    plan.add("data.yaml", "the data YAML")
    texts: dict[PurePosixPath, str] = {}
    for split, files in splits.items():
        if copy:
            _plan_copies(plan, split, files)
        else:
            path = plan.add(entries[split], f"the list of {split}")
            texts[path] = "".join(f"{_list_line(file, output)}\n" for file in files)
    plan.check()
    try:
        for path in progress(plan.copies, "Copying"):
            plan.copy(path)
        for path, text in texts.items():
            plan.write(path, text)
        return plan.write("data.yaml", yaml)
    except BaseException:
        plan.discard()
        raise


def _plan_copies(plan: OutputPlan, split: str, files: Sequence[Path]) -> None:
    for file, name in zip(files, short_names(files), strict=True):
        plan.add(PurePosixPath("images", split, name), str(file), file)
        label = label_path(file)
        if label.is_file():
            plan.add(PurePosixPath("labels", split, name.with_suffix(".txt")), str(file), label)


def short_names(files: Sequence[Path]) -> list[PurePosixPath]:
    """Return a name for each image in a new folder: its file name, or its path where file names are not unique.

    Folders named `images` are omitted, since the path of the label file would be derived from them.

    Args:
        files: absolute paths.
    """
    stems = Counter(portable_key(PurePosixPath(file.stem)) for file in files)
    if all(count == 1 for count in stems.values()):
        return [PurePosixPath(file.name) for file in files]
    top = Path(os.path.commonpath([file.parent for file in files]))
    names = [PurePosixPath(*(part for part in file.relative_to(top).parts if part != "images")) for file in files]
    if len(set(names)) < len(set(files)):
        raise DataError(
            f"Images in different folders named `images` under {top} have the same name, so that their copies would "
            "replace each other. Split without copy=True, or rename them."
        )
    return names


def _list_line(file: Path, folder: Path) -> str:
    """Return the line of an image in a list: relative where the list is beside the images, else absolute.

    A line that starts with `./` is relative to the list, so the folder that holds both can be moved.
    """
    if file.is_relative_to(folder.parent):
        return f"./{Path(os.path.relpath(file, folder)).as_posix()}"
    return str(file)


def dataset_name(path: Path) -> str:
    """Return a short name of a data set: that of its file or, where it says nothing (`data.yaml`), of its folder."""
    absolute = Path(os.path.abspath(path))
    return absolute.parent.name or absolute.stem if absolute.stem.lower() in _PLAIN_NAMES else absolute.stem


def unused_folder(name: str) -> Path:
    """Return a path in the current folder that does not exist: `name`, `name2`, …."""
    number = 1
    while os.path.lexists(path := Path(name if number == 1 else f"{name}{number}")):
        number += 1
    return path


def warn_of_coco_record(files: Sequence[Path]) -> None:
    """Warn that areas and crowds, which a conversion from COCO stored beside the labels, are not copied."""
    from yolopose.data.convert import find_coco_record

    if files and find_coco_record(files[0]) is not None:
        LOGGER.warning(
            "The labels were converted from COCO: their areas and crowds, stored in labels/*.coco.json, are not "
            "copied. Split without copy=True to keep using them."
        )


def unique_files(dataset: Dataset, splits: Sequence[str]) -> list[Path]:
    """Return the images of several splits, sorted; an image in two of them occurs once."""
    files = {file: None for split in splits for file in dataset.image_files(split)}
    return sorted(files, key=str)


def describe_counts(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """Return a text table: one line per split, one column per value."""
    columns = list(next(iter(rows.values())))
    table = [["split", *columns], *([split, *(str(row[column]) for column in columns)] for split, row in rows.items())]
    widths = [max(len(line[index]) for line in table) for index in range(len(columns) + 1)]
    return "\n".join(
        "  ".join(text.ljust(width) if index == 0 else text.rjust(width) for index, (text, width) in enumerate(pairs))
        for pairs in (list(zip(line, widths, strict=True)) for line in table)
    )
