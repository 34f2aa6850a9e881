"""Boxes, maps of the plane, letterboxes and object keypoint similarity, in numpy."""

from yolopose.geometry.boxes import box_iou, clip_boxes, clip_points, cxcywh_to_xyxy, xyxy_to_cxcywh
from yolopose.geometry.letterbox import Letterbox
from yolopose.geometry.maps import Map
from yolopose.geometry.oks import oks

__all__ = ["Letterbox", "Map", "box_iou", "clip_boxes", "clip_points", "cxcywh_to_xyxy", "oks", "xyxy_to_cxcywh"]
