"""Boxes and keypoints under the transforms of an augmented sample."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from yolopose.data import ImageLabels
from yolopose.geometry import Transform2D, clip_boxes, cxcywh_to_xyxy
from yolopose.train.feed.augment import Canvas, Size, Window

MIN_SIDE = 2  # pixels
MIN_AREA = 0.10  # of the whole instance
MAX_ASPECT = 100
_EPS = 1e-9

Boxes = npt.NDArray[np.floating[Any]]


def box_candidates(before: Boxes, after: Boxes) -> npt.NDArray[np.bool_]:
    """Return which boxes are still worth learning from.

    Args:
        before: (N, 4) x1, y1, x2, y2 at the final scale, not clipped.
        after: (N, 4) the same boxes, transformed and clipped; NaN for those behind the viewer of a perspective.

    Returns:
        (N,) True where both sides exceed 2 pixels, more than a tenth of the area is left and the longer side is less
        than 100 times the shorter. False for NaN.
    """
    width = after[:, 2] - after[:, 0]
    height = after[:, 3] - after[:, 1]
    area = (before[:, 2] - before[:, 0]) * (before[:, 3] - before[:, 1])
    aspect = np.maximum(width / np.maximum(height, _EPS), height / np.maximum(width, _EPS))
    return (width > MIN_SIDE) & (height > MIN_SIDE) & (width * height > MIN_AREA * area) & (aspect < MAX_ASPECT)


def place_labels(labels: ImageLabels, transform: Transform2D) -> ImageLabels:
    """Return the instances of one image in a layout.

    Args:
        labels: normalized boxes cx, cy, w, h and keypoints.
        transform: from the unit square of the image to pixels of the layout.

    Returns:
        Boxes x1, y1, x2, y2 and keypoints in pixels of the layout, float64, not clipped.
    """
    points = transform.points(labels.keypoints[..., :2].astype(np.float64))
    keypoints = np.concatenate((points, labels.keypoints[..., 2:]), axis=-1)
    return ImageLabels(labels.classes, transform.boxes(cxcywh_to_xyxy(labels.boxes)), keypoints)


def transform_labels(labels: ImageLabels, canvas: Canvas, shape: Size, flip_idx: Sequence[int] | None) -> ImageLabels:
    """Transform the instances of a layout into the final image and drop those that are no longer worth learning from.

    Args:
        labels: boxes x1, y1, x2, y2 and keypoints in pixels of the layout.
        canvas: the layout and its transform.
        shape: (height, width) of the final image.
        flip_idx: permutation of keypoints for mirrored canvases.

    Returns:
        Boxes x1, y1, x2, y2 and keypoints in pixels of the final image, float32. A keypoint outside the layout or the
        image has v = 0.
    """
    boxes = clip_boxes(labels.boxes, *canvas.layout.size)
    after = clip_boxes(canvas.transform.boxes(boxes), *shape)
    keep = box_candidates(boxes * canvas.scale, after)
    points = labels.keypoints[keep]
    if canvas.mirrored and flip_idx is not None:
        points = points[:, list(flip_idx)]
    before_xy = points[..., :2]
    after_xy = canvas.transform.points(before_xy)
    labeled = np.not_equal(points[..., 2], 0) & _inside(before_xy, canvas.layout.size) & _inside(after_xy, shape)
    keypoints = np.where(labeled[..., None], np.concatenate((after_xy, points[..., 2:]), axis=-1), 0.0)
    return ImageLabels(labels.classes[keep], after[keep].astype(np.float32), keypoints.astype(np.float32))


def crop_labels(labels: ImageLabels, window: Window) -> ImageLabels:
    """Return the instances visible through a window, by the rules of `transform_labels`."""
    low = np.array(window[:2], np.float32)
    high = np.array(window[2:], np.float32)
    after = np.clip(labels.boxes, np.tile(low, 2), np.tile(high, 2))
    keep = box_candidates(labels.boxes, after)
    keypoints = labels.keypoints[keep]
    visible = ((keypoints[..., :2] >= low) & (keypoints[..., :2] <= high)).all(axis=-1, keepdims=True)
    return ImageLabels(labels.classes[keep], after[keep], keypoints * visible)


def concat_labels(parts: Sequence[ImageLabels]) -> ImageLabels:
    """Concatenate the instances of one or more images."""
    if len(parts) == 1:
        return parts[0]
    return ImageLabels(
        np.concatenate([labels.classes for labels in parts]),
        np.concatenate([labels.boxes for labels in parts]),
        np.concatenate([labels.keypoints for labels in parts]),
    )


def _inside(points: Boxes, size: Size) -> npt.NDArray[np.bool_]:
    """Return (...,) whether points lie in an image; False for NaN."""
    height, width = size
    x = points[..., 0]
    y = points[..., 1]
    return (x >= 0) & (x <= width) & (y >= 0) & (y <= height)
