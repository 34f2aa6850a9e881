"""The pose head: boxes, class scores and keypoints at every cell, and their decoding to pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from yolopose.nn.conv import DFL, Conv, DWConv

Shapes = tuple[tuple[int, int], ...]

_CACHED_SHAPES = 16


@dataclass(frozen=True)
class HeadOutput:
    """What the head gives before decoding; A cells of all levels, row-major within a level.

    Attributes:
        boxes: (B, 4·bins, A) logits of the side distances, side-major (bins of left, top, right, bottom).
        scores: (B, nc, A) logits.
        kpts: (B, K·D, A) raw keypoints, x y [v] per point.
        shapes: (height, width) of each level, in cells.
    """

    boxes: Tensor
    scores: Tensor
    kpts: Tensor
    shapes: Shapes


def anchor_points(
    shapes: Shapes, strides: Sequence[float], device: torch.device | str | None = None
) -> tuple[Tensor, Tensor]:
    """Returns the cell centres in grid units, (2, A) x and y, and each cell's stride in pixels, (A,); float32."""
    points: list[Tensor] = []
    sizes: list[Tensor] = []
    for (height, width), stride in zip(shapes, strides, strict=True):
        x = torch.arange(width, dtype=torch.float32, device=device) + 0.5
        y = torch.arange(height, dtype=torch.float32, device=device) + 0.5
        grid = torch.stack((x[None, :].expand(height, width), y[:, None].expand(height, width)))
        points.append(grid.flatten(1))
        sizes.append(torch.full_like(grid[0], stride).flatten())
    return torch.cat(points, 1), torch.cat(sizes)


def decode_boxes(distances: Tensor, points: Tensor, strides: Tensor) -> Tensor:
    """(B, 4, A) distances in grid units → (B, 4, A) cx, cy, w, h in pixels."""
    near, far = distances.chunk(2, 1)
    return torch.cat((points + (far - near) / 2, near + far), 1) * strides


def decode_keypoints(raw: Tensor, points: Tensor, strides: Tensor, dims: int) -> Tensor:
    """(B, K·D, A) raw keypoints → (B, K, D, A) x, y in pixels [and visibility 0…1], float32."""
    raw = raw.float().unflatten(1, (-1, dims))
    xy = (2 * raw[:, :, :2] + (points - 0.5)) * strides
    return xy if dims == 2 else torch.cat((xy, raw[:, :, 2:].sigmoid()), 2)


