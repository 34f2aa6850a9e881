"""Results of one image: boxes, keypoints, drawing, writing."""

from yolopose.results.arrays import HostArray
from yolopose.results.drawing import Style, annotate
from yolopose.results.frame import Frame
from yolopose.results.instances import Boxes, Keypoints
from yolopose.results.results import Results

__all__ = ["Boxes", "Frame", "HostArray", "Keypoints", "Results", "Style", "annotate"]
