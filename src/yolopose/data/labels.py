"""The labels of a split as flat arrays, with a report of what was refused and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from yolopose.base.errors import DataError
from yolopose.base.log import LOGGER
from yolopose.data.dataset import Dataset
from yolopose.data.label_cache import cache_path, fingerprint, read_cache, write_cache
from yolopose.data.label_file import FloatArray, LabelIssue
from yolopose.data.label_scan import EMPTY, LABELED, MISSING, REFUSED, Scan, scan_files
from yolopose.data.paths import label_path
from yolopose.geometry import Letterbox, cxcywh_to_xyxy

_SHOWN = 5  # refusals in an error text


@dataclass(frozen=True, slots=True)
class LabelCounts:
    """How many images had what.

    Attributes:
        labeled: label files with at least one object.
        missing: images without a label file.
        empty: label files without a row.
        refused: images left out.
    """

    labeled: int
    missing: int
    empty: int
    refused: int

    @property
    def background(self) -> int:
        """Images without an object."""
        return self.missing + self.empty


@dataclass(frozen=True, slots=True)
class ImageLabels:
    """Objects of one image, or of several; those of the table are views into it.

    Attributes:
        classes: (n,) int32.
        boxes: (n, 4) float32; float64 on their way through augmentation.
        keypoints: (n, K, 3) x, y, v of the same type.
    """

    classes: npt.NDArray[np.int32]
    boxes: npt.NDArray[np.floating[Any]]
    keypoints: npt.NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Annotations:
    """Labels of a split; flat arrays, so that worker processes share them without copying.

    Attributes:
        files: the n images that are left, by sorted path.
        shapes: (n, 2) int32 height, width in pixels, after EXIF orientation.
        offsets: (n + 1,) int64; objects of image i are rows offsets[i]…offsets[i+1] of the next three.
        classes: (N,) int32.
        boxes: (N, 4) float32 cx, cy, w, h, normalized 0…1.
        keypoints: (N, K, 3) float32 x, y normalized 0…1, v (0: not labeled).
        issues: why images were refused.
        counts: how many images had what.
    """

    files: list[Path]
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
        """Return the objects of an image, normalized."""
        rows = slice(int(self.offsets[index]), int(self.offsets[index + 1]))
        return ImageLabels(self.classes[rows], self.boxes[rows], self.keypoints[rows])

    def subset(self, indices: Sequence[int]) -> Annotations:
        """Return the annotations of some of the images, in the given order.

        Args:
            indices: indices into `files`.
        """
        idx = np.asarray(indices, dtype=np.int64)
        sizes = np.diff(self.offsets)[idx]
        offsets = np.concatenate(([0], np.cumsum(sizes)))
        # row of the full arrays for each row of the subset
        rows = np.arange(offsets[-1]) + np.repeat(self.offsets[idx] - offsets[:-1], sizes)
        labeled = int((sizes > 0).sum())
        return replace(
            self,
            files=[self.files[index] for index in idx],
            shapes=self.shapes[idx],
            offsets=offsets,
            classes=self.classes[rows],
            boxes=self.boxes[rows],
            keypoints=self.keypoints[rows],
            counts=LabelCounts(labeled, 0, len(idx) - labeled, self.counts.refused),
        )

    def to_letterbox(self, letterbox: Letterbox, index: int) -> ImageLabels:
        """Return the objects of an image in pixels of a network input.

        Args:
            letterbox: where the image lies in the input.
            index: which image.

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
    workers: int = 0,
) -> Annotations:
    """Read the labels of a split, from the cache where that fits, and reports what was refused.

    Args:
        dataset: the data set.
        split: `train`, `val` or `test`.
        strict: make any refused file an error.
        cache: read and write the cache in the labels folder (`SPLIT.yolopose.npz`).
        single_cls: give every object class 0.
        workers: threads that decode and parse; 0 chooses.

    Raises:
        DataError: the split has no images, nothing usable is left of them, or a file is refused while `strict`.
    """
    images = dataset.image_files(split)
    scan = _scan(dataset, split, images, cache, workers)
    counts = LabelCounts(*(int((scan.status == status).sum()) for status in (LABELED, MISSING, EMPTY, REFUSED)))
    _check_usable(dataset, split, images, scan, counts, strict)
    _report(dataset, split, images, scan, counts)
    kept = scan.status != REFUSED
    return Annotations(
        files=[image for image, keep in zip(images, kept, strict=True) if keep],
        shapes=scan.shapes[kept],
        # a refused image has no rows, so the rows themselves need no choosing
        offsets=np.concatenate(([0], scan.offsets[1:][kept])),
        classes=np.zeros_like(scan.classes) if single_cls else scan.classes,
        boxes=scan.boxes,
        keypoints=scan.keypoints,
        issues=scan.issues,
        counts=counts,
    )


def _scan(dataset: Dataset, split: str, images: Sequence[Path], cache: bool, workers: int) -> Scan:
    title = f"{split} labels"
    if not cache:
        return scan_files(images, dataset.spec, title=title, workers=workers)
    path = cache_path(images[0], split)
    key = fingerprint(images, dataset.spec, dataset.root)
    scan = read_cache(path, key, images)
    if scan is None:
        scan = scan_files(images, dataset.spec, title=title, workers=workers)
        write_cache(path, key, images, scan)
    return scan


def _check_usable(
    dataset: Dataset, split: str, images: Sequence[Path], scan: Scan, counts: LabelCounts, strict: bool
) -> None:
    where = f"{dataset.yaml_path}, {split}"
    if counts.refused and (strict or counts.refused == len(images)):
        rule = "strict=True allows none" if strict else "nothing is left"
        raise DataError(f"{where}: {counts.refused} of {len(images)} images are refused; {rule}. {_first(scan)}")
    if not counts.labeled:
        example = f"the labels of {images[0]} would be {label_path(images[0])}"
        reasons = f" {_first(scan)}" if scan.issues else ""
        raise DataError(
            f"{where}: no labeled object was found in {len(images)} images: {counts.missing} have no label file, "
            f"{counts.empty} an empty one ({example}).{reasons}"
        )


def _first(scan: Scan) -> str:
    lines = [f"\n  {one}" for one in scan.issues[:_SHOWN]]
    more = len(scan.issues) - len(lines)
    return f"Mend or remove what is refused; the first are:{''.join(lines)}" + (
        f"\n  … and {more} more" if more else ""
    )


def _report(dataset: Dataset, split: str, images: Sequence[Path], scan: Scan, counts: LabelCounts) -> None:
    """One line of numbers, and one table of what was refused or odd."""
    total = counts.labeled + counts.background
    LOGGER.info(
        f"{dataset.yaml_path.name} {split}: {total} images, {len(scan.classes)} objects, "
        f"{counts.background} without an object, {counts.refused} refused"
    )
    lines: list[str] = []
    first = {one.kind: one for one in reversed(scan.issues)}
    for kind, count in Counter(one.kind for one in scan.issues).most_common():
        lines.append(f"  {count:>6}  refused: {kind}; first: {first[kind]}")
    for note, (count, index) in scan.notes.items():
        lines.append(f"  {count:>6}  accepted: {note}; first: {label_path(images[index])}")
    if lines:
        LOGGER.warning(f"labels of {dataset.yaml_path} {split}, files by reason:\n" + "\n".join(lines))
