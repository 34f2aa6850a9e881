"""The name under which scripts import `convert_coco`; it lives in `yolopose.data.convert`."""

from yolopose.data.convert import convert_coco

__all__ = ["convert_coco"]
