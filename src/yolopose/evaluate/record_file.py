"""Read the file of a run record, which may come from a stranger: every column and every reference is checked."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from yolopose.base.archives import open_zip, read_zip_member
from yolopose.base.errors import DataError
from yolopose.evaluate.diagnostics import OUTCOME_MASK
from yolopose.evaluate.matching import THRESHOLDS, KeypointOutcome
from yolopose.schema import MAX_CLASSES, MAX_KEYPOINTS

_MAX_BYTES = 768 << 20  # of all columns; those of 5000 images with 100 detections each have 40 MB
_MAX_SIDE = 1 << 20
_TEXTS = ("image_names", "run_info")

Array = npt.NDArray[Any]
ColumnTypes = Mapping[str, tuple[type[np.generic], tuple[int, ...]]]


def read_columns(path: Path, names: tuple[str, ...]) -> dict[str, Array]:
    """Return the columns in a file, and `format`; nothing is unpickled, and what the file states is counted.

    Raises:
        DataError: a column is missing, or they are too large.
        OSError: it cannot be read.
        ValueError: a column is not an array of numbers.
    """
    columns: dict[str, Array] = {}
    remaining = _MAX_BYTES
    with open_zip(path) as archive:
        members = {member.filename: member for member in archive.infolist()}
        for name in names:
            if f"{name}.npy" not in members:
                raise DataError(f"{path} has no column {name}")
            data = read_zip_member(path, archive, members[f"{name}.npy"], remaining)
            remaining -= len(data)
            columns[name] = _parse_array(data, name)
    return columns


def _parse_array(data: bytes, name: str) -> Array:
    stream = io.BytesIO(data)
    if np.lib.format.read_magic(stream) == (1, 0):
        shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
    else:
        shape, _, dtype = np.lib.format.read_array_header_2_0(stream)
    # checked before numpy allocates it
    if dtype.hasobject or np.prod([float(side) for side in shape]) * dtype.itemsize > len(data):
        raise ValueError(f"the column {name} is not an array of its size")
    stream.seek(0)
    return np.lib.format.read_array(stream, allow_pickle=False)


def check_columns(columns: Mapping[str, Array], types: ColumnTypes, num_images: int, num_classes: int | None) -> str:
    """Return what is wrong with the columns of a record; an empty text if nothing is.

    Args:
        columns: the columns.
        types: dtype and shape of a row of each, as from `column_types`, for the keypoints of `gt_keypoints`.
        num_images: I.
        num_classes: number of classes, if known.
    """
    for name, (dtype, shape) in types.items():
        if columns[name].dtype != dtype or columns[name].shape[1:] != shape:
            return f"the column {name} has another type or shape"
    lengths: dict[str, set[int]] = {"image": {num_images}}
    for name in types:  # columns of the same prefix describe the same rows
        lengths.setdefault(name.partition("_")[0], set()).add(len(columns[name]))
    if any(len(sizes) > 1 for sizes in lengths.values()):
        return "its columns differ in length"
    bounds = _bounds(columns, num_images, MAX_CLASSES if num_classes is None else num_classes)
    for name, (low, high) in bounds.items():
        values = columns[name]
        if values.size and not bool(((values >= low) & (values <= high)).all()):  # False for NaN, too
            return f"the column {name} has values out of {low:g} to {high:g}"
    for name in ("pair_torso", "pair_distance"):  # NaN means unknown
        if bool((columns[name] < 0).any()) or bool(np.isinf(columns[name]).any()):
            return f"the column {name} has values that are not distances"
    return _reference_problem(columns, num_images)


def keypoint_count(columns: Mapping[str, Array]) -> int:
    """Return K of the column of keypoints; 0 if it has another shape."""
    shape = columns["gt_keypoints"].shape
    return shape[1] if len(shape) == 3 and 1 <= shape[1] <= MAX_KEYPOINTS else 0


def parse_json(column: Array) -> Any:
    """Return the JSON values in a column of bytes.

    Raises:
        ValueError: it is not JSON, or nested too deeply.
    """
    try:
        return json.loads(column.astype(np.uint8).tobytes())
    except RecursionError as error:
        raise ValueError("values are nested too deeply") from error


def _bounds(columns: Mapping[str, Array], num_images: int, num_classes: int) -> dict[str, tuple[float, float]]:
    num_gt = len(columns["gt_image"])
    num_det = len(columns["det_image"])
    finite = float(np.finfo(np.float32).max)
    return {
        "image_size": (1, _MAX_SIDE),
        "det_image": (0, num_images - 1),
        "det_score": (0, 1),
        "det_class": (0, num_classes - 1),
        "det_box_match": (-1, num_gt - 1),
        "det_pose_match": (-1, num_gt - 1),
        "det_any_match": (-2, num_gt - 1),
        "det_corrected": (0, 2 ** len(THRESHOLDS) - 1),
        "gt_image": (0, num_images - 1),
        "gt_class": (0, num_classes - 1),
        "gt_box_area": (0, finite),
        "gt_labeled": (0, columns["gt_keypoints"].shape[1]),
        "gt_crowding": (0, 1 + 1e-3),
        "stored_det": (0, num_det - 1),
        "pair_gt": (0, num_gt - 1),
        "pair_det": (0, num_det - 1),
        "pair_diagonal": (0, finite),
        "pair_outcome": (0, 31),
    }


def _reference_problem(columns: Mapping[str, Array], num_images: int) -> str:
    """Return which reference between rows is wrong: matches are indices within the image of their detection."""
    if bool((np.diff(columns["gt_image"]) < 0).any()):
        return "the ground truths are not in the order of their images"
    counts = np.bincount(columns["gt_image"], minlength=num_images)[columns["det_image"]]
    for name in ("det_box_match", "det_pose_match", "det_any_match"):
        matches = columns[name]
        limit = counts[:, None] if matches.ndim == 2 else counts
        if bool((matches >= limit).any()):
            return f"the column {name} refers to ground truths that do not exist"
    outcomes = columns["pair_outcome"] & OUTCOME_MASK
    if bool((outcomes > max(KeypointOutcome)).any()):
        return "the column pair_outcome has values that are not outcomes"
    pairs = columns["gt_image"][columns["pair_gt"]] == columns["det_image"][columns["pair_det"]]
    return "" if bool(pairs.all()) else "pairs join a ground truth and a detection of two images"
