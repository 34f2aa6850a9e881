"""Boxes, 2-D transforms, letterboxes and object keypoint similarity, in numpy."""

from yolopose.geometry.boxes import box_iou, clip_boxes, clip_points, cxcywh_to_xyxy, xyxy_to_cxcywh
from yolopose.geometry.letterbox import Letterbox
from yolopose.geometry.oks import INSTANCE_AREA_SHARE, oks
from yolopose.geometry.transforms import Transform2D

__all__ = [
    "INSTANCE_AREA_SHARE",
    "Letterbox",
    "Transform2D",
    "box_iou",
    "clip_boxes",
    "clip_points",
    "cxcywh_to_xyxy",
    "oks",
    "xyxy_to_cxcywh",
]
