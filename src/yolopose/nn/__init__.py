"""Networks: blocks, heads, and building a network from a model YAML."""

# must run before torch is imported
import yolopose.nn.openmp  # noqa: F401  # pyright: ignore[reportUnusedImport]

# isort: split
from yolopose.nn.build import build_network
from yolopose.nn.head import HeadOutput, Pose, PoseHead, anchor_points, decode_boxes, decode_keypoints
from yolopose.nn.head26 import Pose26
from yolopose.nn.info import ModelInfo
from yolopose.nn.model import PoseModel
from yolopose.nn.model_yaml import LayerSpec
from yolopose.nn.realnvp import RealNVP

__all__ = [
    "HeadOutput",
    "LayerSpec",
    "ModelInfo",
    "Pose",
    "Pose26",
    "PoseHead",
    "PoseModel",
    "RealNVP",
    "anchor_points",
    "build_network",
    "decode_boxes",
    "decode_keypoints",
]
