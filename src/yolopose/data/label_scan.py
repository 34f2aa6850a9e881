"""Decode every image and parse every label file of a split."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from yolopose.base.errors import SourceError
from yolopose.base.log import LOGGER
from yolopose.base.prefetch import map_ordered
from yolopose.base.progress import progress
from yolopose.config import limit_workers
from yolopose.data.images import decode_image
from yolopose.data.label_file import FileLabels, FloatArray, LabelError, LabelIssue, read_label_file
from yolopose.data.paths import label_path
from yolopose.schema import PoseSpec

LABELED, MISSING, EMPTY, REFUSED = range(4)
MIN_SIDE = 10  # pixels


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LabelScan:
    """The result for each of n listed images, as flat arrays.

    Attributes:
        status: (n,) uint8 LABELED, MISSING (no label file), EMPTY (a label file without rows) or REFUSED.
        shapes: (n, 2) int32 height, width in pixels after EXIF orientation; 0 for refused images.
        offsets: (n + 1,) int64; the instances of image i are rows offsets[i]…offsets[i+1] of the next three.
        classes: (N,) int32.
        boxes: (N, 4) float32 cx, cy, w, h, normalized.
        keypoints: (N, K, 3) float32 x, y, v, normalized.
        issues: why images were refused, in the order of the images.
        warnings: unusual values that were accepted: description → (number of images, index of the first).
    """

    status: npt.NDArray[np.uint8]
    shapes: npt.NDArray[np.int32]
    offsets: npt.NDArray[np.int64]
    classes: npt.NDArray[np.int32]
    boxes: FloatArray
    keypoints: FloatArray
    issues: tuple[LabelIssue, ...]
    warnings: dict[str, tuple[int, int]]


@dataclass(frozen=True, slots=True)
class _ImageScan:
    shape: tuple[int, int] = (0, 0)
    labels: FileLabels | None = None
    issue: LabelIssue | None = None

    @property
    def status(self) -> int:
        if self.issue is not None:
            return REFUSED
        if self.labels is None:
            return MISSING
        return LABELED if len(self.labels.classes) else EMPTY


def scan_labels(images: Sequence[Path], spec: PoseSpec, *, title: str, workers: int | None = None) -> LabelScan:
    """Decode every image and parse every label file.

    Args:
        images: the images.
        spec: number of classes and shape of the keypoints.
        title: text of the progress bar.
        workers: number of threads; None or 0 chooses.
    """
    threads = limit_workers(workers or None)
    scans = map_ordered(lambda image: _scan_image(image, spec), images, threads=threads, ahead=4 * threads)
    visible = LOGGER.isEnabledFor(logging.INFO)
    return _join(list(progress(scans, title, len(images), visible)), spec.keypoints.count)


def _scan_image(image: Path, spec: PoseSpec) -> _ImageScan:
    label = label_path(image)
    try:
        shape = _image_shape(image)
    except LabelError as error:
        return _ImageScan(issue=LabelIssue(image, None, None, error.kind, error.reason))
    try:
        return _ImageScan(shape, read_label_file(label, spec))
    except LabelError as error:
        return _ImageScan(issue=LabelIssue(label, error.row, error.column, error.kind, error.reason))


def _image_shape(image: Path) -> tuple[int, int]:
    """Return (height, width) after decoding, since a header does not show whether the pixels can be read."""
    try:
        height, width = decode_image(image.read_bytes(), image.name).shape[:2]
    except FileNotFoundError:
        raise LabelError("image does not exist", "the image is listed but does not exist") from None
    except OSError as error:
        raise LabelError("image unreadable", f"the image cannot be read ({error.strerror or error})") from error
    except SourceError as error:
        raise LabelError("image does not decode", str(error)) from error
    if min(height, width) < MIN_SIDE:
        raise LabelError(
            "image too small", f"the image is {width}×{height} pixels; both sides must have at least {MIN_SIDE}"
        )
    return height, width


def _join(scans: Sequence[_ImageScan], num_keypoints: int) -> LabelScan:
    labels = [scan.labels for scan in scans if scan.labels is not None]
    counts = [0 if scan.labels is None else len(scan.labels.classes) for scan in scans]
    warnings: dict[str, tuple[int, int]] = {}
    for index, scan in enumerate(scans):
        for warning in () if scan.labels is None else scan.labels.warnings:
            count, first = warnings.get(warning, (0, index))
            warnings[warning] = count + 1, first
    # each list starts with an empty array: np.concatenate needs at least one, and it sets shape and dtype
    return LabelScan(
        status=np.array([scan.status for scan in scans], dtype=np.uint8),
        shapes=np.array([scan.shape for scan in scans], dtype=np.int32).reshape(-1, 2),
        offsets=np.concatenate(([0], np.cumsum(counts, dtype=np.int64))),
        classes=np.concatenate([np.zeros(0, np.int32), *(file.classes for file in labels)]),
        boxes=np.concatenate([np.zeros((0, 4), np.float32), *(file.boxes for file in labels)]),
        keypoints=np.concatenate([np.zeros((0, num_keypoints, 3), np.float32), *(file.keypoints for file in labels)]),
        issues=tuple(scan.issue for scan in scans if scan.issue is not None),
        warnings=warnings,
    )
