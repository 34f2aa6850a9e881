"""The pose head: boxes, class scores and keypoints at every cell, and their decoding to pixels."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
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
        boxes: (B, 4·bins, A) logits of the side distances, side-major (bins of left, top, right, bottom); the distances
            themselves where there is one bin.
        scores: (B, nc, A) logits.
        kpts: (B, K·D, A) raw keypoints, x y [v] per point.
        shapes: (height, width) of each level, in cells.
        sigmas: (B, 2·K, A) logits of how far points may be off, x y per point; None where the head does not say.
        one2one: what the branch gives that answers once for each object; None where there is no such branch.
    """

    boxes: Tensor
    scores: Tensor
    kpts: Tensor
    shapes: Shapes
    sigmas: Tensor | None = None
    one2one: HeadOutput | None = None


@dataclass(frozen=True)
class LevelBranches:
    """What a head does with the map of one level.

    Attributes:
        boxes: gives (B, 4·bins, h, w) logits of the side distances, or distances.
        scores: gives (B, nc, h, w) logits.
        trunk: what stands before `points`.
        points: gives (B, K·D, h, w) raw keypoints.
        scale: of raw x and y to grid units: a point is at scale · raw + shift from the cell's center.
        shift: see `scale`.
    """

    boxes: nn.Module
    scores: nn.Module
    trunk: nn.Module
    points: nn.Conv2d
    scale: float
    shift: float


def anchor_points(
    shapes: Shapes, strides: Sequence[float], device: torch.device | str | None = None
) -> tuple[Tensor, Tensor]:
    """Return the cell centers in grid units, (2, A) x and y, and each cell's stride in pixels, (A,); float32."""
    points: list[Tensor] = []
    sizes: list[Tensor] = []
    for (height, width), stride in zip(shapes, strides, strict=True):
        x = torch.arange(width, dtype=torch.float32, device=device) + 0.5
        y = torch.arange(height, dtype=torch.float32, device=device) + 0.5
        grid = torch.stack((x[None, :].expand(height, width), y[:, None].expand(height, width)))
        points.append(grid.flatten(1))
        sizes.append(torch.full_like(grid[0], stride).flatten())
    return torch.cat(points, 1), torch.cat(sizes)


def level_centers(
    shapes: Shapes, strides: Sequence[float], device: torch.device | str | None = None
) -> list[tuple[Tensor, Tensor]]:
    """Return where the cells of each level have their centers: (w,) x and (h,) y in pixels, ascending, float32."""

    def along(side: int, stride: float) -> Tensor:
        return (torch.arange(side, dtype=torch.float32, device=device) + 0.5) * stride

    sized = zip(shapes, strides, strict=True)
    return [(along(width, stride), along(height, stride)) for (height, width), stride in sized]


def decode_boxes(distances: Tensor, points: Tensor, strides: Tensor) -> Tensor:
    """(B, 4, A) distances in grid units → (B, 4, A) cx, cy, w, h in pixels."""
    near, far = distances.chunk(2, 1)
    return torch.cat((points + (far - near) / 2, near + far), 1) * strides


def decode_keypoints(raw: Tensor, points: Tensor, strides: Tensor, dims: int) -> Tensor:
    """(B, K·D, A) raw keypoints → (B, K, D, A) x, y in pixels [and visibility 0…1], float32."""
    raw = raw.float().unflatten(1, (-1, dims))
    xy = (2 * raw[:, :, :2] + (points - 0.5)) * strides
    return xy if dims == 2 else torch.cat((xy, raw[:, :, 2:].sigmoid()), 2)


