"""The class `YOLO`, and the lookup of model files."""

from yolopose.model.hub import find_weights
from yolopose.model.yolo import YOLO

__all__ = ["YOLO", "find_weights"]
