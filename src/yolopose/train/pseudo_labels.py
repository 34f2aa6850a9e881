"""Pseudo labels: predictions of a trained network on images without labels, where its views agree.

The network sees each image as it is, mirrored, and smaller (data distillation, Radosavovic et al., arXiv 1712.04440).
An instance is labeled where all views detect it and its keypoints are at the same place; the label is the mean of the
views. An image with an instance that only some views detect is not used, because an instance without a label would be
trained as background.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from yolopose.base.errors import DataError, NotFoundError, TrainError, UsageError
from yolopose.base.files import atomic_path
from yolopose.base.log import LOGGER, quiet
from yolopose.base.progress import progress
from yolopose.config import PredictOptions, TrainSettings
from yolopose.data import Annotations, ImageLabels
from yolopose.data.array_file import read_arrays, write_arrays
from yolopose.data.images import is_image
from yolopose.data.labels import LabelCounts
from yolopose.data.paths import PathList
from yolopose.geometry import box_iou
from yolopose.predict import predict
from yolopose.predict.active_learning import match_detections
from yolopose.results import Results
from yolopose.results.arrays import to_numpy
from yolopose.runtime import Runtime
from yolopose.schema import PoseSpec
from yolopose.train.data import TrainData

FILE_NAME = "pseudo_labels.bin"
"""File of the run folder from which a resumed run reads the pseudo labels."""

_CHUNK = 32  # images
_SMALLER = 0.75  # side of the smaller view, as a share of imgsz
_DOUBTFUL = 0.25  # confidence from which a detection that the views do not share makes an image unusable
_LOW = 0.1  # confidence from which detections of a view are compared
_SURE_POINT = 0.5  # confidence from which a keypoint is labeled
_MAX_DEVIATION = 0.1  # of a keypoint from the mean of the views, as a share of the root of the box area
_MIN_AGREEING = 0.5  # share of the sure keypoints of an instance that must agree
_BLANK = np.zeros((32, 32, 3), dtype=np.uint8)
_DTYPES = {
    "shapes": np.int32, "offsets": np.int64, "classes": np.int32, "boxes": np.float32, "keypoints": np.float32
}  # fmt: skip

Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """Detections of one view, in pixels of the original image.

    Attributes:
        boxes: (n, 4) x1, y1, x2, y2.
        scores: (n,) confidences.
        classes: (n,) int64, classes of the data.
        points: (n, K, 3) x, y, confidence.
    """

    boxes: Float64
    scores: Float64
    classes: npt.NDArray[np.int64]
    points: Float64


def make_pseudo_labels(
    runtime: Runtime, source: str, data: TrainData, settings: TrainSettings, columns: Sequence[int]
) -> Annotations:
    """Predict the images of a folder and return those whose labels can be trusted.

    Args:
        runtime: the engine of the teacher.
        source: folder (with subfolders), image, or list of images (.txt).
        data: of the run; its own images are not used again.
        settings: of the run.
        columns: class of the teacher for each class of the data.

    Raises:
        NotFoundError: the source does not exist.
        DataError: no image is usable.
    """
    known = {os.path.realpath(file) for labels in (data.train, data.val) if labels is not None for file in labels.files}
    files = [file for file in _image_files(source) if os.path.realpath(file) not in known]
    if not files:
        raise DataError(f"unlabeled={source} contains no images besides those of the data set.")
    labeled: list[tuple[str, tuple[int, int], ImageLabels]] = []
    unsure = 0
    rows = _predict_views(runtime, files, data.spec, settings, columns)
    for path, size, views in progress(rows, "pseudo labels", len(files), settings.verbose):
        if size is None:
            continue
        labels = agreed_labels(views, size, settings.unlabeled_conf)
        if labels is None:
            unsure += 1
        elif len(labels.classes):
            labeled.append((path, size, labels))
    LOGGER.info(
        f"Pseudo labels for {len(labeled)} of {len(files)} images of unlabeled={source}, "
        f"{sum(len(labels.classes) for _, _, labels in labeled)} instances. In {unsure} the views of the teacher "
        f"differ, in {len(files) - len(labeled) - unsure} it is sure of no instance."
    )
    if not labeled:
        raise DataError(
            f"None of the {len(files)} images of unlabeled={source} gets pseudo labels: the teacher is not sure, or "
            "its views differ. Train it for longer, lower unlabeled_conf, or omit unlabeled."
        )
    return _annotations(labeled, data.spec)


def _image_files(source: str) -> list[str]:
    path = Path(source).expanduser()
    if path.is_dir():
        return sorted(str(file) for file in path.rglob("*") if is_image(file) and file.is_file())
    if not path.is_file():
        raise NotFoundError(f"unlabeled={source} does not exist: give a folder of images, or a .txt list of them.")
    if path.suffix.lower() != ".txt":
        return [str(path)]
    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    return [line if os.path.isabs(line) else str(path.parent / line) for line in lines]


def _predict_views(
    runtime: Runtime, files: Sequence[str], spec: PoseSpec, settings: TrainSettings, columns: Sequence[int]
) -> Iterator[tuple[str, tuple[int, int] | None, list[View]]]:
    """Yield path, (height, width) and the views of each image; None where it cannot be read."""
    flip = spec.keypoints.flip_idx
    options: dict[str, Any] = {
        "conf": _LOW,
        "batch": 8,
        "iou": settings.iou,
        "max_det": settings.max_det,
        "verbose": False,
    }
    stride = runtime.metadata.stride
    smaller = max(round(settings.imgsz * _SMALLER / stride), 1) * stride
    for start in range(0, len(files), _CHUNK):
        chunk = list(files[start : start + _CHUNK])
        # a further image: a source with a single one that cannot be read is an error
        with quiet():
            results = list(predict(runtime, [*chunk, _BLANK], PredictOptions(imgsz=settings.imgsz, **options)))
        results.pop()
        readable = [result for result in results if not result.error]
        views = [[_view(result, columns)] for result in readable]
        images = [np.asarray(result.orig_img) for result in readable]
        if images and flip is not None:
            mirrored = [np.ascontiguousarray(image[:, ::-1]) for image in images]
            others = predict(runtime, mirrored, PredictOptions(imgsz=settings.imgsz, **options))
            for own, other in zip(views, others, strict=True):
                own.append(mirror(_view(other, columns), other.orig_shape[1], flip))
        if images and runtime.metadata.dynamic and smaller < settings.imgsz:
            others = predict(runtime, images, PredictOptions(imgsz=smaller, **options))
            for own, other in zip(views, others, strict=True):
                own.append(_view(other, columns))
        remaining = iter(views)
        for path, result in zip(chunk, results, strict=True):
            yield (path, None, []) if result.error else (path, result.orig_shape, next(remaining))


def _view(result: Results, columns: Sequence[int]) -> View:
    data = to_numpy(result.boxes.data).astype(np.float64)
    points = to_numpy(result.keypoints.data).astype(np.float64)
    if points.shape[2] == 2:  # without confidences all points count
        points = np.concatenate((points, np.ones((*points.shape[:2], 1))), axis=2)
    own_class = {cls: index for index, cls in enumerate(columns)}
    classes = np.array([own_class.get(int(cls), -1) for cls in data[:, -1]], dtype=np.int64)
    keep = classes >= 0
    return View(data[keep, :4], data[keep, -2], classes[keep], points[keep])


def mirror(view: View, width: int, flip_idx: Sequence[int]) -> View:
    """Return the detections of a mirrored image in pixels of the image itself."""
    boxes = view.boxes[:, [2, 1, 0, 3]] * [-1, 1, -1, 1] + [width, 0, width, 0]
    points = view.points[:, list(flip_idx)].copy()
    points[..., 0] = width - points[..., 0]
    return View(boxes, view.scores, view.classes, points)


def agreed_labels(views: Sequence[View], size: tuple[int, int], conf: float) -> ImageLabels | None:
    """Return the labels that all views share.

    Args:
        views: detections of each view.
        size: (height, width) of the image, pixels.
        conf: mean confidence from which an instance is labeled.

    Returns:
        Normalized boxes cx, cy, w, h and keypoints, without rows if no view detects anything; None if the views differ.
    """
    first = views[0]
    matches = [dict(match_detections(_overlap(first, other), first.scores)) for other in views[1:]]
    used: list[set[int]] = [set() for _ in views]
    rows: list[tuple[int, Float64, Float64]] = []
    for row in range(len(first.scores)):
        if not all(row in match for match in matches):
            continue
        members = [row, *(match[row] for match in matches)]
        scores = [view.scores[member] for view, member in zip(views, members, strict=True)]
        box = np.mean([view.boxes[member] for view, member in zip(views, members, strict=True)], axis=0)
        points = _mean_points([view.points[member] for view, member in zip(views, members, strict=True)], box)
        if np.mean(scores) < conf or points is None:
            continue
        rows.append((int(first.classes[row]), box, points))
        for indices, member in zip(used, members, strict=True):
            indices.add(member)
    for view, indices in zip(views, used, strict=True):
        if any(score >= _DOUBTFUL and index not in indices for index, score in enumerate(view.scores)):
            return None
    return _normalized(rows, size, first.points.shape[1])


def _overlap(first: View, second: View) -> Float64:
    """Return the IoU of all pairs; 0 for different classes."""
    overlap = np.asarray(box_iou(first.boxes, second.boxes), dtype=np.float64)
    return overlap * (first.classes[:, None] == second.classes)


def _mean_points(views: Sequence[Float64], box: Float64) -> Float64 | None:
    """Return (K, 3) mean positions with v = 2 where the views are sure and agree; None if too few keypoints do."""
    points = np.stack(views)
    weight = points[..., 2:] + 1e-9
    mean = (points[..., :2] * weight).sum(axis=0) / weight.sum(axis=0)
    scale = max(float(np.sqrt(max((box[2] - box[0]) * (box[3] - box[1]), 0.0))), 1.0)
    deviation = np.linalg.norm(points[..., :2] - mean, axis=2).max(axis=0) / scale
    sure = points[..., 2].mean(axis=0) >= _SURE_POINT
    agreeing = sure & (deviation <= _MAX_DEVIATION)
    if not agreeing.any() or agreeing.sum() < _MIN_AGREEING * sure.sum():
        return None
    return np.concatenate((mean, np.where(agreeing, 2.0, 0.0)[:, None]), axis=1)


def _normalized(rows: Sequence[tuple[int, Float64, Float64]], size: tuple[int, int], count: int) -> ImageLabels:
    """Return rows of class, corners and keypoints in pixels as labels; points outside the image have v = 0."""
    sides = np.array(size[::-1], dtype=np.float64)
    boxes = np.array([box for _, box, _ in rows], dtype=np.float64).reshape(-1, 4) / np.tile(sides, 2)
    boxes = boxes.clip(0, 1)
    points = np.array([points for _, _, points in rows], dtype=np.float64).reshape(-1, count, 3)
    points = points / np.append(sides, 1)
    inside = ((points[..., :2] >= 0) & (points[..., :2] <= 1)).all(axis=2) & (points[..., 2] > 0)
    points = np.where(inside[..., None], points, 0.0)
    centers = np.concatenate(((boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]), axis=1)
    classes = np.array([cls for cls, _, _ in rows], dtype=np.int32)
    return ImageLabels(classes, centers.astype(np.float32), points.astype(np.float32))


def _annotations(labeled: Sequence[tuple[str, tuple[int, int], ImageLabels]], spec: PoseSpec) -> Annotations:
    labels = [row for _, _, row in labeled]
    return Annotations(
        files=PathList([os.path.abspath(path) for path, _, _ in labeled]),
        shapes=np.array([size for _, size, _ in labeled], dtype=np.int32),
        offsets=np.concatenate(([0], np.cumsum([len(row.classes) for row in labels]))).astype(np.int64),
        classes=np.concatenate([row.classes for row in labels]),
        boxes=np.concatenate([row.boxes for row in labels]).astype(np.float32),
        keypoints=np.concatenate([row.keypoints for row in labels])
        .reshape(-1, spec.keypoints.count, 3)
        .astype(np.float32),
        issues=(),
        counts=LabelCounts(len(labeled), 0, 0, 0),
    )


# -- storage: a resumed run and other processes must use the same labels --------------------------


def to_plain(labels: Annotations | None) -> dict[str, Any] | None:
    """Return pseudo labels as plain values and tensors, for other processes."""
    import torch

    if labels is None:
        return None
    arrays = {name: torch.from_numpy(np.ascontiguousarray(getattr(labels, name))) for name in _DTYPES}
    return {"files": list(PathList.of(labels.files).texts), **arrays}


def from_plain(values: dict[str, Any] | None) -> Annotations | None:
    """Return the pseudo labels of `to_plain`."""
    if values is None:
        return None
    return _from_arrays(values["files"], {name: np.asarray(values[name]) for name in _DTYPES})


def save_pseudo_labels(folder: Path, labels: Annotations | None) -> None:
    """Write the pseudo labels of a run to its folder; nothing without any.

    Raises:
        OutputError: the file cannot be written.
    """
    if labels is not None:
        arrays = {name: getattr(labels, name).astype(kind, copy=False) for name, kind in _DTYPES.items()}
        with atomic_path(folder / FILE_NAME) as temporary:
            write_arrays(temporary, {"files": list(PathList.of(labels.files).texts)}, arrays)


def load_pseudo_labels(folder: Path) -> Annotations:
    """Read the pseudo labels of a run.

    Raises:
        TrainError: the file is missing or damaged.
    """
    path = folder / FILE_NAME
    try:
        header, arrays = read_arrays(path, _DTYPES)
        return _from_arrays([str(file) for file in header["files"]], arrays)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrainError(
            f"{path}, the pseudo labels of the interrupted run, cannot be read ({error}). Restore the file, or begin a "
            "new run."
        ) from error


def _from_arrays(files: Sequence[str], arrays: dict[str, npt.NDArray[Any]]) -> Annotations:
    if len(arrays["shapes"]) != len(files) or len(arrays["offsets"]) != len(files) + 1:
        raise ValueError("the arrays belong to another list of files")
    return Annotations(files=PathList(files), issues=(), counts=LabelCounts(len(files), 0, 0, 0), **arrays)


def pseudo_batch(batch: int, settings: TrainSettings, data: TrainData) -> int:
    """Return the number of pseudo-labeled images in a batch of this many labeled ones."""
    available = len(data.pseudo) if data.pseudo is not None else 0
    return min(max(round(batch * settings.unlabeled_ratio), 1), available)


def check_unlabeled(settings: TrainSettings) -> None:
    """Check that other options suit `unlabeled`.

    Raises:
        UsageError: they do not.
    """
    if settings.rect:
        raise UsageError("unlabeled= mixes images of different shapes in a batch: omit rect=True.")
