"""The class that people import, `YOLO`, and how it finds the files that it is asked for."""

from yolopose.model.hub import find_weights
from yolopose.model.yolo import YOLO

__all__ = ["YOLO", "find_weights"]
