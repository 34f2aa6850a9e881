"""All images and label files of a split, read once: what the cache keeps."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from yolopose.base.cpu import available_cpus
from yolopose.base.errors import SourceError
from yolopose.base.log import LOGGER
from yolopose.base.progress import progress
from yolopose.data.images import decode_image
from yolopose.data.label_file import FloatArray, LabelError, LabelIssue, Rows, read_label_file
from yolopose.data.paths import label_path
from yolopose.schema import PoseSpec

LABELED, MISSING, EMPTY, REFUSED = range(4)
MIN_SIDE = 10  # pixels


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scan:
    """What was found for each of n listed images, as flat arrays.

    Attributes:
        status: (n,) uint8 LABELED, MISSING (no label file), EMPTY (a file without rows) or REFUSED.
        shapes: (n, 2) int32 height, width in pixels after EXIF orientation; 0 for refused ones.
        offsets: (n + 1,) int64; objects of image i are rows offsets[i]…offsets[i+1] of the next three.
        classes: (N,) int32.
        boxes: (N, 4) float32 cx, cy, w, h, normalized.
        keypoints: (N, K, 3) float32 x, y, v, normalized.
        refused: why images were left out, one entry each.
        notes: accepted oddities: a few words → the number of images and the index of the first.
    """

    status: npt.NDArray[np.uint8]
    shapes: npt.NDArray[np.int32]
    offsets: npt.NDArray[np.int64]
    classes: npt.NDArray[np.int32]
    boxes: FloatArray
    keypoints: FloatArray
    issues: tuple[LabelIssue, ...]
    notes: dict[str, tuple[int, int]]


@dataclass(frozen=True, slots=True)
class _Found:
    shape: tuple[int, int] = (0, 0)
    rows: Rows | None = None
    refusal: LabelIssue | None = None


def worker_count(workers: int) -> int:
    """Return the number of threads to use: the given one, or for 0 one for each core, at most 8."""
    return workers if workers > 0 else min(8, available_cpus())


def scan_files(images: Sequence[Path], spec: PoseSpec, *, title: str, workers: int = 0) -> Scan:
    """Decode every image and parses every label file.

    Args:
        images: the images.
        spec: number of classes and shape of the keypoints.
        title: words in front of the progress bar.
        workers: threads; 0 chooses.
    """
    with ThreadPoolExecutor(worker_count(workers)) as pool:
        found = pool.map(lambda image: _scan_one(image, spec), images)
        shown = LOGGER.isEnabledFor(logging.INFO)
        return _join(list(progress(found, title, len(images), shown)), spec.keypoints.count)


def _scan_one(image: Path, spec: PoseSpec) -> _Found:
    """Read one image and its label file; every fault becomes a refusal."""
    label = label_path(image)
    try:
        shape = _image_shape(image)
    except LabelError as error:
        return _Found(refusal=LabelIssue(image, None, None, error.kind, error.reason))
    try:
        return _Found(shape, read_label_file(label, spec))
    except LabelError as error:
        return _Found(refusal=LabelIssue(label, error.row, error.column, error.kind, error.reason))


def _image_shape(image: Path) -> tuple[int, int]:
    try:
        height, width = decode_image(image.read_bytes(), image.name).shape[:2]
    except FileNotFoundError:
        raise LabelError("image not there", "the image is listed but is not there") from None
    except OSError as error:
        raise LabelError("image unreadable", f"the image cannot be read ({error.strerror or error})") from error
    except SourceError as error:
        raise LabelError("image does not decode", str(error)) from error
    if min(height, width) < MIN_SIDE:
        raise LabelError(
            "image too small", f"the image is {width}×{height} pixels; under {MIN_SIDE} on a side is refused"
        )
    return height, width


def _join(found: Sequence[_Found], keypoints: int) -> Scan:
    rows = [one.rows for one in found if one.rows is not None]
    counts = [len(one.rows.classes) if one.rows is not None else 0 for one in found]
    notes: dict[str, tuple[int, int]] = {}
    for index, one in enumerate(found):
        for note in one.rows.notes if one.rows is not None else ():
            count, first = notes.get(note, (0, index))
            notes[note] = count + 1, first
    return Scan(
        status=np.array([_status(one) for one in found], dtype=np.uint8),
        shapes=np.array([one.shape for one in found], dtype=np.int32).reshape(-1, 2),
        offsets=np.concatenate(([0], np.cumsum(counts, dtype=np.int64))),
        classes=np.concatenate([np.zeros(0, np.int32), *(one.classes for one in rows)]),
        boxes=np.concatenate([np.zeros((0, 4), np.float32), *(one.boxes for one in rows)]),
        keypoints=np.concatenate([np.zeros((0, keypoints, 3), np.float32), *(one.keypoints for one in rows)]),
        issues=tuple(one.refusal for one in found if one.refusal is not None),
        notes=notes,
    )


def _status(found: _Found) -> int:
    if found.refusal is not None:
        return REFUSED
    if found.rows is None:
        return MISSING
    return LABELED if len(found.rows.classes) else EMPTY
