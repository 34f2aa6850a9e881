"""Similarity of predictions and ground truth: complete IoU of boxes, and the u of task-aligned assignment."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from yolopose.criterion.targets import Targets
from yolopose.geometry import INSTANCE_AREA_SHARE

Similarity = Callable[[Targets, Tensor, Tensor, Tensor], Tensor]
"""(targets, (P,) batch_idx, (P,) gt_idx, (P,) anchor_idx) → (P,) similarity 0…1 of each pair."""

_CIOU_EPS = 1e-7
_OKS_EPS = 1e-9


def ciou(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """Compute complete IoU row by row: IoU − ρ²/c² − α·v (Zheng et al., Distance-IoU Loss, arXiv 1911.08287).

    ρ is the distance of the centers, c the diagonal of the smallest enclosing box, v the squared difference of the
    aspect angles. α weighs v by the overlap and is treated as a constant by the gradient.

    Args:
        boxes1: (N, 4) x1, y1, x2, y2.
        boxes2: (N, 4), in the same units.

    Returns:
        (N,) values in −1.5…1.
    """
    both = torch.stack((boxes1, boxes2))
    low, high = both[..., :2], both[..., 2:]
    sides = high - low + _CIOU_EPS  # (2, N, 2)
    widths, heights = sides.unbind(-1)
    areas = widths * heights
    angles = torch.atan(widths / heights)
    centers = low + high
    overlap = torch.minimum(high[0], high[1]) - torch.maximum(low[0], low[1])
    enclosing = sides[0] + sides[1] - overlap
    overlap_x, overlap_y = overlap.clamp(min=0).unbind(1)
    intersection = overlap_x * overlap_y  # not `prod`: its backward counts zeros, which synchronizes with the GPU
    iou = intersection / (areas[0] + areas[1] - intersection + _CIOU_EPS)
    # both ρ² and c² times 4
    distance = (centers[0] - centers[1]).square().sum(1)
    diagonal = (2 * enclosing).square().sum(1) + _CIOU_EPS
    v = (angles[0] - angles[1]).square() * (4 / math.pi**2)
    with torch.no_grad():
        alpha = v / (v - iou + (1 + _CIOU_EPS))
    return torch.addcmul(iou - distance / diagonal, v, alpha, value=-1)


def box_similarity(boxes: Tensor) -> Similarity:
    """Return a function that computes CIoU, at least 0, of ground-truth and predicted boxes.

    Args:
        boxes: (B, A, 4) predicted x1, y1, x2, y2, pixels.
    """

    def similarity(targets: Targets, batch_idx: Tensor, gt_idx: Tensor, anchor_idx: Tensor) -> Tensor:
        return ciou(targets.boxes[gt_idx], boxes[batch_idx, anchor_idx]).clamp(min=0)

    return similarity


def keypoint_similarity(keypoints: Tensor, boxes: Tensor, kpt_variance: Tensor) -> Similarity:
    """Return a function that computes OKS of ground-truth and predicted keypoints.

    Instances without labeled keypoints fall back to `box_similarity`.

    Args:
        keypoints: (B, K, 2, A) predicted x, y, pixels.
        boxes: (B, A, 4) predicted x1, y1, x2, y2, pixels.
        kpt_variance: (K,) (2σ)² of each keypoint, or (nc, K) of those of each class.
    """
    box = box_similarity(boxes)
    # (B, A, K, 2): the keypoints of an anchor become one contiguous row, which indexing reads much faster
    rows = keypoints.permute(0, 3, 1, 2).contiguous()

    def similarity(targets: Targets, batch_idx: Tensor, gt_idx: Tensor, anchor_idx: Tensor) -> Tensor:
        gt_keypoints = targets.keypoints[gt_idx]
        gt_boxes = targets.boxes[gt_idx]
        labeled = (gt_keypoints[..., 2] != 0).float()
        distance = (rows[batch_idx, anchor_idx] - gt_keypoints[..., :2]).square().sum(2)
        area = INSTANCE_AREA_SHARE * (gt_boxes[:, 2:] - gt_boxes[:, :2]).prod(1)
        variance = kpt_variance if kpt_variance.ndim == 1 else kpt_variance[targets.classes[gt_idx]]
        per_keypoint = torch.exp(-distance / (2 * variance * (area[:, None] + _OKS_EPS)))
        count = labeled.sum(1)
        oks = (per_keypoint * labeled).sum(1) / count.clamp(min=1)
        return torch.where(count > 0, oks, box(targets, batch_idx, gt_idx, anchor_idx))

    return similarity
