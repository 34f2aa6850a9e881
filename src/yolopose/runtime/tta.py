"""Test-time augmentation (`augment=True`): the detections of several views of an image are averaged.

NMS runs on each view. Detections of different views that overlap are one instance: its box and keypoints are the mean
over the views, weighted by confidence, so that errors of single views cancel out. The confidence is the mean over all
views, where a view without the instance counts as 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from yolopose.base.log import warn_once
from yolopose.geometry import box_iou
from yolopose.geometry.letterbox import PAD_VALUE
from yolopose.runtime.nms import Detections, nms
from yolopose.runtime.protocol import Batch, Candidates, Runtime, get_replicas
from yolopose.schema import ModelMetadata, PoseSpec

Float32 = npt.NDArray[np.float32]

_MAX_DET = 300  # detections of one view


@dataclass(frozen=True, slots=True)
class TTAView:
    """A transformed copy of an image.

    Attributes:
        scale: input size relative to the regular one.
        flipped: whether left and right are swapped.
    """

    scale: float
    flipped: bool


TTA_VIEWS = (TTAView(1.0, False), TTAView(1.0, True), TTAView(1.25, False))


class TTARuntime:
    """Wraps an engine and averages its detections over several views; implements `yolopose.runtime.Replicated`.

    Args:
        runtime: the engine.
        iou: IoU (0…1) above which two detections are one instance.
        agnostic: whether detections of different classes can be one instance.

    Attributes:
        metadata: metadata of `runtime`.
        device: device of `runtime`.
        views: the views. Flipped views require the mirror pairs of the keypoints (`flip_idx`), larger ones a network
            with dynamic input size.
    """

    def __init__(self, runtime: Runtime, iou: float, agnostic: bool = False) -> None:
        self.metadata: ModelMetadata = runtime.metadata
        self.device = runtime.device
        self._runtime = runtime
        self._iou = iou
        self._agnostic = agnostic
        can_flip = self.metadata.spec.keypoints.flip_idx is not None
        if not can_flip:
            warn_once("augment=True uses no flipped view: the mirror pairs (flip_idx) of the keypoints are unknown.")
        views = (view for view in TTA_VIEWS if view.scale <= 1 or self.metadata.dynamic)
        self.views = tuple(dict.fromkeys(replace(view, flipped=view.flipped and can_flip) for view in views))

    def infer(
        self,
        batch: Batch,
        *,
        conf: float,
        max_nms: int = 30_000,
        classes: Sequence[int] | None = None,
        multi_label: bool = False,
    ) -> Candidates:
        """Average the detections of all views, with `nms_done` set; see `yolopose.runtime.Runtime.infer`."""
        by_view: list[list[Detections]] = []
        for view in self.views:
            pixels, inner = _make_view(batch, view, self.metadata)
            candidates = self._runtime.infer(
                pixels, conf=conf, max_nms=max_nms, classes=classes, multi_label=multi_label
            )
            scale = np.array([batch.shape[3] / inner[1], batch.shape[2] / inner[0]], np.float32)
            detections = nms(candidates, len(batch), iou=self._iou, max_det=_MAX_DET, agnostic=self._agnostic)
            by_view.append([_undo_view(item, view, inner[1], scale, self.metadata.spec) for item in detections])
        fused = [fuse_boxes(views, self._iou, self._agnostic) for views in zip(*by_view, strict=True)]
        images = [_select(detections, detections.scores > conf) for detections in fused]
        return Candidates(
            boxes=np.concatenate([image.boxes for image in images]),
            scores=np.concatenate([image.scores for image in images]),
            classes=np.concatenate([image.classes for image in images]),
            points=np.concatenate([image.points for image in images]),
            visible=_concatenate(images),
            batch_idx=np.repeat(np.arange(len(images)), [len(image) for image in images]),
            nms_done=True,
        )

    def to_array(self, array: npt.NDArray[Any]) -> Any:
        """Convert a host array as the wrapped engine does."""
        return self._runtime.to_array(array)

    def replicas(self, count: int) -> Sequence[TTARuntime]:
        """Wrap the replicas of the engine; see `yolopose.runtime.Replicated.replicas`."""
        return [TTARuntime(replica, self._iou, self._agnostic) for replica in get_replicas(self._runtime, count)]


def _make_view(batch: Batch, view: TTAView, metadata: ModelMetadata) -> tuple[Batch, tuple[int, int]]:
    """Return the transformed batch, and the (height, width) of the scaled images at its top left."""
    height, width = batch.shape[2:]
    inner = max(1, round(height * view.scale)), max(1, round(width * view.scale))
    stride = metadata.stride
    out = (-(-inner[0] // stride) * stride, -(-inner[1] // stride) * stride) if metadata.dynamic else (height, width)
    pad = PAD_VALUE if batch.dtype == np.uint8 else PAD_VALUE / 255
    pixels = np.full((*batch.shape[:2], *out), pad, batch.dtype)
    for plane, target in zip(batch.reshape(-1, height, width), pixels.reshape(-1, *out), strict=True):
        plane = plane[:, ::-1] if view.flipped else plane
        if inner != (height, width):
            interpolation = cv2.INTER_AREA if view.scale < 1 else cv2.INTER_LINEAR
            # cv2.resize does not accept the negative strides of a flipped plane.
            plane = cv2.resize(np.ascontiguousarray(plane), (inner[1], inner[0]), interpolation=interpolation)
        target[: inner[0], : inner[1]] = plane
    return pixels, inner


def _undo_view(detections: Detections, view: TTAView, width: int, scale: Float32, spec: PoseSpec) -> Detections:
    """Map detections of a view of the given width to pixels of the batch."""
    boxes = detections.boxes.copy()
    points = detections.points.copy()
    visible = detections.visible
    if view.flipped:
        boxes[:, [0, 2]] = width - boxes[:, [2, 0]]
        points[..., 0] = width - points[..., 0]
        flip_idx = list(spec.keypoints.flip_idx or ())
        points = points[:, flip_idx]
        visible = None if visible is None else visible[:, flip_idx]
    boxes *= np.tile(scale, 2)
    points[..., :2] *= scale
    return replace(detections, boxes=boxes, points=points, visible=visible)


def fuse_boxes(views: Sequence[Detections], iou: float, agnostic: bool = False) -> Detections:
    """Average the detections of several views of one image.

    Args:
        views: detections of each view.
        iou: IoU above which two detections are one instance.
        agnostic: whether detections of different classes can be one instance.

    Returns:
        One detection per instance, by descending score.
    """
    boxes = np.concatenate([view.boxes for view in views])
    scores = np.concatenate([view.scores for view in views])
    classes = np.concatenate([view.classes for view in views])
    points = np.concatenate([view.points for view in views])
    visible = _concatenate(views)
    order = np.argsort(-scores, kind="stable")
    same = box_iou(boxes, boxes) > iou
    if not agnostic:
        same &= classes[:, None] == classes
    np.fill_diagonal(same, True)
    unassigned = np.ones(len(scores), bool)
    clusters: list[npt.NDArray[np.intp]] = []
    for index in order:
        if unassigned[index]:
            members = np.flatnonzero(same[index] & unassigned)
            unassigned[members] = False
            clusters.append(members)
    best = [members[scores[members].argmax()] for members in clusters]
    # A view can contribute two detections to a cluster, so the divisor is never below the number of members.
    means = [scores[members].sum() / max(len(views), len(members)) for members in clusters]
    mean_boxes = [_weighted_mean(boxes[members], scores[members]) for members in clusters]
    mean_points = [_weighted_mean(points[members], scores[members]) for members in clusters]
    if visible is not None:
        rows = [_weighted_mean(visible[members], scores[members]) for members in clusters]
        visible = np.array(rows, np.float32).reshape(-1, *visible.shape[1:])
    fused = Detections(
        boxes=np.array(mean_boxes, np.float32).reshape(-1, 4),
        scores=np.array(means, np.float32),
        classes=classes[best],
        points=np.array(mean_points, np.float32).reshape(-1, *points.shape[1:]),
        visible=visible,
    )
    return _select(fused, np.argsort(-fused.scores, kind="stable"))


def _weighted_mean(values: Float32, weights: Float32) -> Float32:
    return np.tensordot(weights / weights.sum(), values, 1)


def _select(detections: Detections, rows: npt.NDArray[Any]) -> Detections:
    return Detections(
        detections.boxes[rows],
        detections.scores[rows],
        detections.classes[rows],
        detections.points[rows],
        visible=None if detections.visible is None else detections.visible[rows],
    )


def _concatenate(parts: Sequence[Detections]) -> Float32 | None:
    """Return the probabilities of visible keypoints of all parts; None if the network has two states."""
    visible = [part.visible for part in parts if part.visible is not None]
    return np.concatenate(visible) if visible else None
