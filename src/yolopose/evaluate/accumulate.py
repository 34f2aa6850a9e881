"""One picture's detections against its truth, reduced to the few small arrays that scoring needs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from yolopose.data.labels import ImageLabels
from yolopose.evaluate.matching import BoolArray, match_detections
from yolopose.geometry import box_iou, oks
from yolopose.predict.nms import Detections

AREA_SHARE = 0.53
"""Area of an object as a share of its box: what the reference protocol puts into OKS."""


@dataclass(frozen=True, slots=True)
class PictureStats:
    """What a picture adds to the statistics.

    Attributes:
        tp: (M, 10) hits by box IoU at each threshold.
        tp_p: (M, 10) hits by OKS.
        conf: (M,) float32 scores, falling.
        pred_cls: (M,) int64 classes of the detections.
        target_cls: (N,) int32 classes of the truths.
        iou: (N, M) box IoU, for the confusion matrix.
    """

    tp: BoolArray
    tp_p: BoolArray
    conf: npt.NDArray[np.float32]
    pred_cls: npt.NDArray[np.int64]
    target_cls: npt.NDArray[np.int32]
    iou: npt.NDArray[np.floating]


def score_picture(found: Detections, truth: ImageLabels, sigmas: npt.NDArray[np.float64]) -> PictureStats:
    """Judges the detections of one picture.

    Args:
        found: detections by falling score; boxes and points in network-input pixels.
        truth: objects in the same pixels, boxes as corners.
        sigmas: (K,) σ of each keypoint.
    """
    iou = box_iou(truth.boxes, found.boxes)
    area = (truth.boxes[:, 2:] - truth.boxes[:, :2]).prod(axis=1) * np.float32(AREA_SHARE)
    # float32 throughout: half the time of float64, and far finer than any annotation
    similarity = oks(truth.keypoints, found.points, area, sigmas.astype(np.float32))
    return PictureStats(
        tp=match_detections(iou, truth.classes, found.classes),
        tp_p=match_detections(similarity, truth.classes, found.classes),
        conf=found.scores,
        pred_cls=found.classes,
        target_cls=truth.classes,
        iou=iou,
    )
