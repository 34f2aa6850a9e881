"""Networks of other packages (RTMO, RTMPose, DETRPose, MediaPipe, …): each output layout is one module here.

A layout recognizes a graph by its inputs and outputs, prepares its input and decodes its output. `open_foreign` returns
an engine that implements `yolopose.runtime.Runtime`, so that predict, val, track and label work as with networks of
yolopose. Graphs run on ONNX Runtime, OpenVINO or LiteRT, without torch.
"""

from yolopose.foreign.download import foreign_file
from yolopose.foreign.engine import ForeignRuntime
from yolopose.foreign.opening import SUFFIXES, describe_layouts, open_foreign
from yolopose.foreign.table import ForeignModel, find_foreign, foreign_models

__all__ = [
    "SUFFIXES",
    "ForeignModel",
    "ForeignRuntime",
    "describe_layouts",
    "find_foreign",
    "foreign_file",
    "foreign_models",
    "open_foreign",
]