class Pose(nn.Module):
    """Anchor-free pose head of YOLOv8 and YOLO11.

    Args:
        nc: classes.
        kpt_shape: (K, D), D 2 or 3.
        ch: channels of the feature maps, finest level first.
        light: class branch of depth-wise convolutions (YOLO11); False is the plain one (YOLOv8).
        reg_max: bins for each box side.

    Attributes:
        stride: pixels per cell of each level; set once they have been measured.
    """

    def __init__(
        self, nc: int, kpt_shape: tuple[int, int], ch: Sequence[int], light: bool = True, reg_max: int = 16
    ) -> None:
        super().__init__()
        self.nc = nc
        self.kpt_shape = kpt_shape
        self.reg_max = reg_max
        self.stride: tuple[int, ...] = ()
        count = kpt_shape[0] * kpt_shape[1]
        c2, c3, c4 = max(16, ch[0] // 4, 4 * reg_max), max(ch[0], min(nc, 100)), max(ch[0] // 4, count)
        class_branch = _light_branch if light else _branch
        self.cv2 = nn.ModuleList(_branch(c, c2, 4 * reg_max) for c in ch)
        self.cv3 = nn.ModuleList(class_branch(c, c3, nc) for c in ch)
        self.dfl = DFL(reg_max)
        self.cv4 = nn.ModuleList(_branch(c, c4, count) for c in ch)
        self._anchors: dict[tuple[Shapes, torch.device], tuple[Tensor, Tensor]] = {}
        self.fixed_points: Tensor | None
        self.fixed_strides: Tensor | None
        self.register_buffer("fixed_points", None, persistent=False)
        self.register_buffer("fixed_strides", None, persistent=False)

    def outputs(self, maps: Sequence[Tensor]) -> HeadOutput:
        """[(B, cᵢ, hᵢ, wᵢ), …] → raw outputs of all levels, joined."""

        def joined(branches: nn.ModuleList) -> Tensor:
            return torch.cat([branch(x).flatten(2) for branch, x in zip(branches, maps, strict=True)], 2)

        shapes = tuple((x.shape[2], x.shape[3]) for x in maps)
        return HeadOutput(joined(self.cv2), joined(self.cv3), joined(self.cv4), shapes)

    def decode(self, output: HeadOutput) -> Tensor:
        """Raw outputs → (B, 4+nc+K·D, A) float32: cx, cy, w, h in pixels, scores 0…1, keypoints in pixels.

        Computed in float32 whatever the network runs in, since 16 bits hold no sub-pixel positions.
        """
        points, strides = self.anchors(output.shapes, output.boxes.device)
        boxes = decode_boxes(self.dfl(output.boxes), points, strides)
        keypoints = decode_keypoints(output.kpts, points, strides, self.kpt_shape[1])
        return torch.cat((boxes, output.scores.float().sigmoid(), keypoints.flatten(1, 2)), 1)

    def anchors(self, shapes: Shapes, device: torch.device) -> tuple[Tensor, Tensor]:
        """Returns `anchor_points` of these level shapes, remembered from call to call outside the state."""
        if self.fixed_points is not None and self.fixed_strides is not None:
            return self.fixed_points, self.fixed_strides
        # a trace or graph must compute them from the input's own size, so that other sizes go as well
        tracing = torch.jit.is_tracing()  # pyright: ignore[reportPrivateImportUsage]  # documented, yet not in __all__
        if tracing or torch.compiler.is_compiling():
            return anchor_points(shapes, self.stride, device)
        key = (shapes, device)
        found = self._anchors.get(key)
        if found is None:
            if len(self._anchors) >= _CACHED_SHAPES:
                self._anchors.clear()
            with torch.inference_mode(False):  # what validation made must serve training too
                found = self._anchors[key] = anchor_points(shapes, self.stride, device)
        return found

    def fix_anchors(self, shapes: Shapes) -> None:
        """Settles the level shapes, for a graph of one input size: its anchors are constants then."""
        self.fixed_points, self.fixed_strides = anchor_points(shapes, self.stride)

    def forward(self, maps: Sequence[Tensor]) -> HeadOutput | Tensor:
        """Returns `HeadOutput` in training mode, the decoded tensor in evaluation mode."""
        output = self.outputs(maps)
        return output if self.training else self.decode(output)

    @torch.no_grad()
    def reset(self) -> None:
        """Sets the start values that are the head's own: bins, box and class biases (5 objects a 640² picture)."""
        self.dfl.reset()
        for stride, box, cls in zip(self.stride, self.cv2, self.cv3, strict=True):
            _bias(box).fill_(2.0)
            _bias(cls).fill_(math.log(5 / self.nc / (640 / stride) ** 2))


def _branch(c1: int, hidden: int, c2: int) -> nn.Module:
    return nn.Sequential(Conv(c1, hidden, 3), Conv(hidden, hidden, 3), nn.Conv2d(hidden, c2, 1))


def _light_branch(c1: int, hidden: int, c2: int) -> nn.Module:
    return nn.Sequential(
        nn.Sequential(DWConv(c1, c1, 3), Conv(c1, hidden)),
        nn.Sequential(DWConv(hidden, hidden, 3), Conv(hidden, hidden)),
        nn.Conv2d(hidden, c2, 1),
    )


def _bias(branch: nn.Module) -> Tensor:
    last = cast(nn.Sequential, branch)[-1]
    return cast(Tensor, last.bias)
