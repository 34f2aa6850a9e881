"""Networks: blocks, heads, and the way from a model YAML to a network."""

# before anything loads torch
import yolopose.nn.patience  # noqa: F401  # pyright: ignore[reportUnusedImport]

# isort: split
from yolopose.nn.build import build_network
from yolopose.nn.head import HeadOutput, Pose, anchor_points, decode_boxes, decode_keypoints
from yolopose.nn.info import ModelInfo
from yolopose.nn.model import PoseModel
from yolopose.nn.rows import Row

__all__ = [
    "HeadOutput",
    "ModelInfo",
    "Pose",
    "PoseModel",
    "Row",
    "anchor_points",
    "build_network",
    "decode_boxes",
    "decode_keypoints",
]
