"""What the losses of all heads share: rows of the positives, class targets, and the losses of points."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from yolopose.criterion.assign import Assignment
from yolopose.criterion.overlap import ciou
from yolopose.criterion.targets import Targets

_EPS = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Gains:
    """Weights of the losses; `dfl` is also that of the distances of heads without bins."""

    box: float = 7.5
    pose: float = 12.0
    kobj: float = 1.0
    cls: float = 0.5
    dfl: float = 1.5
    rle: float = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class LossTerms:
    """The losses of a batch.

    Attributes:
        total: what is differentiated: the sum of the gained terms × the batch size.
        items: (T,) the gained terms per image, in the order of `names`, without gradient.
        names: names of the terms.
    """

    total: Tensor
    items: Tensor
    names: tuple[str, ...]

    def named(self) -> Mapping[str, float]:
        """Return the terms by name as plain numbers; on a GPU this waits for the device."""
        return dict(zip(self.names, self.items.tolist(), strict=True))


def rows_of(values: Tensor, found: Assignment) -> Tensor:
    """(B, C, A) values of all cells → (R, C) those of the rows."""
    return values.permute(0, 2, 1)[found.image, found.cell]


def soft_targets(scores: Tensor, found: Assignment, targets: Targets) -> Tensor:
    """(B, nc, A) class targets."""
    soft = torch.zeros_like(scores)
    # added, not set: rows that do not count hold 0 and may name any cell
    soft.index_put_((found.image, targets.classes[found.target], found.cell), found.weight, accumulate=True)
    return soft


def box_loss(sides: Tensor, point: Tensor, truth: Tensor, found: Assignment) -> Tensor:
    """Sum over the rows, by weight, of 1 − CIoU.

    Args:
        sides: (R, 4) predicted distances to left, top, right, bottom.
        point: (R, 2) where they are measured from, in the same units.
        truth: (R, 4) x1, y1, x2, y2 of the objects, in the same units.
        found: the rows.
    """
    predicted = torch.cat((point - sides[:, :2], point + sides[:, 2:]), 1)
    return ((1 - ciou(predicted, truth)) * found.weight).sum()


def position_loss(
    points: Tensor, strides: Tensor, falloff: Tensor, found: Assignment, targets: Targets, positives: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Mean over positives and labeled points of 1 − exp(−e), where e is the distance in σ of an object of this size.

    Args:
        points: (R, K, 2) predicted x, y in grid units.
        strides: (R,) pixels of a grid unit.
        falloff: (K,) (2σ)² of each point.
        found: the rows.
        targets: the objects.
        positives: how many rows count, those of other parts of the batch with them.

    Returns:
        The loss; (R, K, 2) by how much the points are off, grid units; (R, K) 1 where a point is labeled, else 0.
    """
    truth, area = targets.keypoints[found.target], areas(targets.boxes)[found.target]
    labeled = (truth[..., 2] != 0).float()
    error = points - truth[..., :2] / strides[:, None, None]
    spread = falloff * (area / strides.square() + _EPS)[:, None] * 2
    near = 1 - torch.exp(-error.square().sum(-1) / spread)
    factor = labeled.shape[1] / (labeled.sum(1, keepdim=True) + _EPS)
    return mean_of(factor * near * labeled, found.mask, positives), error, labeled


def visibility_loss(logits: Tensor, labeled: Tensor, found: Assignment, positives: Tensor) -> Tensor:
    """Mean over positives and points of the cross entropy of (R, K) logits, target: whether it is labeled."""
    return mean_of(
        functional.binary_cross_entropy_with_logits(logits, labeled, reduction="none"), found.mask, positives
    )


def areas(boxes: Tensor) -> Tensor:
    """(N, 4) corners → (N,) areas."""
    width, height = (boxes[:, 2:] - boxes[:, :2]).unbind(1)
    return width * height


def mean_of(values: Tensor, mask: Tensor, rows: Tensor) -> Tensor:
    """Mean of (R, K) values over the rows that count, so many in all; 0, still with a gradient, when there are none."""
    return (values * mask[:, None]).sum() / (rows.clamp(min=1) * values.shape[1])
