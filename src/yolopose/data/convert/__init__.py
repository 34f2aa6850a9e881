"""Converters from and to foreign annotation formats, one file each."""

from yolopose.data.convert.from_coco import ConversionResult, convert_coco
from yolopose.data.convert.to_coco import build_coco, export_coco, find_coco_record

__all__ = ["ConversionResult", "build_coco", "convert_coco", "export_coco", "find_coco_record"]
