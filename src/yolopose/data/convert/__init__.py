"""Foreign annotation formats, one file each."""

from yolopose.data.convert.from_coco import Converted, convert_coco
from yolopose.data.convert.to_coco import coco_content, export_coco

__all__ = ["Converted", "coco_content", "convert_coco", "export_coco"]
