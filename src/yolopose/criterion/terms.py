"""Loss terms of the rows of an assignment. The criterion sums them and divides them by batch-wide counts.

Sources: class targets of TOOD (arXiv 2108.07755), CIoU (1911.08287), distribution focal loss (2006.04388), keypoint
loss by object keypoint similarity (YOLO-Pose, 2204.06806), residual log-likelihood estimation (RLE, 2107.11291).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from yolopose.criterion.assign import Assignment
from yolopose.criterion.similarity import ciou
from yolopose.criterion.targets import Targets

_EPS = 1e-9
_MAX_RESIDUAL = 100.0  # RLE: errors are clipped to this many σ
_MIN_SIGMA = torch.finfo(torch.float32).tiny
# RLE weights of the 17 COCO keypoints: wrists and ankles have the largest errors, elbows and knees smaller ones
_PERSON_WEIGHTS = (1.0,) * 7 + (1.2,) * 2 + (1.5,) * 2 + (1.0,) * 2 + (1.2,) * 2 + (1.5,) * 2


def gather_positives(values: Tensor, assigned: Assignment) -> Tensor:
    """(B, C, A) values of all anchors → (R, C) values of the assignment's rows."""
    return values.permute(0, 2, 1)[assigned.batch_idx, assigned.anchor_idx]


def soft_targets(scores: Tensor, assigned: Assignment, targets: Targets) -> Tensor:
    """Return (B, nc, A) class targets in the shape of the scores."""
    soft = torch.zeros_like(scores)
    index = assigned.batch_idx, targets.classes[assigned.gt_idx], assigned.anchor_idx
    # added, not set: rows that are not positives have weight 0 and may name the anchor of a positive
    return soft.index_put_(index, assigned.weight, accumulate=True)


def box_loss(sides: Tensor, points: Tensor, gt_boxes: Tensor, assigned: Assignment) -> Tensor:
    """Compute (1 − CIoU) · weight of each row.

    Args:
        sides: (R, 4) predicted distances to left, top, right, bottom.
        points: (R, 2) anchor points from which they are measured, in the same units.
        gt_boxes: (R, 4) x1, y1, x2, y2, in the same units.
        assigned: the rows.
    """
    predicted = torch.cat((points - sides[:, :2], points + sides[:, 2:]), 1)
    return (1 - ciou(predicted, gt_boxes)) * assigned.weight


def distribution_focal_loss(logits: Tensor, sides: Tensor, assigned: Assignment) -> Tensor:
    """Compute the cross entropy of the two bins around each target distance, times the weight of each row.

    Args:
        logits: (R, 4, bins).
        sides: (R, 4) target distances in grid units; clipped so that both neighboring bins exist.
        assigned: the rows.
    """
    sides = sides.clamp(0, logits.shape[2] - 1 - 0.01)
    lower = sides.floor()
    fraction = sides - lower
    index = lower.long()
    bins = logits.log_softmax(2).gather(2, torch.stack((index, index + 1), 2))
    return torch.lerp(bins[..., 0], bins[..., 1], fraction).mean(1) * -assigned.weight


def keypoint_loss(
    keypoints: Tensor,
    strides: Tensor,
    kpt_variance: Tensor,
    assigned: Assignment,
    targets: Targets,
    l1_gain: float = 0.0,
) -> tuple[Tensor, Tensor, Tensor]:
    """Sum 1 − exp(−e) over the labeled keypoints of each positive, e the exponent of OKS (YOLO-Pose, arXiv 2204.06806).

    Each positive is scaled by K / (number of its labeled keypoints), so partly labeled instances count fully.

    The gradient of 1 − exp(−e) vanishes where a keypoint is far off, and, where σ is large, also at errors of some
    pixels. `l1_gain` adds |Δx| + |Δy| as shares of the box side (root of the area), whose gradient is the same at every
    distance.

    Args:
        keypoints: (R, K, 2) predicted x, y in grid units.
        strides: (R,) pixels per grid unit.
        kpt_variance: (K,) or (R, K) (2σ)² of each keypoint.
        assigned: the rows.
        targets: ground truth.
        l1_gain: factor of the L1 distances.

    Returns:
        (R,) sums, 0 for rows that are not positives; (R, K, 2) predicted minus target position in grid units; (R, K) 1
        where a keypoint is labeled, else 0.
    """
    gt_keypoints = targets.keypoints[assigned.gt_idx]
    area = box_areas(targets.boxes)[assigned.gt_idx]
    labeled = (gt_keypoints[..., 2] != 0).float()
    error = keypoints - gt_keypoints[..., :2] / strides[:, None, None]
    area = (area / strides.square() + _EPS)[:, None]
    dissimilarity = 1 - torch.exp(error.square().sum(-1) / (kpt_variance * area * -2))
    if l1_gain:
        dissimilarity = dissimilarity + l1_gain * error.abs().sum(-1) / area.sqrt()
    factor = labeled.shape[1] * assigned.mask / (labeled.sum(1) + _EPS)
    return (dissimilarity * labeled).sum(1) * factor, error, labeled


