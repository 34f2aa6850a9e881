"""Annotations of a split as flat arrays, with a report of refused images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from yolopose.base.errors import DataError
from yolopose.base.log import LOGGER
from yolopose.base.text import one_line
from yolopose.data.dataset import Dataset
from yolopose.data.label_file import FloatArray, LabelIssue
from yolopose.data.label_scan import EMPTY, LABELED, MISSING, REFUSED, LabelScan, cache_path, load_scan
from yolopose.data.paths import PathList, label_path
from yolopose.data.unused_files import find_unused
from yolopose.geometry import Letterbox, cxcywh_to_xyxy

_MAX_LISTED = 5  # issues in an error message


@dataclass(frozen=True, slots=True)
class LabelCounts:
    """Number of images by the state of their labels.

    Attributes:
        labeled: with at least one instance.
        missing: without a label file.
        empty: with a label file without rows.
        refused: skipped because the image or its label file is not valid.
    """

    labeled: int
    missing: int
    empty: int
    refused: int

    @property
    def background(self) -> int:
        """Number of images without instances."""
        return self.missing + self.empty


@dataclass(frozen=True, slots=True)
class ImageLabels:
    """Instances of one image, or of several; those from `Annotations` are views of its arrays.

    Attributes:
        classes: (n,) int32.
        boxes: (n, 4) float32; float64 during augmentation.
        keypoints: (n, K, 3) x, y, v of the same type.
    """

    classes: npt.NDArray[np.int32]
    boxes: npt.NDArray[np.floating[Any]]
    keypoints: npt.NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Annotations:
    """Annotations of a split; flat arrays, which worker processes share without copying.

    `annotations[i]` are the normalized `ImageLabels` of image i.

    Attributes:
        files: the n usable images, sorted by path.
        shapes: (n, 2) int32 height, width in pixels, after EXIF orientation.
        offsets: (n + 1,) int64; the instances of image i are rows offsets[i]…offsets[i+1] of the next three.
        classes: (N,) int32.
        boxes: (N, 4) float32 cx, cy, w, h, normalized to 0…1.
        keypoints: (N, K, 3) float32 x, y normalized to 0…1, v (0: not labeled).
        issues: why images were refused.
        counts: number of images by the state of their labels.
    """

    files: Sequence[Path]
    shapes: npt.NDArray[np.int32]
    offsets: npt.NDArray[np.int64]
    classes: npt.NDArray[np.int32]
    boxes: FloatArray
    keypoints: FloatArray
    issues: tuple[LabelIssue, ...]
    counts: LabelCounts

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> ImageLabels:
        rows = slice(int(self.offsets[index]), int(self.offsets[index + 1]))
        return ImageLabels(self.classes[rows], self.boxes[rows], self.keypoints[rows])

    def subset(self, indices: Sequence[int]) -> Annotations:
        """Return the annotations of some of the images, in the given order.

        Args:
            indices: indices into `files`.
        """
        image_idx = np.asarray(indices, dtype=np.int64)
        sizes = np.diff(self.offsets)[image_idx]
        offsets = np.concatenate(([0], np.cumsum(sizes)))
        # row of the full arrays for each row of the subset
        rows = np.arange(offsets[-1]) + np.repeat(self.offsets[image_idx] - offsets[:-1], sizes)
        labeled = int((sizes > 0).sum())
        texts = PathList.of(self.files).texts
        return replace(
            self,
            files=PathList([texts[int(index)] for index in image_idx]),
            shapes=self.shapes[image_idx],
            offsets=offsets,
            classes=self.classes[rows],
            boxes=self.boxes[rows],
            keypoints=self.keypoints[rows],
            counts=LabelCounts(labeled, 0, len(image_idx) - labeled, self.counts.refused),
        )

    def to_letterbox(self, letterbox: Letterbox, index: int) -> ImageLabels:
        """Return the instances of an image in pixels of a network input.

        Args:
            letterbox: position of the image in the input.
            index: index of the image.

        Returns:
            Boxes as x1, y1, x2, y2; keypoints as x, y, v. Nothing is clipped.
        """
        labels = self[index]
        size = np.array(letterbox.inner[::-1], dtype=np.float32)
        shift = np.array((letterbox.left, letterbox.top), dtype=np.float32)
        keypoints = labels.keypoints.copy()
        keypoints[..., :2] = keypoints[..., :2] * size + shift
        boxes = cxcywh_to_xyxy(labels.boxes) * np.tile(size, 2) + np.tile(shift, 2)
        return ImageLabels(labels.classes, boxes.astype(np.float32, copy=False), keypoints)


def load_labels(
    dataset: Dataset,
    split: str,
    *,
    strict: bool = False,
    cache: bool = True,
    single_cls: bool = False,
    workers: int | None = None,
) -> Annotations:
    """Load the annotations of a split, from the cache if it is up to date, and log which images were refused.

    Args:
        dataset: the data set.
        split: `train`, `val` or `test`.
        strict: decode every image, and raise an error if any image or label file is refused. By default headers and
            ends of JPEG, PNG and WebP files are checked, in a tenth of the time.
        cache: read and write the cache in the labels folder (`SPLIT.yolopose.cache`).
        single_cls: set the class of every instance to 0, also of classes that the data set does not have.
        workers: number of threads that check images and parse labels; None or 0 chooses.

    Raises:
        DataError: the split has no images or no labeled image is usable, or a file is refused while `strict`.
    """
    images = dataset.image_paths(split)
    path = cache_path(images[0], split) if cache else None
    scan = load_scan(
        images,
        dataset.spec,
        dataset.root,
        title=f"{split} labels",
        cache=path,
        workers=workers,
        any_class=single_cls,
        decode=strict,
        find_unused=lambda: find_unused(dataset.image_folders(split)),
    )
    counts = LabelCounts(*(int((scan.status == status).sum()) for status in (LABELED, MISSING, EMPTY, REFUSED)))
    where = f"{dataset.yaml_path}, {split}"
    _check_usable(where, images, scan, counts, strict)
    _log_report(f"{dataset.yaml_path.name}, {split}", images, scan, counts)
    usable = scan.status != REFUSED
    keypoints = scan.keypoints if single_cls else _class_keypoints(f"{dataset.yaml_path.name}, {split}", scan, dataset)
    return Annotations(
        files=images if usable.all() else PathList(list(compress(images.texts, usable.tolist()))),
        shapes=scan.shapes[usable],
        # a refused image has no rows, so the arrays of rows remain as they are
        offsets=np.concatenate(([0], scan.offsets[1:][usable])),
        classes=np.zeros_like(scan.classes) if single_cls else scan.classes,
        boxes=scan.boxes,
        keypoints=keypoints,
        issues=scan.issues,
        counts=counts,
    )


def _class_keypoints(where: str, scan: LabelScan, dataset: Dataset) -> FloatArray:
    """Return the keypoints without those that the class of an instance does not have, and warn if there were such."""
    mask = dataset.spec.keypoints.point_mask(dataset.spec.nc)
    if mask is None:
        return scan.keypoints
    excess = ~mask[scan.classes] & (scan.keypoints[..., 2] != 0)
    if not excess.any():
        return scan.keypoints
    row, point = (int(values[0]) for values in excess.nonzero())
    cls = int(scan.classes[row])
    LOGGER.warning(
        f"Labels of {where}: {int(excess.sum())} keypoints are labeled that the class of their instance does not have "
        f"by class_keypoints, and are ignored; first: {dataset.spec.keypoints.keypoint_names(cls)[point]!r} of class "
        f"{dataset.spec.classes[cls]!r}."
    )
    return scan.keypoints * ~excess[..., None]


def _check_usable(where: str, images: Sequence[Path], scan: LabelScan, counts: LabelCounts, strict: bool) -> None:
    if counts.refused and (strict or counts.refused == len(images)):
        rule = "strict=True allows none" if strict else "no image is usable"
        raise DataError(f"{where}: {counts.refused} of {len(images)} images are refused; {rule}. {_list_issues(scan)}")
    if not counts.labeled:
        example = f"the label file of {images[0]} would be {label_path(images[0])}"
        reasons = f" {_list_issues(scan)}" if scan.issues else ""
        reasons += "".join(f"\n  {note.strip()}" for note in scan.notes)
        raise DataError(
            f"{where}: none of {len(images)} images has a labeled instance: {counts.missing} have no label file, "
            f"{counts.empty} have an empty one ({example}).{reasons}"
        )


def _list_issues(scan: LabelScan) -> str:
    lines = [f"\n  {issue}" for issue in scan.issues[:_MAX_LISTED]]
    more = len(scan.issues) - len(lines)
    return f"Fix or remove the refused files; the first are:{''.join(lines)}" + (
        f"\n  … and {more} more" if more else ""
    )


def _log_report(where: str, images: Sequence[Path], scan: LabelScan, counts: LabelCounts) -> None:
    """Log the counts, and one table of all issues and warnings by kind."""
    LOGGER.info(
        f"{where}: {counts.labeled + counts.background} images, {len(scan.classes)} instances, {counts.background} "
        f"images without instances, {counts.refused} refused"
    )
    first_issue = {issue.kind: issue for issue in reversed(scan.issues)}
    lines = [
        f"  {count:>6}  refused: {kind}; first: {first_issue[kind]}"
        for kind, count in Counter(issue.kind for issue in scan.issues).most_common()
    ]
    lines += [
        f"  {count:>6}  accepted: {warning}; first: {one_line(label_path(images[index]))}"
        for warning, (count, index) in scan.warnings.items()
    ]
    lines += [f"  {note}" for note in scan.notes]
    if lines:
        LOGGER.warning(f"Labels of {where}: number of files by reason:\n" + "\n".join(lines))
