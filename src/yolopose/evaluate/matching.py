"""Detections of one image against its ground truth: greedy matching, and the error of each keypoint."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from yolopose.data.labels import ImageLabels
from yolopose.geometry import INSTANCE_AREA_SHARE, box_iou, oks
from yolopose.runtime.nms import Detections

BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.integer[Any]]
FloatArray = npt.NDArray[np.floating[Any]]

THRESHOLDS: npt.NDArray[np.float64] = np.linspace(0.5, 0.95, 10)
"""(T,) similarities .50:.05:.95 that a match must reach."""

GOOD_SIMILARITY = 0.85
"""Keypoint similarity from which a keypoint is good (Ronchi & Perona)."""
NEAR_SIMILARITY = 0.5
"""Keypoint similarity from which a keypoint counts as near a ground-truth keypoint."""


def greedy_match(similarity: FloatArray, thresholds: npt.NDArray[np.float64] = THRESHOLDS) -> npt.NDArray[np.int64]:
    """Match each detection, at each threshold, with the most similar ground truth not matched before.

    Args:
        similarity: (N, M) similarity of N ground truths with M detections, by descending confidence.
        thresholds: (T,) similarities to reach.

    Returns:
        (M, T) index of the ground truth, or -1.
    """
    num_gt, num_detections = similarity.shape
    matches = np.full((num_detections, len(thresholds)), -1, dtype=np.int64)
    if num_gt == 0 or num_detections == 0:
        return matches
    levels = np.arange(len(thresholds))
    used = np.zeros((len(thresholds), num_gt), dtype=np.bool_)
    # most detections are not near any ground truth, so the loop runs over the others only
    for column in np.flatnonzero(similarity.max(axis=0) >= thresholds.min()):
        free = np.where(used, -1.0, similarity[:, column])
        best = free.argmax(axis=1)
        hit = free[levels, best] >= thresholds
        used[levels[hit], best[hit]] = True
        matches[column, hit] = best[hit]
    return matches


def mask_other_classes(similarity: FloatArray, gt_classes: IntArray, det_classes: IntArray) -> FloatArray:
    """Return the (N, M) similarities with -1 between different classes."""
    return np.where(gt_classes[:, None] == det_classes[None], similarity, -1.0)


def match_detections(
    similarity: FloatArray,
    gt_classes: IntArray,
    det_classes: IntArray,
    thresholds: npt.NDArray[np.float64] = THRESHOLDS,
) -> BoolArray:
    """Find the true positives at each threshold: detections that match a ground truth of their class.

    Args:
        similarity: (N, M) IoU or OKS, 0…1; detections by descending confidence.
        gt_classes: (N,) class of each ground truth.
        det_classes: (M,) class of each detection.
        thresholds: (T,) similarities to reach.

    Returns:
        (M, T) True for true positives.
    """
    return greedy_match(mask_other_classes(similarity, gt_classes, det_classes), thresholds) >= 0


@dataclass(frozen=True, slots=True)
class ImageMatches:
    """Matches of the M detections of an image with its N ground truths.

    Attributes:
        box_match: (M, T) index of the ground truth that each detection matches by box IoU, or -1.
        pose_match: (M, T) the same by OKS.
        iou: (N, M) box IoU.
        oks: (N, M) object keypoint similarity.
        area: (N,) area of each ground truth used in OKS.
    """

    box_match: npt.NDArray[np.int64]
    pose_match: npt.NDArray[np.int64]
    iou: FloatArray
    oks: FloatArray
    area: FloatArray


def match_image(detections: Detections, gt: ImageLabels, sigmas: npt.NDArray[np.float32]) -> ImageMatches:
    """Match the detections of an image by box IoU and by OKS.

    Args:
        detections: by descending score; boxes and points in network-input pixels.
        gt: ground truth in the same pixels, boxes as x1, y1, x2, y2.
        sigmas: (K,) OKS sigma of each keypoint, or (N, K) for each ground truth; float32 makes OKS twice as fast as
            float64.
    """
    iou = box_iou(gt.boxes, detections.boxes)
    area = (gt.boxes[:, 2:] - gt.boxes[:, :2]).prod(axis=1) * np.float32(INSTANCE_AREA_SHARE)
    similarity = oks(gt.keypoints, detections.points, area, sigmas)
    return ImageMatches(
        box_match=greedy_match(mask_other_classes(iou, gt.classes, detections.classes)),
        pose_match=greedy_match(mask_other_classes(similarity, gt.classes, detections.classes)),
        iou=iou,
        oks=similarity,
        area=area,
    )


class KeypointOutcome(IntEnum):
    """Result for one predicted keypoint: good, one of the four errors, or not labeled."""

    UNLABELED = 0
    GOOD = 1
    JITTER = 2
    INVERSION = 3
    SWAP = 4
    MISS = 5


ERROR_KINDS = (KeypointOutcome.JITTER, KeypointOutcome.INVERSION, KeypointOutcome.SWAP, KeypointOutcome.MISS)
"""The four errors, in the order of the columns of `RunRecord.det_corrected`."""


@dataclass(frozen=True, slots=True)
class ClassifiedKeypoints:
    """The keypoints of P matched detections.

    Attributes:
        outcome: (P, K) int8 `KeypointOutcome`.
        similarity: (P, K) similarity of each keypoint with its ground truth, 0…1; 0 if not labeled.
        corrected: (P, K) the similarity without the error: .85 for jitter, .50 for a miss, and for an inversion or a
            swap the similarity with the keypoint that it was confused with.
    """

    outcome: npt.NDArray[np.int8]
    similarity: FloatArray
    corrected: FloatArray


def classify_errors(
    points: FloatArray,
    gt_rows: npt.NDArray[np.int64],
    gt_keypoints: FloatArray,
    area: FloatArray,
    sigmas: FloatArray,
    flip_idx: npt.NDArray[np.int64],
) -> ClassifiedKeypoints:
    """Classify keypoints as good, jitter, inversion, swap or miss.

    Definitions of Ronchi & Perona, "Benchmarking and Error Diagnosis in Multi-Instance Pose Estimation", ICCV 2017
    (arxiv.org/abs/1707.05388), on the keypoint similarity exp(-d² / (2 (2σ)² area)): good from .85, jitter from .50;
    otherwise inversion if near (.50) the mirrored keypoint of the same instance, swap if nearer to that keypoint or
    its mirrored one of another instance, and miss if not near any keypoint.

    Args:
        points: (P, K, 2) keypoints of the detection of each pair, pixels.
        gt_rows: (P,) index of the ground truth of each pair.
        gt_keypoints: (N, K, 3) x, y, v of all ground truths of the image.
        area: (N,) area of each ground truth, as in OKS.
        sigmas: (K,) OKS sigmas, or (N, K) for each ground truth.
        flip_idx: (K,) index of the mirrored keypoint; its own index if there is none.
    """
    identity = np.arange(gt_keypoints.shape[1])
    pairs = np.arange(len(gt_rows))
    labeled = gt_keypoints[gt_rows, :, 2] != 0
    direct = _keypoint_similarity(points, gt_keypoints, area, sigmas, identity)
    mirrored = _keypoint_similarity(points, gt_keypoints, area, sigmas, flip_idx)
    mirrored[..., flip_idx == identity] = -1
    own = direct[pairs, gt_rows]
    inverted = mirrored[pairs, gt_rows]
    # what remains after masking the own instance belongs to other instances
    direct[pairs, gt_rows] = -1
    mirrored[pairs, gt_rows] = -1
    swapped = np.maximum(direct.max(axis=1, initial=-1), mirrored.max(axis=1, initial=-1))
    confused = np.maximum(inverted, swapped)
    outcome = np.select(
        # `~(… >= …)` instead of `<`: a NaN keypoint of a diverged network is a miss
        [~labeled, own >= GOOD_SIMILARITY, own >= NEAR_SIMILARITY, ~(confused >= NEAR_SIMILARITY), inverted >= swapped],
        [
            KeypointOutcome.UNLABELED,
            KeypointOutcome.GOOD,
            KeypointOutcome.JITTER,
            KeypointOutcome.MISS,
            KeypointOutcome.INVERSION,
        ],
        KeypointOutcome.SWAP,
    ).astype(np.int8)
    own = np.where(labeled, own, 0.0)
    corrected = np.select(
        [
            outcome == KeypointOutcome.JITTER,
            outcome == KeypointOutcome.MISS,
            (outcome == KeypointOutcome.INVERSION) | (outcome == KeypointOutcome.SWAP),
        ],
        [np.full_like(own, GOOD_SIMILARITY), np.full_like(own, NEAR_SIMILARITY), confused],
        own,
    )
    return ClassifiedKeypoints(outcome, own, corrected)


def _keypoint_similarity(
    points: FloatArray, gt_keypoints: FloatArray, area: FloatArray, sigmas: FloatArray, targets: npt.NDArray[np.int64]
) -> FloatArray:
    """Return (P, N, K) similarity of point k with keypoint `targets[k]` of each ground truth; -1 if not labeled."""
    squared = ((points[:, None] - gt_keypoints[None, :, targets, :2]) ** 2).sum(axis=-1)
    scale = 2 * (2 * sigmas) ** 2 * (area[:, None] + 1e-7)
    return np.where(gt_keypoints[None, :, targets, 2] != 0, np.exp(-squared / scale[None]), -1.0)