def visibility_loss(
    logits: Tensor,
    labeled: Tensor,
    assigned: Assignment,
    *,
    states: Tensor | None = None,
    hidden: Tensor | None = None,
    weights: Tensor | None = None,
) -> Tensor:
    """Sum the cross entropy of the states of the keypoints of each positive.

    With two states it is the binary cross entropy of whether a keypoint is labeled. With three states, absent, hidden
    and visible, P(absent) = 1 − c, P(hidden) = c·(1 − p) and P(visible) = c·p for c = σ(logits) and p = σ(states), so
    that −log P is the sum of two binary cross entropies, the second only where a keypoint is labeled.

    Args:
        logits: (R, K) logits of a labeled keypoint.
        labeled: (R, K) 1 where a keypoint is labeled, else 0.
        assigned: the rows.
        states: (R, K) logits that a labeled keypoint is visible; None with two states.
        hidden: (R, K) 1 where a keypoint is labeled as hidden, else 0; needed for `states`.
        weights: (R, K) weights of the keypoints; 1 if None.

    Returns:
        (R,) sums, 0 for rows that are not positives.
    """
    losses = functional.binary_cross_entropy_with_logits(logits, labeled, reduction="none")
    if states is not None and hidden is not None:
        visible = functional.binary_cross_entropy_with_logits(states, 1 - hidden, reduction="none")
        losses = losses + labeled * visible
    return (losses if weights is None else losses * weights).sum(1) * assigned.mask


def box_areas(boxes: Tensor) -> Tensor:
    """(N, 4) x1, y1, x2, y2 → (N,) areas."""
    width, height = (boxes[:, 2:] - boxes[:, :2]).unbind(1)
    return width * height


def rle_weights(count: int) -> Tensor:
    """Return (K,) keypoint weights of the RLE loss: those of a COCO person for 17 keypoints, else 1."""
    return torch.tensor(_PERSON_WEIGHTS) if count == len(_PERSON_WEIGHTS) else torch.ones(count)


def rle_loss(
    error: Tensor,
    logits: Tensor,
    labeled: Tensor,
    weights: Tensor,
    log_density: Callable[[Tensor], Tensor],
    *,
    gather: bool = True,
) -> tuple[Tensor, Tensor]:
    """Sum the negative log-likelihood of the errors of a row: Laplace times a learned density (RLE, arXiv 2107.11291).

    Loss and gradients are finite for any input: errors are clipped to 100 σ, and keypoints whose error or σ is not
    finite are ignored.

    Args:
        error: (R, K, 2) predicted minus target position, grid units.
        logits: (R, K, 2) logits of σ, whose sigmoid is in grid units.
        labeled: (R, K) 1 where a keypoint counts, else 0.
        weights: (K,) keypoint weights.
        log_density: maps (N, 2) errors in units of σ to (N,) log densities.
        gather: compute only the keypoints that count. It saves most of the work, but their number depends on data,
            so a GPU would have to synchronize.

    Returns:
        (R,) weighted sums over keypoints and axes, and (R,) numbers of keypoints that count, without gradient.
    """
    finite = torch.isfinite(error).all(2) & torch.isfinite(logits).all(2)
    shape = labeled.shape
    counts = labeled * finite
    factor = (weights * counts).flatten()
    error, logits, finite = error.flatten(0, 1), logits.flatten(0, 1), finite.flatten()[:, None]
    rows = counts.flatten().nonzero()[:, 0] if gather else None
    if rows is not None:
        error, logits, finite, factor = error[rows], logits[rows], finite[rows], factor[rows]
    # replaced before any arithmetic: the gradient 0 · NaN of a later mask would be NaN
    error = torch.where(finite, error, 0.0)
    # σ is below 1, so this never changes a residual within the limit, and the division by a small σ cannot overflow
    error = error.clamp(-2 * _MAX_RESIDUAL, 2 * _MAX_RESIDUAL)
    sigma = torch.where(finite, logits, 0.0).sigmoid().clamp(min=_MIN_SIGMA)
    residual = (error / (sigma + _EPS)).clamp(-_MAX_RESIDUAL, _MAX_RESIDUAL)
    nll = 2 * sigma.log() + math.log(2) + residual.abs() - log_density(residual)[:, None]
    values = nll.sum(1) * factor
    if rows is not None:
        values = values.new_zeros(shape.numel()).index_copy(0, rows, values)
    return values.view(shape).sum(1), counts.sum(1)