class PoseHead(nn.Module):
    """What the heads of all families have in common.

    Args:
        nc: classes.
        kpt_shape: (K, D), D 2 or 3.
        reg_max: bins for each box side; 1 where distances are given directly.

    Attributes:
        stride: pixels per cell of each level; set once they have been measured.
        end2end: whether `forward` gives finished detections in evaluation mode.
    """

    end2end = False

    def __init__(self, nc: int, kpt_shape: tuple[int, int], reg_max: int) -> None:
        super().__init__()
        self.nc = nc
        self.kpt_shape = kpt_shape
        self.reg_max = reg_max
        self.stride: tuple[int, ...] = ()
        self._anchors: dict[tuple[Shapes, torch.device], tuple[Tensor, Tensor]] = {}
        self.fixed_points: Tensor | None
        self.fixed_strides: Tensor | None
        self.register_buffer("fixed_points", None, persistent=False)
        self.register_buffer("fixed_strides", None, persistent=False)

    def outputs(self, maps: Sequence[Tensor]) -> HeadOutput:
        """[(B, cᵢ, hᵢ, wᵢ), …] → raw outputs of all levels, joined."""
        raise NotImplementedError

    def decode(self, output: HeadOutput) -> Tensor:
        """Raw outputs → what `forward` gives in evaluation mode."""
        raise NotImplementedError

    def branches(self) -> list[LevelBranches]:
        """What reads the map of each level, finest first; for graphs that keep the levels apart."""
        raise NotImplementedError

    def reset(self) -> None:
        """Set the start values that are the head's own."""
        raise NotImplementedError

    def forward(self, maps: Sequence[Tensor]) -> HeadOutput | Tensor:
        """Return `HeadOutput` in training mode, the decoded tensor in evaluation mode."""
        output = self.outputs(maps)
        return output if self.training else self.decode(output)

    def anchors(self, shapes: Shapes, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return `anchor_points` of these level shapes, remembered from call to call outside the state."""
        if self.fixed_points is not None and self.fixed_strides is not None:
            return self.fixed_points, self.fixed_strides
        if tracing():  # it must compute them from the input's own size, so that other sizes go as well
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
        """Settle the level shapes, for a graph of one input size: its anchors are constants then."""
        self.fixed_points, self.fixed_strides = anchor_points(shapes, self.stride)


class Pose(PoseHead):
    """Anchor-free pose head of YOLOv8, YOLO11 and YOLO12.

    Args:
        nc: classes.
        kpt_shape: (K, D), D 2 or 3.
        ch: channels of the feature maps, finest level first.
        light: class branch of depth-wise convolutions (YOLO11, YOLO12); False is the plain one (YOLOv8).
        reg_max: bins for each box side.
    """

    def __init__(
        self, nc: int, kpt_shape: tuple[int, int], ch: Sequence[int], light: bool = True, reg_max: int = 16
    ) -> None:
        super().__init__(nc, kpt_shape, reg_max)
        count = kpt_shape[0] * kpt_shape[1]
        c2, c3, c4 = max(16, ch[0] // 4, 4 * reg_max), max(ch[0], min(nc, 100)), max(ch[0] // 4, count)
        class_branch = light_branch if light else branch
        self.cv2 = nn.ModuleList(branch(c, c2, 4 * reg_max) for c in ch)
        self.cv3 = nn.ModuleList(class_branch(c, c3, nc) for c in ch)
        self.dfl = DFL(reg_max)
        self.cv4 = nn.ModuleList(branch(c, c4, count) for c in ch)

    def outputs(self, maps: Sequence[Tensor]) -> HeadOutput:
        """[(B, cᵢ, hᵢ, wᵢ), …] → raw outputs of all levels, joined."""
        return HeadOutput(joined(self.cv2, maps), joined(self.cv3, maps), joined(self.cv4, maps), level_shapes(maps))

    def branches(self) -> list[LevelBranches]:
        """What reads the map of each level."""
        rows = zip(self.cv2, self.cv3, cast("list[nn.Sequential]", self.cv4), strict=True)
        return [LevelBranches(box, cls, kpt[:-1], cast(nn.Conv2d, kpt[-1]), 2.0, -0.5) for box, cls, kpt in rows]

    def decode(self, output: HeadOutput) -> Tensor:
        """Raw outputs → (B, 4+nc+K·D, A) float32: cx, cy, w, h in pixels, scores 0…1, keypoints in pixels.

        Computed in float32 whatever the network runs in, since 16 bits hold no sub-pixel positions.
        """
        points, strides = self.anchors(output.shapes, output.boxes.device)
        boxes = decode_boxes(self.dfl(output.boxes), points, strides)
        keypoints = decode_keypoints(output.kpts, points, strides, self.kpt_shape[1])
        return torch.cat((boxes, output.scores.float().sigmoid(), keypoints.flatten(1, 2)), 1)

    def reset(self) -> None:
        """Set the start values that are the head's own: bins, box and class biases (5 objects a 640² image)."""
        self.dfl.reset()
        set_biases(self.cv2, self.cv3, self.stride)


@torch.no_grad()
def set_biases(boxes: nn.ModuleList, classes: nn.ModuleList, strides: Sequence[int]) -> None:
    """Set the biases that box and class branches begin with: scores as of 5 objects in an image of 640 x 640."""
    for stride, box, cls in zip(strides, boxes, classes, strict=True):
        _bias(box).fill_(2.0)
        bias = _bias(cls)
        bias.fill_(math.log(5 / len(bias) / (640 / stride) ** 2))


def joined(branches: Iterable[nn.Module], maps: Sequence[Tensor]) -> Tensor:
    """Run a branch on the map of each level: [(B, cᵢ, hᵢ, wᵢ), …] → (B, c, A)."""
    return torch.cat([branch(x).flatten(2) for branch, x in zip(branches, maps, strict=True)], 2)


def level_shapes(maps: Sequence[Tensor]) -> Shapes:
    """Return (height, width) of each map, in cells."""
    return tuple((x.shape[2], x.shape[3]) for x in maps)


def tracing() -> bool:
    """Whether a graph is being made of the network, which must serve other input sizes as well."""
    traced = torch.jit.is_tracing()  # pyright: ignore[reportPrivateImportUsage]  # documented, yet not in __all__
    return traced or torch.compiler.is_compiling()


def branch(c1: int, hidden: int, c2: int) -> nn.Module:
    """Return the plain branch of a level: two 3×3 units and a 1×1 convolution to c2 channels."""
    return nn.Sequential(Conv(c1, hidden, 3), Conv(hidden, hidden, 3), nn.Conv2d(hidden, c2, 1))


def light_branch(c1: int, hidden: int, c2: int) -> nn.Module:
    """Return the branch of depth-wise and 1×1 units."""
    return nn.Sequential(
        nn.Sequential(DWConv(c1, c1, 3), Conv(c1, hidden)),
        nn.Sequential(DWConv(hidden, hidden, 3), Conv(hidden, hidden)),
        nn.Conv2d(hidden, c2, 1),
    )


def _bias(branch: nn.Module) -> Tensor:
    last = cast(nn.Sequential, branch)[-1]
    return cast(Tensor, last.bias)
