"""Results of one image: boxes, keypoints, drawing, output."""

from yolopose.results.arrays import HostArray, ResultArray
from yolopose.results.drawing import annotate
from yolopose.results.instances import Boxes, Keypoints, Visibility
from yolopose.results.results import Frame, Results
from yolopose.results.style import Style

__all__ = ["Boxes", "Frame", "HostArray", "Keypoints", "ResultArray", "Results", "Style", "Visibility", "annotate"]
