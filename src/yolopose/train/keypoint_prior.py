"""Initial output of the keypoint layer: the mean place of each keypoint in the labels.

Adam moves a bias by no more than the learning rate per step. In a short run, keypoints that lie far from the anchors of
a large instance would otherwise spend most steps on the way to their mean place.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from yolopose.data import Annotations
from yolopose.nn import PoseModel

_WEIGHT_FACTOR = 0.1
"""Factor on the weights of the layer, which belong to other keypoints: the mean place dominates at the start."""


def mean_offsets(annotations: Annotations, imgsz: int) -> npt.NDArray[np.float64]:
    """Return (K, 2) mean offsets of the labeled keypoints from the centers of their boxes.

    Args:
        annotations: of the training images.
        imgsz: side of the network input; offsets are in its pixels. 0 for a keypoint that is never labeled.
    """
    image = np.repeat(np.arange(len(annotations)), np.diff(annotations.offsets))
    height_width = annotations.shapes[image].astype(np.float64)
    pixels = height_width[:, ::-1] * (imgsz / height_width.max(1, keepdims=True, initial=1))
    offsets = (annotations.keypoints[..., :2] - annotations.boxes[:, None, :2]) * pixels[:, None]
    labeled = (annotations.keypoints[..., 2] != 0)[..., None]
    return (offsets * labeled).sum(0) / np.maximum(labeled.sum(0), 1)


@torch.no_grad()
def place_keypoints(network: PoseModel, annotations: Annotations, imgsz: int) -> None:
    """Set the biases of the keypoint layers to the mean place of each keypoint, and reduce their weights.

    Args:
        network: changed in place.
        annotations: of the training images.
        imgsz: side of the network input, pixels.
    """
    head = network.head
    offsets = torch.from_numpy(mean_offsets(annotations, imgsz)).float()
    level = head.branches()[0]
    for stride, layer in head.keypoint_layers():
        layer.weight.view(*head.kpt_shape, -1)[:, :2] *= _WEIGHT_FACTOR
        if layer.bias is not None:
            layer.bias.view(head.kpt_shape)[:, :2] = (offsets / stride - level.shift) / level.scale
