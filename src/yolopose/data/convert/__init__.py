"""Foreign annotation formats, one file each."""

from yolopose.data.convert.from_coco import Converted, convert_coco
from yolopose.data.convert.to_coco import export_coco

__all__ = ["Converted", "convert_coco", "export_coco"]
