"""Foreign annotation formats, one file each."""

from yolopose.data.convert.from_coco import ConversionResult, convert_coco
from yolopose.data.convert.to_coco import build_coco, export_coco

__all__ = ["ConversionResult", "build_coco", "convert_coco", "export_coco"]
