"""The network that a new run starts from: copied weights, class weights by name, keypoints at their mean place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from yolopose.base.log import LOGGER
from yolopose.data import Annotations
from yolopose.nn import PoseModel, build_network
from yolopose.schema import PoseSpec
from yolopose.weights import load_matching, read_checkpoint

_WEIGHT_FACTOR = 0.1
"""Factor on the weights of the layer, which belong to other keypoints: the mean place dominates at the start."""


@dataclass(frozen=True, slots=True)
class InitialWeights:
    """Weights to start from.

    Attributes:
        state: parameters and buffers by name.
        spec: classes, by whose names class weights are copied, and keypoints; None when unknown.
        source: where they come from, for the log.
        license: their license, if known; it applies to the trained weights too.
    """

    state: Mapping[str, Tensor]
    spec: PoseSpec | None
    source: str
    license: str = ""

    @classmethod
    def from_file(cls, path: Path) -> InitialWeights:
        """Read the weights of a checkpoint."""
        checkpoint = read_checkpoint(path)
        spec = checkpoint.metadata.spec if checkpoint.metadata else None
        return cls(checkpoint.state, spec, str(path), checkpoint.license)


def initial_network(
    yaml: Mapping[str, object], spec: PoseSpec, seed: int, weights: InitialWeights | None, *, remap: bool = True
) -> PoseModel:
    """Build a network for a data set and copy the weights that match by name and shape.

    Args:
        yaml: content of the model YAML, as `PoseModel.yaml`.
        spec: classes and keypoints of the data set.
        seed: of the random weights.
        weights: weights to start from; None starts from random weights.
        remap: where the classes differ, copy class weights by class name.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build_network(yaml, spec=spec)
    if weights is None:
        LOGGER.info(f"{network.name or 'network'}: random weights, seed {seed}.")
        return network
    matching = load_matching(network, weights.state)
    note = _copy_class_weights(network, weights) if remap else ""
    LOGGER.info(f"{matching.summary(weights.source, 'start from random values')}{note}.")
    return network


@torch.no_grad()
def _copy_class_weights(network: PoseModel, weights: InitialWeights) -> str:
    """Copy the rows of common classes in the last convolutions of the class branches; return a note for the log."""
    own_classes = network.spec.classes
    classes = weights.spec.classes if weights.spec else ()
    common = [name for name in own_classes if name in classes]
    if not common or own_classes == classes:
        return ""
    own = network.state_dict()
    branches = tuple(f"model.{len(network.model) - 1}.{name}." for name in ("cv3", "one2one_cv3"))
    # the last convolution of each level: model.HEAD.cv3.LEVEL.2.weight and .bias
    names = [name for name in own if name.startswith(branches) and name.count(".") == 5]
    for name in names:
        if name not in weights.state or weights.state[name].shape[1:] != own[name].shape[1:]:
            return ""
        if len(weights.state[name]) != len(classes) or len(own[name]) != len(own_classes):
            return ""
    for name in names:
        for label in common:
            own[name][own_classes.index(label)] = weights.state[name][classes.index(label)]
    more = f" and {len(common) - 5} more" if len(common) > 5 else ""
    return f"; class weights by name: {', '.join(common[:5])}{more}"


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

    Adam moves a bias by no more than the learning rate per step: in a short run, keypoints that lie far from the
    anchors of a large instance would otherwise spend most steps on the way to their mean place.

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
