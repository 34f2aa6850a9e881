"""Axis-aligned boxes as arrays of (x1, y1, x2, y2) or (cx, cy, w, h)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.floating[Any]]


def cxcywh_to_xyxy(boxes: FloatArray) -> FloatArray:
    """Convert (..., 4) center, width, height to corners."""
    half = boxes[..., 2:4] / 2
    return np.concatenate((boxes[..., :2] - half, boxes[..., :2] + half), axis=-1)


def xyxy_to_cxcywh(boxes: FloatArray) -> FloatArray:
    """Convert (..., 4) corners to center, width, height."""
    low, high = boxes[..., :2], boxes[..., 2:4]
    return np.concatenate(((low + high) / 2, high - low), axis=-1)


def clip_boxes(boxes: FloatArray, height: float, width: float) -> FloatArray:
    """Return (..., 4) corner boxes clipped to an image of the given size."""
    limit = np.array([width, height, width, height], dtype=boxes.dtype)
    return np.clip(boxes, 0, limit)


def clip_points(points: FloatArray, height: float, width: float) -> FloatArray:
    """Return (..., D) points with x and y clipped to an image of the given size; further columns unchanged."""
    result = points.copy()
    result[..., 0] = np.clip(points[..., 0], 0, width)
    result[..., 1] = np.clip(points[..., 1], 0, height)
    return result


def box_iou(first: FloatArray, second: FloatArray, eps: float = 1e-7) -> FloatArray:
    """Compute the intersection over union of every pair.

    Args:
        first: (N, 4) corners.
        second: (M, 4) corners.
        eps: added to the union, so that the IoU of two empty boxes is 0.

    Returns:
        (N, M) values 0…1.
    """
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:4], second[None, :, 2:4])
    intersection = np.clip(high - low, 0, None).prod(axis=2)
    area_first = (first[:, 2:4] - first[:, :2]).prod(axis=1)
    area_second = (second[:, 2:4] - second[:, :2]).prod(axis=1)
    return intersection / (area_first[:, None] + area_second[None] - intersection + eps)
