"""What becomes of the labeled objects when their image is mapped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from yolopose.data import ImageLabels
from yolopose.geometry import Transform2D, clip_boxes, cxcywh_to_xyxy

Size = tuple[int, int]
MIN_SIDE = 2  # pixels
MIN_AREA = 0.10  # of the object's own area
MAX_ASPECT = 100
_EPS = 1e-9

Boxes = npt.NDArray[np.floating[Any]]


def kept(before: Boxes, after: Boxes) -> npt.NDArray[np.bool_]:
    """Return which boxes are still worth learning from.

    Args:
        before: (N, 4) x1, y1, x2, y2 at the final scale, not yet cut.
        after: (N, 4) the same objects, turned and cut; NaN counts as gone.

    Returns:
        (N,) True where both sides exceed 2 pixels, more than a tenth of the area is left and the longer side is less
        than 100 times the shorter.
    """
    width, height = after[:, 2] - after[:, 0], after[:, 3] - after[:, 1]
    area = (before[:, 2] - before[:, 0]) * (before[:, 3] - before[:, 1])
    aspect = np.maximum(width / np.maximum(height, _EPS), height / np.maximum(width, _EPS))
    return (width > MIN_SIDE) & (height > MIN_SIDE) & (width * height > MIN_AREA * area) & (aspect < MAX_ASPECT)


def put(labels: ImageLabels, place: Transform2D) -> ImageLabels:
    """Return the objects of one image at its place.

    Args:
        labels: normalized boxes cx, cy, w, h and keypoints.
        place: 0…1 of the image to pixels of the input that it is placed in.

    Returns:
        Boxes x1, y1, x2, y2 and keypoints in pixels of that input, float64, nothing cut yet.
    """
    points = place.points(labels.keypoints[..., :2].astype(np.float64))
    keypoints = np.concatenate((points, labels.keypoints[..., 2:]), axis=-1)
    return ImageLabels(labels.classes, place.boxes(cxcywh_to_xyxy(labels.boxes)), keypoints)


def carry(labels: ImageLabels, inner: Size, change: Transform2D, gain: float, out: Size) -> ImageLabels:
    """Map the objects of an input into the final image and drops what is no longer worth learning from.

    Args:
        labels: boxes x1, y1, x2, y2 and keypoints in pixels of the input.
        inner: (height, width) of the input; what lies beyond it is cut away.
        change: input to final image.
        gain: the scale in `change`: areas are compared after it.
        out: (height, width) of the final image.

    Returns:
        Boxes x1, y1, x2, y2 and keypoints in pixels of the final image. A point that left either image has v = 0.
    """
    boxes = clip_boxes(labels.boxes, *inner)
    after = clip_boxes(change.boxes(boxes), *out)
    keep = kept(boxes * gain, after)
    points = labels.keypoints[keep]
    at_first = points[..., :2]
    at_last = change.points(at_first)
    labeled = np.not_equal(points[..., 2], 0) & _inside(at_first, inner) & _inside(at_last, out)
    keypoints = np.where(labeled[..., None], np.concatenate((at_last, points[..., 2:]), axis=-1), 0.0)
    return ImageLabels(labels.classes[keep], after[keep].astype(np.float32), keypoints.astype(np.float32))


def crop_labels(labels: ImageLabels, window: tuple[int, int, int, int]) -> ImageLabels:
    """Return the objects as seen through a window (left, top, right, bottom), by the same rules."""
    low, high = np.array(window[:2], np.float32), np.array(window[2:], np.float32)
    after = np.clip(labels.boxes, np.tile(low, 2), np.tile(high, 2))
    keep = kept(labels.boxes, after)
    keypoints = labels.keypoints[keep]
    seen = ((keypoints[..., :2] >= low) & (keypoints[..., :2] <= high)).all(axis=-1, keepdims=True)
    return ImageLabels(labels.classes[keep], after[keep], keypoints * seen)


def join(parts: Sequence[ImageLabels]) -> ImageLabels:
    """Put the objects of several images (at least one) behind each other."""
    return ImageLabels(
        np.concatenate([one.classes for one in parts]),
        np.concatenate([one.boxes for one in parts]),
        np.concatenate([one.keypoints for one in parts]),
    )


def mirrored(labels: ImageLabels, flip_idx: Sequence[int]) -> ImageLabels:
    """Rename the keypoints as a mirror does: point i is what was point flip_idx[i]."""
    return ImageLabels(labels.classes, labels.boxes, labels.keypoints[:, list(flip_idx)])


def _inside(points: Boxes, size: Size) -> npt.NDArray[np.bool_]:
    """(...,) whether points lie in an image; NaN does not."""
    height, width = size
    x, y = points[..., 0], points[..., 1]
    return (x >= 0) & (x <= width) & (y >= 0) & (y <= height)
