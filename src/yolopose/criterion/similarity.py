"""u of a pair of object and cell: how well what the cell predicts meets the object, 0…1."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from yolopose.criterion.overlap import ciou
from yolopose.criterion.targets import Targets

Likeness = Callable[[Targets, Tensor, Tensor, Tensor], Tensor]
"""(targets, (P,) images, (P,) objects, (P,) cells) → (P,) 0…1."""

_AREA = 0.53  # share of its box that an object fills, as validation takes it
_EPS = 1e-9


def by_box(boxes: Tensor) -> Likeness:
    """Return CIoU, at least 0, of the objects' boxes and predicted ones.

    Args:
        boxes: (B, A, 4) predicted x1, y1, x2, y2, pixels.
    """

    def likeness(targets: Targets, image: Tensor, target: Tensor, cell: Tensor) -> Tensor:
        return ciou(targets.boxes[target], boxes[image, cell]).clamp(min=0)

    return likeness


def by_points(points: Tensor, boxes: Tensor, falloff: Tensor) -> Likeness:
    """Return OKS of the objects' points and predicted ones; CIoU of the boxes for objects without labeled points.

    Args:
        points: (B, K, 2, A) predicted x, y, pixels.
        boxes: (B, A, 4) predicted x1, y1, x2, y2, pixels.
        falloff: (K,) (2σ)² of each point.
    """
    overlap, rows = by_box(boxes), points.permute(0, 3, 1, 2).contiguous()  # those of a cell side by side

    def likeness(targets: Targets, image: Tensor, target: Tensor, cell: Tensor) -> Tensor:
        truth = targets.keypoints[target]
        labeled = (truth[..., 2] != 0).float()
        apart = (rows[image, cell] - truth[..., :2]).square().sum(2)
        corners = targets.boxes[target]
        area = _AREA * (corners[:, 2:] - corners[:, :2]).prod(1)
        near = torch.exp(-apart / (2 * falloff * (area[:, None] + _EPS)))
        count = labeled.sum(1)
        oks = (near * labeled).sum(1) / count.clamp(min=1)
        return torch.where(count > 0, oks, overlap(targets, image, target, cell))

    return likeness
