"""Object keypoint similarity (COCO keypoint evaluation, cocodataset.org/#keypoints-eval)."""

from __future__ import annotations

import numpy as np

from yolopose.geometry.boxes import FloatArray

INSTANCE_AREA_SHARE = 0.53
"""Area of an instance as a share of its box (w·h), where the data set has no segmentation (reference protocol)."""


def oks(gt: FloatArray, pred: FloatArray, area: FloatArray, sigmas: FloatArray) -> FloatArray:
    """Compute OKS for every pair: the mean over labeled points of exp(-d² / ((2σ)²·2·area)).

    Args:
        gt: (N, K, 3) ground truth x, y, v; a point counts when v ≠ 0.
        pred: (M, K, 2 or 3) predictions x, y in the same units.
        area: (N,) area of each ground-truth instance in squared units (`INSTANCE_AREA_SHARE`·w·h).
        sigmas: (K,) σ of each keypoint, or (N, K) for each ground truth.

    Returns:
        (N, M) values 0…1; 0 for instances without a labeled point.
    """
    labeled = gt[:, :, 2] != 0
    sigmas = sigmas[:, None] if np.ndim(sigmas) == 2 else sigmas
    squared = ((gt[:, None, :, :2] - pred[None, :, :, :2]) ** 2).sum(axis=-1)
    scale = (2 * sigmas) ** 2 * (area[:, None, None] + 1e-7) * 2
    similarity = np.exp(-squared / scale) * labeled[:, None, :]
    return similarity.sum(axis=-1) / np.maximum(labeled.sum(axis=1), 1)[:, None]
