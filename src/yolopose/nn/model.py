"""The pose network: a graph of layers that ends in a head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call

from yolopose.base.errors import ModelError, UsageError
from yolopose.nn.conv import Conv
from yolopose.nn.head import HeadOutput, PoseHead, Shapes
from yolopose.nn.head26 import Pose26
from yolopose.nn.info import ModelInfo, describe
from yolopose.nn.model_yaml import LayerSpec
from yolopose.nn.registry import CONCAT, HEAD
from yolopose.schema import ConfidenceScale, ModelMetadata, PoseSpec


class PoseModel(nn.Module):
    """A pose network as `build_network` makes it.

    Args:
        blocks: one module per layer, the head last.
        layers: specification of each layer.
        spec: classes, keypoints and channels of the image.
        yaml: content that builds the same network again.
        name: family and scale, such as `yolo11n-pose`.
    """

    def __init__(
        self, blocks: nn.Sequential, layers: Sequence[LayerSpec], spec: PoseSpec, yaml: dict[str, Any], name: str
    ):
        super().__init__()
        self.model = blocks
        self.layers = tuple(layers)
        self.spec = spec
        self.yaml = yaml
        self.name = name
        self._last_uses = _last_uses(self.layers)

    @property
    def head(self) -> PoseHead:
        """The head, the last layer."""
        return cast(PoseHead, self.model[-1])

    @property
    def stride(self) -> tuple[int, ...]:
        """Stride of each level in pixels, finest first."""
        return self.head.stride

    @property
    def names(self) -> dict[int, str]:
        """Class names as `{index: name}`."""
        return self.spec.names

    def forward(self, x: Tensor) -> HeadOutput | Tensor:
        """Run the network.

        Args:
            x: (B, C, H, W) 0…1, RGB with 3 channels; H and W multiples of the largest stride.

        Returns:
            `HeadOutput` in training mode; the decoded (B, 4+nc+K·D, A) float32 in evaluation mode, or final detections
            after `select_output(end2end=True)`.
        """
        return self.head(self.features(x))

    def outputs(self, x: Tensor) -> HeadOutput:
        """Run the network and return the raw outputs in either mode; `head.decode` converts them to pixels."""
        return self.head.outputs(self.features(x))

    def outputs_with_features(self, x: Tensor) -> tuple[HeadOutput, list[Tensor]]:
        """Return the raw outputs, and the feature maps that the head reads."""
        maps = self.features(x)
        return self.head.outputs(maps), maps

    def features(self, x: Tensor) -> list[Tensor]:
        """Return the feature maps the head reads, finest first; other maps are freed after their last use."""
        maps = {-1: x}
        for layer, unused, block in zip(self.layers[:-1], self._last_uses, self.model, strict=False):
            inputs = [maps[index] for index in layer.inputs]
            for index in unused:
                del maps[index]
            maps[layer.index] = block(inputs if layer.module == CONCAT else inputs[0])
        return [maps[index] for index in self.layers[-1].inputs]

    def check_layers(self, layers: int | Sequence[int] | None) -> tuple[int, ...]:
        """Return indices of layers whose feature maps `pooled_features` reads.

        Args:
            layers: indices from 0; negative ones count from the head (-2 is the layer before it). None selects the
                coarsest map that the head reads.

        Raises:
            UsageError: the network does not have the layer, or it is the head, which outputs no feature map.
        """
        if layers is None:
            return (self.layers[-1].inputs[-1],)
        indices = (layers,) if isinstance(layers, int) else tuple(layers)
        count = len(self.layers)
        chosen = tuple(index + count if index < 0 else index for index in indices)
        if not chosen or not all(0 <= index < count - 1 for index in chosen):
            raise UsageError(
                f"layers={list(indices)} is not possible: {self.name or 'this network'} has feature maps of the layers "
                f"0 to {count - 2}, or -2 to {-count} from the head; `model.info(detailed=True)` lists them."
            )
        return chosen

    def pooled_features(self, x: Tensor, layers: Sequence[int]) -> Tensor:
        """Return means of feature maps over all positions, (B, C) float32, C the channels of all given layers.

        Layers after the last one are not computed.

        Args:
            x: (B, C, H, W), as of `forward`.
            layers: indices from 0, as of `check_layers`; their means follow each other in this order.
        """
        maps = {-1: x}
        pooled: dict[int, Tensor] = {}
        for layer, unused, block in zip(self.layers[: max(layers) + 1], self._last_uses, self.model, strict=False):
            inputs = [maps[index] for index in layer.inputs]
            for index in unused:
                del maps[index]
            maps[layer.index] = block(inputs if layer.module == CONCAT else inputs[0])
            if layer.index in layers:
                pooled[layer.index] = maps[layer.index].float().mean((2, 3))
        return torch.cat([pooled[index] for index in layers], 1)

    def infer_shapes(self, height: int, width: int) -> Shapes:
        """Return (height, width) of each level the head reads, in anchors, for an input of this size in pixels.

        The network runs in inference mode on an empty batch, with weights that share one uninitialized buffer, so it
        costs almost no memory and time. Forward hooks see the shapes of all layers.
        """
        # an empty CPU batch instead of "meta" tensors: their first batch norm makes PyTorch import its compiler (> 1 s)
        images = torch.empty(0, self.spec.channels, height, width, device="cpu")
        values = self.state_dict()
        # views of one buffer, not expanded scalars: convolutions would copy those to full size
        buffer = torch.empty(max(value.numel() for value in values.values()), device="cpu")
        state = {name: buffer[: value.numel()].view(value.shape) for name, value in values.items()}
        modes = [(module, module.training) for module in self.modules()]
        self.eval()
        self.head.training = True  # raw outputs, while every batch norm is in evaluation mode
        try:
            with torch.no_grad():
                return functional_call(self, state, (images,)).shapes
        finally:
            for module, training in modes:
                module.training = training

    def default_metadata(self) -> ModelMetadata:
        """Return the metadata of this network where no checkpoint or exported file provides it."""
        return ModelMetadata(spec=self.spec, name=self.name, stride=max(self.stride))

    @property
    def is_fused(self) -> bool:
        """Whether the batch norms are folded into the convolutions."""
        return not any(isinstance(module, nn.BatchNorm2d) for module in self.modules())

    @property
    def has_all_branches(self) -> bool:
        """Whether the network can be trained; `fuse` removes one branch of a `Pose26` head."""
        return not isinstance(self.head, Pose26) or self.head.has_all_branches

    @property
    def supports_end2end(self) -> bool:
        """Whether the head has a one-to-one branch."""
        return isinstance(self.head, Pose26)

    def select_output(self, end2end: bool = False, uncertainty: bool = False) -> PoseModel:
        """Select the output of evaluation mode; see `Pose26.decode`.

        Args:
            end2end: final detections of the one-to-one branch.
            uncertainty: σ of each keypoint as well.

        Raises:
            UsageError: the head does not have this branch, or predicts no σ.
            ModelError: it was pruned.
        """
        if isinstance(self.head, Pose26):
            self.head.select_output(end2end, uncertainty)
        elif end2end or uncertainty:
            option = "end2end=True (detections without NMS)" if end2end else "uncertainty=True (σ of each keypoint)"
            raise UsageError(f"{option} needs a network with the head Pose26, as yolo26n-pose; {self.name} has {HEAD}.")
        return self

    @torch.no_grad()
    def scale_confidences(self, scale: ConfidenceScale | None) -> PoseModel:
        """Change the layers that output confidences of the selected output, in place, so that they are calibrated.

        Args:
            scale: the calibration; None changes nothing.
        """
        if scale is None:
            return self
        dims = self.spec.keypoints.dims
        for level in self.head.branches():
            _scale_channels(cast(nn.Conv2d, cast(nn.Sequential, level.scores)[-1]), scale.classes)
            if scale.keypoints and dims == 3:
                channels = [(1.0, 0.0)] * (dims * len(scale.keypoints))
                channels[dims - 1 :: dims] = scale.keypoints
                _scale_channels(level.points, channels)
        return self

    def fuse(self, keep_branches: bool = False) -> PoseModel:
        """Fold every batch norm into its convolution, for faster inference; outputs are equal up to rounding.

        The branch of a `Pose26` head that evaluation mode does not use is removed.

        Args:
            keep_branches: keep both branches, as the losses need them.

        Raises:
            ModelError: the network is in training mode.
        """
        if self.training:
            raise ModelError("fuse() folds statistics that training mode still changes: call model.eval() first.")
        if isinstance(self.head, Pose26) and self.head.has_all_branches and not keep_branches:
            self.head.prune()
        for module in self.modules():
            if isinstance(module, Conv):
                module.fuse()
        return self

    def info(self, detailed: bool = False, verbose: bool = True, imgsz: int | tuple[int, int] = 640) -> ModelInfo:
        """Count layers, parameters and operations.

        Args:
            detailed: log a table of all layers.
            verbose: log the summary.
            imgsz: side, or (height, width), for which operations are counted, pixels.
        """
        return describe(self, detailed, verbose, imgsz)


def _scale_channels(conv: nn.Conv2d, pairs: Sequence[tuple[float, float]]) -> None:
    """Multiply each output channel by a factor and add an offset, in place."""
    factor, offset = conv.weight.new_tensor(pairs).unbind(1)
    conv.weight.mul_(factor[:, None, None, None])
    cast(Tensor, conv.bias).mul_(factor).add_(offset)


def _last_uses(layers: Sequence[LayerSpec]) -> list[tuple[int, ...]]:
    """Return for each layer the inputs that no later layer reads."""
    last = {index: layer.index for layer in layers for index in layer.inputs}
    return [tuple(index for index, user in last.items() if user == layer.index) for layer in layers]
