"""Outputs level by level, as 8-bit files need them: each with a scale of its own, and decoded outside.

In one tensor of 8 bits, pixels up to 640 and scores up to 1 would share 255 steps. So the graph gives, for each level
of the head, distances, scores, points and visibilities apart, in grid units, and the few sums that are left are done
here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from yolopose.schema import ModelMetadata

if TYPE_CHECKING:
    from torch import Tensor

    from yolopose.nn import PoseModel

LEVELS = "levels"
"""What the record says of such outputs."""

_KINDS = ("distances", "scores", "points", "visibilities")
Float32 = npt.NDArray[np.float32]


def level_names(strides: Sequence[int], dims: int) -> list[str]:
    """Return the names of the outputs in their order: `distances_8`, `scores_8`, `points_8`, …; level by level.

    Args:
        strides: of the levels.
        dims: D of the keypoints; with 2 there are no visibilities.
    """
    kinds = _KINDS if dims == 3 else _KINDS[:3]
    return [f"{kind}_{stride}" for stride in strides for kind in kinds]


def joined(parts: Sequence[Float32], metadata: ModelMetadata, strides: Sequence[int]) -> Float32:
    """Make pixels of the outputs.

    Args:
        parts: in the order of `level_names`: (B, 4, A), (B, nc, A), (B, 2·K, A) and, for D = 3, (B, K, A) of a level.
        metadata: of the file.
        strides: of the levels.

    Returns:
        (B, 4+nc+K·D, A) float32, as of any other file.
    """
    (count, dims), (height, width) = metadata.spec.keypoints.shape, metadata.imgsz
    each, found = dims + 1, list[Float32]()
    for level, stride in enumerate(strides):
        distances, scores, points, *visible = parts[level * each : (level + 1) * each]
        centers = _centers(height // stride, width // stride)
        near, far = distances[:, :2], distances[:, 2:]
        boxes = np.concatenate((centers + (far - near) / 2, near + far), 1) * stride
        xy = (points.reshape(len(points), count, 2, -1) + centers) * stride
        if visible:
            xy = np.concatenate((xy, visible[0][:, :, None]), 2)
        found.append(np.concatenate((boxes, scores, xy.reshape(len(points), count * dims, -1)), 1))
    return np.concatenate(found, 2).astype(np.float32, copy=False)


def _centers(rows: int, columns: int) -> Float32:
    """(2, A) x and y of the cell centers of a level, in cells."""
    y, x = np.mgrid[:rows, :columns].astype(np.float32) + np.float32(0.5)
    return np.stack((x.ravel(), y.ravel()))


def by_levels(network: PoseModel) -> Any:
    """Return a network as a module from (B, 3, H, W) float32 0…1 to the outputs that `joined` takes.

    Args:
        network: fused, in evaluation mode.
    """
    import torch
    from torch import nn

    nc, (count, dims), head = network.spec.nc, network.spec.keypoints.shape, network.head
    dfl = getattr(head, "dfl", None)

    class ByLevels(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network, branches = network, head.branches()
            # x, y and visibility by convolutions of their own, whose values then have scales of their own
            parts = [_parted(branch.points, count, dims, branch.scale, branch.shift) for branch in branches]
            self.points = nn.ModuleList(nn.ModuleList(part) for part in parts)

        def forward(self, images: Tensor) -> tuple[Tensor, ...]:
            found: list[Tensor] = []
            for x, branch, points in zip(network.features(images), head.branches(), self.points, strict=True):
                boxes = branch.boxes(x).flatten(2)
                hidden = branch.trunk(x)
                values = [part(hidden).flatten(2) for part in points]  # type: ignore[union-attr]  # a list of modules
                found += [boxes if dfl is None else dfl(boxes), branch.scores(x).view(len(x), nc, -1).sigmoid()]
                found += [values[0], *(value.sigmoid() for value in values[1:])]
            return tuple(found)

    with torch.no_grad():
        return ByLevels().eval()


def _parted(last: Any, count: int, dims: int, scale: float, shift: float) -> list[Any]:
    """A convolution to (B, K·D, h, w) as one to x and y in grid units and, for D = 3, one to visibilities."""
    from torch import nn

    def chosen(rows: list[int], scale: float, shift: float) -> Any:
        conv = nn.Conv2d(last.in_channels, len(rows), last.kernel_size, last.stride, last.padding)
        conv.weight.copy_(last.weight[rows] * scale)
        conv.bias.copy_(last.bias[rows] * scale + shift)  # type: ignore[union-attr]  # it has one
        return conv

    places = [dims * point + axis for point in range(count) for axis in (0, 1)]
    seen = [[dims * point + 2 for point in range(count)]] if dims == 3 else []
    return [chosen(places, scale, shift), *(chosen(rows, 1.0, 0.0) for rows in seen)]
