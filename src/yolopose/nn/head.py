"""Pose heads with one branch: boxes, class scores and keypoints at every anchor, and their decoding to pixels."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from yolopose.nn.conv import DFL, Conv, DWConv

Shapes = tuple[tuple[int, int], ...]

_MAX_CACHED_SHAPES = 16


@dataclass(frozen=True)
class HeadOutput:
    """Raw output of a head at the A anchors of all levels, row-major within a level.

    Attributes:
        boxes: (B, 4·bins, A) logits of the side distances, side-major (bins of left, top, right, bottom); with one bin
            the distances.
        scores: (B, nc, A) logits.
        kpts: (B, K·D, A) raw keypoints, x y [v] per keypoint.
        shapes: (height, width) of each level, in anchors.
        sigmas: (B, 2·K, A) logits of the σ of keypoints, x y per keypoint; None where the head predicts none.
        one2one: output of the one-to-one branch; None where the head does not have it.
        states: (B, K, A) logits that a labeled keypoint is visible, not hidden; None with two states.
    """

    boxes: Tensor
    scores: Tensor
    kpts: Tensor
    shapes: Shapes
    sigmas: Tensor | None = None
    one2one: HeadOutput | None = None
    states: Tensor | None = None

    def slice_images(self, start: int, end: int) -> HeadOutput:
        """Return the output of images `start`…`end - 1`."""
        rows = slice(start, end)
        sigmas = None if self.sigmas is None else self.sigmas[rows]
        states = None if self.states is None else self.states[rows]
        one2one = None if self.one2one is None else self.one2one.slice_images(start, end)
        return HeadOutput(self.boxes[rows], self.scores[rows], self.kpts[rows], self.shapes, sigmas, one2one, states)


@dataclass(frozen=True)
class LevelBranches:
    """The modules of a head that read the feature map of one level.

    Attributes:
        boxes: outputs (B, 4·bins, h, w) logits of the side distances, or distances.
        scores: outputs (B, nc, h, w) logits.
        trunk: the layers before `points`.
        points: outputs (B, K·D, h, w) raw keypoints.
        scale: a keypoint is at anchor point + scale · raw + shift, in grid units.
        shift: see `scale`.
        states: outputs (B, K, h, w) logits that a labeled keypoint is visible, from the output of `trunk`; None with
            two states.
    """

    boxes: nn.Module
    scores: nn.Module
    trunk: nn.Module
    points: nn.Conv2d
    scale: float
    shift: float
    states: nn.Conv2d | None = None


def anchor_points(
    shapes: Shapes, strides: Sequence[float], device: torch.device | str | None = None
) -> tuple[Tensor, Tensor]:
    """Return (2, A) anchor points x, y in grid units and the (A,) stride of each in pixels; float32."""
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
    """Return the anchor centers of each level: (w,) x and (h,) y in pixels, ascending, float32."""

    def centers(side: int, stride: float) -> Tensor:
        return (torch.arange(side, dtype=torch.float32, device=device) + 0.5) * stride

    levels = zip(shapes, strides, strict=True)
    return [(centers(width, stride), centers(height, stride)) for (height, width), stride in levels]


def decode_boxes(distances: Tensor, points: Tensor, strides: Tensor) -> Tensor:
    """(B, 4, A) distances in grid units → (B, 4, A) cx, cy, w, h in pixels."""
    near, far = distances.chunk(2, 1)
    return torch.cat((points + (far - near) / 2, near + far), 1) * strides


def decode_keypoints(raw: Tensor, points: Tensor, strides: Tensor, dims: int) -> Tensor:
    """(B, K·D, A) raw keypoints → (B, K, D, A) x, y in pixels [and visibility 0…1], float32."""
    raw = raw.float().unflatten(1, (-1, dims))
    xy = (2 * raw[:, :, :2] + (points - 0.5)) * strides
    return xy if dims == 2 else torch.cat((xy, raw[:, :, 2:].sigmoid()), 2)


def decode_states(logits: Tensor | None, conf: Tensor) -> list[Tensor]:
    """Return [probabilities that each keypoint is visible], or [] with two states; float32.

    The two logits of a keypoint make three states: it is labeled with probability c, its confidence, and a labeled one
    is visible with probability p. So it is absent with 1 − c, hidden with c·(1 − p) and visible with c·p, and c means
    the same as with two states.

    Args:
        logits: (B, K, …) logits of p.
        conf: (B, K, …) c, 0…1.
    """
    return [] if logits is None else [conf * logits.float().sigmoid()]


class PoseHead(nn.Module):
    """Base class of the heads of all families.

    Args:
        nc: classes.
        kpt_shape: (K, D), D 2 or 3.
        reg_max: bins per box side; 1 where distances are predicted directly.
        states: states of a keypoint: 2 (labeled or not) or 3 (absent, hidden, visible; with D = 3 only).

    Attributes:
        stride: stride of each level in pixels; set after measuring.
        end2end: whether `forward` returns final detections in evaluation mode.
    """

    end2end = False

    def __init__(self, nc: int, kpt_shape: tuple[int, int], reg_max: int, states: int = 2) -> None:
        super().__init__()
        self.nc = nc
        self.states = states
        self.kpt_shape = kpt_shape
        self.reg_max = reg_max
        self.stride: tuple[int, ...] = ()
        self._anchor_cache: dict[tuple[Shapes, torch.device], tuple[Tensor, Tensor]] = {}
        self.fixed_points: Tensor | None
        self.fixed_strides: Tensor | None
        self.register_buffer("fixed_points", None, persistent=False)
        self.register_buffer("fixed_strides", None, persistent=False)

    def outputs(self, maps: Sequence[Tensor], known: HeadOutput | None = None) -> HeadOutput:
        """[(B, cᵢ, hᵢ, wᵢ), …] → raw outputs, concatenated over levels.

        Args:
            maps: feature maps, finest level first.
            known: boxes and scores for these maps: only the keypoint branch runs.
        """
        raise NotImplementedError

    def keypoint_branch(self) -> nn.ModuleList:
        """Return the modules that only the keypoints and their σ depend on."""
        raise NotImplementedError

    def decode(self, output: HeadOutput) -> Tensor:
        """Raw outputs → the output of `forward` in evaluation mode."""
        raise NotImplementedError

    def branches(self) -> list[LevelBranches]:
        """Return the modules of each level, finest first, for exports with separate outputs per level."""
        raise NotImplementedError

    def keypoint_layers(self) -> list[tuple[int, nn.Conv2d]]:
        """Return stride and module of every convolution that outputs keypoints, in all branches."""
        raise NotImplementedError

    def reset_parameters(self) -> None:
        """Initialize what differs from PyTorch's defaults."""
        raise NotImplementedError

    def forward(self, maps: Sequence[Tensor]) -> HeadOutput | Tensor:
        """Return `HeadOutput` in training mode, the decoded tensor in evaluation mode."""
        output = self.outputs(maps)
        return output if self.training else self.decode(output)

    def anchors(self, shapes: Shapes, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return `anchor_points` of these level shapes, cached outside the state_dict."""
        if self.fixed_points is not None and self.fixed_strides is not None:
            return self.fixed_points, self.fixed_strides
        if is_tracing():  # computed in the graph from the input size, so that it supports other sizes
            return anchor_points(shapes, self.stride, device)
        key = (shapes, device)
        if key not in self._anchor_cache:
            if len(self._anchor_cache) >= _MAX_CACHED_SHAPES:
                self._anchor_cache.clear()
            with torch.inference_mode(False):  # tensors cached during validation must be usable in training
                self._anchor_cache[key] = anchor_points(shapes, self.stride, device)
        return self._anchor_cache[key]

    def fix_anchors(self, shapes: Shapes) -> None:
        """Fix the level shapes: anchors become constants of an exported graph with one input size."""
        self.fixed_points, self.fixed_strides = anchor_points(shapes, self.stride)


class Pose(PoseHead):
    """Anchor-free pose head of YOLOv8, YOLO11 and YOLO12.

    Args:
        nc: classes.
        kpt_shape: (K, D), D 2 or 3.
        ch: channels of the feature maps, finest level first.
        light: use the class branch of depth-wise convolutions (YOLO11, YOLO12); False is that of YOLOv8.
        reg_max: bins per box side.
        states: see `PoseHead`.
    """

    def __init__(
        self,
        nc: int,
        kpt_shape: tuple[int, int],
        ch: Sequence[int],
        light: bool = True,
        reg_max: int = 16,
        states: int = 2,
    ) -> None:
        super().__init__(nc, kpt_shape, reg_max, states)
        count = kpt_shape[0] * kpt_shape[1]
        c2, c3, c4 = max(16, ch[0] // 4, 4 * reg_max), max(ch[0], min(nc, 100)), max(ch[0] // 4, count)
        class_branch = depthwise_branch if light else conv_branch
        self.cv2 = nn.ModuleList(conv_branch(c, c2, 4 * reg_max) for c in ch)
        self.cv3 = nn.ModuleList(class_branch(c, c3, nc) for c in ch)
        self.dfl = DFL(reg_max)
        self.cv4 = nn.ModuleList(conv_branch(c, c4, count) for c in ch)
        self.cv4_state = nn.ModuleList(nn.Conv2d(c4, kpt_shape[0], 1) for _ in ch) if states == 3 else None

    def outputs(self, maps: Sequence[Tensor], known: HeadOutput | None = None) -> HeadOutput:
        """[(B, cᵢ, hᵢ, wᵢ), …] → raw outputs, concatenated over levels; see `PoseHead.outputs`."""
        kpts, states = self._keypoints(maps)
        return HeadOutput(
            known.boxes if known else concat_levels(self.cv2, maps),
            known.scores if known else concat_levels(self.cv3, maps),
            kpts,
            feature_shapes(maps),
            states=states,
        )

    def _keypoints(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor | None]:
        """Return raw keypoints and, with three states, the logits of the states."""
        if self.cv4_state is None:
            return concat_levels(self.cv4, maps), None
        branches = cast("list[nn.Sequential]", self.cv4)
        trunks = [branch[:-1](x) for branch, x in zip(branches, maps, strict=True)]
        return concat_levels((branch[-1] for branch in branches), trunks), concat_levels(self.cv4_state, trunks)

    def keypoint_branch(self) -> nn.ModuleList:
        """Return the modules that only the keypoints depend on."""
        return nn.ModuleList([self.cv4] if self.cv4_state is None else [self.cv4, self.cv4_state])

    def branches(self) -> list[LevelBranches]:
        """Return the modules of each level, finest first."""
        states = [None] * len(self.cv4) if self.cv4_state is None else cast("list[nn.Conv2d]", self.cv4_state)
        levels = zip(self.cv2, self.cv3, cast("list[nn.Sequential]", self.cv4), states, strict=True)
        return [
            LevelBranches(box, cls, kpt[:-1], cast(nn.Conv2d, kpt[-1]), 2.0, -0.5, state)
            for box, cls, kpt, state in levels
        ]

    def keypoint_layers(self) -> list[tuple[int, nn.Conv2d]]:
        """Return stride and module of every convolution that outputs keypoints."""
        return [(stride, level.points) for stride, level in zip(self.stride, self.branches(), strict=True)]

    def decode(self, output: HeadOutput) -> Tensor:
        """Raw outputs → (B, 4+nc+K·D, A) float32: cx, cy, w, h in pixels, scores 0…1, keypoints in pixels.

        With three states, K more values: the probability that each keypoint is visible (`decode_states`).

        Computed in float32 for any precision of the network: 16 bits cannot represent sub-pixel positions.
        """
        points, strides = self.anchors(output.shapes, output.boxes.device)
        boxes = decode_boxes(self.dfl(output.boxes), points, strides)
        keypoints = decode_keypoints(output.kpts, points, strides, self.kpt_shape[1])
        states = decode_states(output.states, keypoints[:, :, -1])
        return torch.cat((boxes, output.scores.float().sigmoid(), keypoints.flatten(1, 2), *states), 1)

    def reset_parameters(self) -> None:
        """Initialize the bins and the biases of box and class branches."""
        self.dfl.reset_parameters()
        init_biases(self.cv2, self.cv3, self.stride)
        init_states(self.cv4_state)


@torch.no_grad()
def init_biases(boxes: nn.ModuleList, classes: nn.ModuleList, strides: Sequence[int]) -> None:
    """Initialize the biases of box and class branches.

    Class scores start at the rate of 5 instances per 640×640 image, so that the first losses are not dominated by
    background anchors (prior of RetinaNet, arXiv 1708.02002).
    """
    for stride, box, cls in zip(strides, boxes, classes, strict=True):
        _last_bias(box).fill_(2.0)
        bias = _last_bias(cls)
        bias.fill_(math.log(5 / len(bias) / (640 / stride) ** 2))


@torch.no_grad()
def init_states(layers: nn.ModuleList | None) -> None:
    """Set the layers of the states to zero: hidden and visible are equally probable at the start."""
    for layer in () if layers is None else layers:
        for parameter in layer.parameters():
            parameter.zero_()


def concat_levels(branches: Iterable[nn.Module], maps: Sequence[Tensor]) -> Tensor:
    """Run each level's branch on its map and concatenate: [(B, cᵢ, hᵢ, wᵢ), …] → (B, c, A)."""
    return torch.cat([branch(x).flatten(2) for branch, x in zip(branches, maps, strict=True)], 2)


def feature_shapes(maps: Sequence[Tensor]) -> Shapes:
    """Return (height, width) of each map, in anchors."""
    return tuple((x.shape[2], x.shape[3]) for x in maps)


def is_tracing() -> bool:
    """Return whether a graph of the network is being captured, which must support other input sizes."""
    traced = torch.jit.is_tracing()  # pyright: ignore[reportPrivateImportUsage]  # documented, yet not in __all__
    return traced or torch.compiler.is_compiling()


def conv_branch(c1: int, hidden: int, c2: int) -> nn.Module:
    """Return two 3×3 units and a 1×1 convolution to c2 channels."""
    return nn.Sequential(Conv(c1, hidden, 3), Conv(hidden, hidden, 3), nn.Conv2d(hidden, c2, 1))


def depthwise_branch(c1: int, hidden: int, c2: int) -> nn.Module:
    """Return two pairs of a depth-wise 3×3 and a 1×1 unit, and a 1×1 convolution to c2 channels."""
    return nn.Sequential(
        nn.Sequential(DWConv(c1, c1, 3), Conv(c1, hidden)),
        nn.Sequential(DWConv(hidden, hidden, 3), Conv(hidden, hidden)),
        nn.Conv2d(hidden, c2, 1),
    )


def _last_bias(branch: nn.Module) -> Tensor:
    last = cast(nn.Sequential, branch)[-1]
    return cast(Tensor, last.bias)
