"""Object keypoint similarity (COCO keypoint evaluation, cocodataset.org/#keypoints-eval)."""

from __future__ import annotations

import numpy as np

from yolopose.geometry.boxes import FloatArray

INSTANCE_AREA_SHARE = 0.53
"""Area of an instance as a share of its box (w·h), where the data set has no segmentation (reference protocol)."""


def oks(truth: FloatArray, pred: FloatArray, area: FloatArray, sigmas: FloatArray) -> FloatArray:
    """OKS of every pair of truth and prediction: the mean over labeled points of exp(-d² / ((2σ)²·2·area)).

    Args:
        truth: (N, K, 3) x, y, v; a point counts when v ≠ 0.
        pred: (M, K, 2 or 3) x, y in the same units.
        area: (N,) area of each truth, in squared units (reference protocol: 0.53·w·h).
        sigmas: (K,) σ of each keypoint.

    Returns:
        (N, M) values 0…1; 0 for a truth without a labeled point.
    """
    labeled = truth[:, :, 2] != 0
    squared = ((truth[:, None, :, :2] - pred[None, :, :, :2]) ** 2).sum(axis=-1)
    scale = (2 * sigmas) ** 2 * (area[:, None, None] + 1e-7) * 2
    similarity = np.exp(-squared / scale) * labeled[:, None, :]
    return similarity.sum(axis=-1) / np.maximum(labeled.sum(axis=1), 1)[:, None]
