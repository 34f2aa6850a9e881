"""Complete IoU of boxes (Zheng et al., Distance-IoU Loss, arXiv 1911.08287)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_EPS = 1e-7


def ciou(first: Tensor, second: Tensor) -> Tensor:
    """CIoU of boxes row by row: IoU − ρ²/c² − α·v.

    ρ is the distance of the centers, c the diagonal of the smallest box that holds both, v measures how far the
    aspect ratios differ, and α, through which no gradient flows, weighs v the more the boxes overlap.

    Args:
        first: (N, 4) x1, y1, x2, y2.
        second: (N, 4), in the same units.

    Returns:
        (N,) values from −1.5 to 1.
    """
    low, high = first[:, :2], first[:, 2:]
    low2, high2 = second[:, :2], second[:, 2:]
    width, height = (high - low).unbind(1)
    width2, height2 = (high2 - low2).unbind(1)
    height, height2 = height + _EPS, height2 + _EPS
    across, down = (torch.minimum(high, high2) - torch.maximum(low, low2)).clamp(min=0).unbind(1)
    shared = across * down  # the gradient of `prod` would wait for a GPU: it counts zeros
    iou = shared / (width * height + width2 * height2 - shared + _EPS)
    diagonal = (torch.maximum(high, high2) - torch.minimum(low, low2)).square().sum(1) + _EPS
    apart = (low2 + high2 - low - high).square().sum(1) / 4
    v = (4 / math.pi**2) * (torch.atan(width2 / height2) - torch.atan(width / height)).square()
    with torch.no_grad():
        alpha = v / (v - iou + (1 + _EPS))
    return iou - (apart / diagonal + v * alpha)
