"""The pose network: a graph of rows that ends in a head."""

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
from yolopose.nn.layers import Row
from yolopose.nn.registry import CONCAT, HEAD
from yolopose.schema import ModelMetadata, PoseSpec


class PoseModel(nn.Module):
    """A pose network as `build_network` makes it.

    Args:
        blocks: one module for each row, the head last.
        rows: what each reads.
        spec: classes and keypoints.
        yaml: content that builds this network again.
        name: family and scale, such as `yolo11n-pose`.
    """

    def __init__(self, blocks: nn.Sequential, rows: Sequence[Row], spec: PoseSpec, yaml: dict[str, Any], name: str):
        super().__init__()
        self.model = blocks
        self.rows = tuple(rows)
        self.spec = spec
        self.yaml = yaml
        self.name = name
        self._release = _last_uses(self.rows)

    @property
    def head(self) -> PoseHead:
        """The head, the last row."""
        return cast(PoseHead, self.model[-1])

    @property
    def stride(self) -> tuple[int, ...]:
        """Pixels per cell of each level that the head reads, finest first."""
        return self.head.stride

    @property
    def names(self) -> dict[int, str]:
        """Classes names as `{index: name}`."""
        return self.spec.names

    def forward(self, x: Tensor) -> HeadOutput | Tensor:
        """Run the network.

        Args:
            x: (B, 3, H, W) RGB 0…1; H and W multiples of the largest stride.

        Returns:
            `HeadOutput` in training mode; the decoded (B, 4+nc+K·D, A) float32 in evaluation mode, or finished
            detections where `use` has chosen them.
        """
        return self.head(self.features(x))

    def outputs(self, x: Tensor) -> HeadOutput:
        """Run the network and returns the raw outputs in either mode; `head.decode` makes pixels of them."""
        return self.head.outputs(self.features(x))

    def features(self, x: Tensor) -> list[Tensor]:
        """Return the maps that the head reads, finest first; each map in between is freed after its last use."""
        maps = {-1: x}
        for row, done, block in zip(self.rows[:-1], self._release, self.model, strict=False):
            inputs = [maps[index] for index in row.inputs]
            for index in done:
                del maps[index]
            maps[row.index] = block(inputs if row.module == CONCAT else inputs[0])
        return [maps[index] for index in self.rows[-1].inputs]

    def infer_shapes(self, height: int, width: int) -> Shapes:
        """Return (height, width) of each level the head reads, in anchors, for an input of this size in pixels.

        The network runs in inference mode on an empty batch, with weights that share one uninitialized buffer, so it
        costs almost no memory and time. Forward hooks see the shapes of all layers.
        """
        # an empty CPU batch instead of "meta" tensors: their first batch norm makes PyTorch import its compiler (> 1 s)
        images = torch.empty(0, int(self.yaml["ch"]), height, width, device="cpu")
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
        """Whether the batch norms have been folded away."""
        return not any(isinstance(module, nn.BatchNorm2d) for module in self.modules())

    @property
    def has_all_branches(self) -> bool:
        """Whether all that training needs is there; `fuse` leaves the second branch of a head away."""
        return not isinstance(self.head, Pose26) or self.head.has_all_branches

    @property
    def supports_end2end(self) -> bool:
        """Whether the head has a branch that answers once for each object."""
        return isinstance(self.head, Pose26)

    def select_output(self, end2end: bool = False, uncertainty: bool = False) -> PoseModel:
        """Choose what evaluation mode gives; see `Pose26.decode`.

        Args:
            end2end: finished detections from the branch that answers once for each object.
            uncertainty: σ of each point as well.

        Raises:
            UsageError: the head has no such branch, or does not know σ.
            ModelError: it has been left away.
        """
        if isinstance(self.head, Pose26):
            self.head.select_output(end2end, uncertainty)
        elif end2end or uncertainty:
            wish = "end2end=True (detections without suppression)" if end2end else "uncertainty=True (σ of each point)"
            raise UsageError(f"{wish} needs a network with the head Pose26, as yolo26n-pose; {self.name} has {HEAD}.")
        return self

    def fuse(self, keep_branches: bool = False) -> PoseModel:
        """Fold every batch norm into its convolution, for faster inference; outputs stay within rounding.

        Of a head with two branches the one that evaluation mode does not use is left away.

        Args:
            keep_branches: keep both, with all that the losses need.

        Raises:
            ModelError: the network is in training mode.
        """
        if self.training:
            raise ModelError("fuse() folds what training still changes: call model.eval() first.")
        if isinstance(self.head, Pose26) and self.head.has_all_branches and not keep_branches:
            self.head.prune()
        for module in self.modules():
            if isinstance(module, Conv):
                module.fuse()
        return self

    def info(self, detailed: bool = False, verbose: bool = True, imgsz: int | tuple[int, int] = 640) -> ModelInfo:
        """Count layers, parameters and computation.

        Args:
            detailed: logs a table of all rows as well.
            verbose: logs the summary.
            imgsz: side, or (height, width), that the computation is counted for, pixels.
        """
        return describe(self, detailed, verbose, imgsz)


def _last_uses(rows: Sequence[Row]) -> list[tuple[int, ...]]:
    """For each row the maps that no later row reads."""
    last = {index: row.index for row in rows for index in row.inputs}
    return [tuple(index for index, user in last.items() if user == row.index) for row in rows]
