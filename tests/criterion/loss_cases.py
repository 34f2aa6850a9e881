"""Inputs that the tests of assignment and losses share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from yolopose.criterion import Targets
from yolopose.nn import PoseModel, build_network
from yolopose.nn.head import HeadOutput, anchor_points, level_centers

STRIDES = (8, 16, 32)
NAMES = ("boxes", "scores", "kpts", "kpts_sigma")


def level_shapes(hw: tuple[int, int]) -> tuple[tuple[int, int], ...]:
    return tuple((hw[0] // stride, hw[1] // stride) for stride in STRIDES)


def pixel_anchors(hw: tuple[int, int]) -> torch.Tensor:
    """(2, A) anchor centers, pixels."""
    points, sizes = anchor_points(level_shapes(hw), STRIDES)
    return points * sizes


def anchor_levels(hw: tuple[int, int]) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return level_centers(level_shapes(hw), STRIDES)


def head_output(raw: Mapping[str, Any], hw: tuple[int, int]) -> HeadOutput:
    """Make a head's output of arrays named as in `NAMES`; gradients reach its tensors."""
    tensors = [torch.tensor(raw[name], requires_grad=True) if name in raw else None for name in NAMES]
    return HeadOutput(*tensors[:3], level_shapes(hw), tensors[3])  # type: ignore[arg-type]  # the first three are given


def random_output(
    hw: tuple[int, int], nc: int = 1, values: int = 51, batch: int = 2, seed: int = 0, sigmas: int = 0
) -> HeadOutput:
    """Make random raw output; with `sigmas` keypoints that of one branch of a `Pose26` head."""
    anchors = sum(height * width for height, width in level_shapes(hw))
    rng = np.random.default_rng(seed)
    sizes = {"boxes": 4 if sigmas else 64, "scores": nc, "kpts": values}
    sizes |= {"kpts_sigma": 2 * sigmas} if sigmas else {}
    arrays = {name: rng.normal(size=(batch, count, anchors)).astype(np.float32) for name, count in sizes.items()}
    if sigmas:
        arrays["boxes"] = np.abs(arrays["boxes"]) + 1  # distances in grid units
    return head_output(arrays, hw)


def random_targets(
    count: int, hw: tuple[int, int], batch: int, points: int = 17, nc: int = 1, seed: int = 1
) -> Targets:
    rng = np.random.default_rng(seed)
    center = rng.uniform(0.1, 0.9, (count, 2))
    boxes = np.concatenate((center, rng.uniform(0.02, 0.2, (count, 2))), 1)
    keypoints = np.concatenate((rng.uniform(0, 1, (count, points, 2)), rng.integers(0, 3, (count, points, 1))), 2)
    return Targets.from_normalized(
        torch.from_numpy(np.sort(rng.integers(0, batch, count))),
        torch.from_numpy(rng.integers(0, nc, count)),
        torch.from_numpy(boxes).float(),
        torch.from_numpy(keypoints).float(),
        hw,
    )


def instance_scene(seed: int = 0, count: int = 12, hw: tuple[int, int] = (96, 128), points: int = 3) -> Any:
    """Scores, predicted boxes, strides, targets and predicted keypoints; the first instance has no labeled keypoint."""
    rng = np.random.default_rng(seed)
    centers, sizes = anchor_points(level_shapes(hw), STRIDES)
    anchors = centers * sizes
    low = rng.uniform(0, 0.8, (count, 2)) * hw[::-1]
    side = np.exp(rng.uniform(1, 5, (count, 2)))
    xy = low[:, None] + rng.uniform(0, 1, (count, points, 2)) * side[:, None]
    keypoints = np.concatenate((xy, rng.integers(0, 3, (count, points, 1))), 2)
    keypoints[0, :, 2] = 0
    targets = Targets(
        torch.arange(count) % 2,
        torch.zeros(count, dtype=torch.int64),
        torch.from_numpy(np.concatenate((low, low + side), 1)).float(),
        torch.from_numpy(keypoints).float(),
    )
    scores = torch.from_numpy(rng.uniform(0.01, 1, (2, 1, anchors.shape[1]))).float()
    predicted = anchors[None, None] + torch.from_numpy(rng.normal(0, 15, (2, points, 2, anchors.shape[1]))).float()
    corners = torch.cat((anchors.T - 10, anchors.T + 10), 1).expand(2, -1, 4)
    return scores, corners, sizes, targets, predicted


def tiny_network(head: str = "Pose26") -> PoseModel:
    """A network with strides 8, 16 and 32."""
    torch.manual_seed(0)
    backbone = [[-1, 1, "Conv", [8, 3, 4]], *([-1, 1, "Conv", [16, 3, 2]] for _ in range(3))]
    values = {"nc": 1, "kpt_shape": [3, 3], "backbone": backbone}
    return build_network(values | {"head": [[[1, 2, 3], 1, head, ["nc", "kpt_shape"]]]})
