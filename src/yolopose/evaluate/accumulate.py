"""One image's detections against its truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from yolopose.data.labels import ImageLabels
from yolopose.evaluate.matching import BoolArray, IntArray, greedy_match, of_one_class
from yolopose.geometry import box_iou, oks
from yolopose.runtime.nms import Detections

AREA_SHARE = 0.53
"""Area of an object as a share of its box: what the reference protocol puts into OKS."""


@dataclass(frozen=True, slots=True)
class ImageMatches:
    """How the detections of an image stand to its truth.

    Attributes:
        box_hit: (M, 10) number of the truth that each takes by box IoU at each threshold, or -1.
        pose_hit: (M, 10) the same by OKS.
        iou: (N, M) box IoU.
        similarity: (N, M) OKS.
        area: (N,) area of each truth as OKS takes it.
    """

    box_hit: IntArray
    pose_hit: IntArray
    iou: npt.NDArray[np.floating]
    similarity: npt.NDArray[np.floating]
    area: npt.NDArray[np.floating]

    @property
    def tp(self) -> BoolArray:
        """(M, 10) hits by box IoU."""
        return self.box_hit >= 0

    @property
    def tp_p(self) -> BoolArray:
        """(M, 10) hits by OKS."""
        return self.pose_hit >= 0


def match_image(found: Detections, truth: ImageLabels, sigmas: npt.NDArray[np.float64]) -> ImageMatches:
    """Judge the detections of one image.

    Args:
        found: detections by falling score; boxes and points in network-input pixels.
        truth: objects in the same pixels, boxes as corners.
        sigmas: (K,) σ of each keypoint.
    """
    iou = box_iou(truth.boxes, found.boxes)
    area = (truth.boxes[:, 2:] - truth.boxes[:, :2]).prod(axis=1) * np.float32(AREA_SHARE)
    # float32 throughout: half the time of float64, and far finer than any annotation
    similarity = oks(truth.keypoints, found.points, area, sigmas.astype(np.float32))
    return ImageMatches(
        box_hit=greedy_match(of_one_class(iou, truth.classes, found.classes)),
        pose_hit=greedy_match(of_one_class(similarity, truth.classes, found.classes)),
        iou=iou,
        similarity=similarity,
        area=area,
    )
