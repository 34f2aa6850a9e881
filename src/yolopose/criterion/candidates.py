"""Candidate pairs of the assigner: the anchors inside each ground-truth box.

The anchors of one level inside a box form a rectangle of the grid. The host computes the rectangles from the labels,
which are in its memory, and so knows how many pairs there are; the device lists the pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

_EPS = 1e-9
_LEVEL_RANGE = (2.0, 12.0)  # √(w·h) of the instances a level is for, in strides of the level

Levels = Sequence[tuple[Tensor, Tensor]]
"""(w,) x and (h,) y of the anchor centers of each level, pixels, ascending, float32."""


class Pairs(NamedTuple):
    """Candidate pairs of an instance and an anchor.

    Attributes:
        gt_idx: (P,) int64, instances, ascending.
        anchor_idx: (P,) int64, anchors, ascending within an instance.
        start: (N,) int64, first pair of each instance.
    """

    gt_idx: Tensor
    anchor_idx: Tensor
    start: Tensor


class Rectangles(NamedTuple):
    """Anchors inside each of N boxes, on each of L levels.

    Attributes:
        values: (N·L, 6) int64, on the CPU: number of anchors; width; position of the first pair in the list of all
            pairs; first anchor; anchors from the end of a row to the start of the next; instance.
        start: (N,) int64, position of the first pair of each instance.
        num_pairs: number of all pairs.
    """

    values: Tensor
    start: Tensor
    num_pairs: int


def candidate_rectangles(
    boxes: Tensor, levels: Levels, min_side: float, strides: Sequence[float] | None = None
) -> Rectangles:
    """Compute the anchors whose center lies strictly inside each box.

    Args:
        boxes: (N, 4) x1, y1, x2, y2, pixels; on the CPU, else this waits for the device.
        levels: anchor centers by level, on the CPU.
        min_side: shorter sides are enlarged to this around the box center, pixels.
        strides: stride of each level, pixels, to leave out levels for instances of other sizes: a level is for √(w·h)
            from 2 to 12 of its strides, the finest level also for smaller and the coarsest also for larger instances.
            An instance that would lose all of its anchors keeps them.
    """
    corners: npt.NDArray[np.float32] = boxes.detach().cpu().numpy()
    side = corners[:, 2:] - corners[:, :2]
    center = (corners[:, :2] + corners[:, 2:]) / 2
    half = np.maximum(side / 2, np.float32(min_side / 2))
    low = center - half + np.float32(_EPS)
    high = center + half - np.float32(_EPS)
    shape = len(corners), len(levels)
    first, width, height, row_length = np.empty((4, *shape), np.int64)
    offset = 0
    for level, (x, y) in enumerate(levels):
        columns, rows = x.numpy(), y.numpy()
        left, top = np.searchsorted(columns, low[:, 0], "right"), np.searchsorted(rows, low[:, 1], "right")
        width[:, level] = np.searchsorted(columns, high[:, 0]) - left
        height[:, level] = np.searchsorted(rows, high[:, 1]) - top
        first[:, level] = offset + top * len(columns) + left
        row_length[:, level] = len(columns)
        offset += len(columns) * len(rows)
    count = np.maximum(width, 0) * np.maximum(height, 0)
    if strides is not None:
        suits = _suits(np.sqrt(side[:, 0] * side[:, 1]), strides)
        suits |= (count * suits).sum(1, keepdims=True) == 0
        count *= suits
    begin = np.cumsum(count) - count.ravel()
    instance = np.repeat(np.arange(shape[0]), shape[1])
    width = np.maximum(width, 1).ravel()
    values = np.stack((count.ravel(), width, begin, first.ravel(), row_length.ravel() - width, instance), 1)
    start = torch.from_numpy(begin[:: shape[1]].copy())
    return Rectangles(torch.from_numpy(values), start, int(count.sum()))


def list_pairs(rectangles: Rectangles, device: torch.device) -> Pairs:
    """List the pairs of a box and an anchor inside it, on a device, without waiting for it."""
    values = rectangles.values.to(device, non_blocking=True)
    index = torch.arange(len(values), device=device)
    rectangle = index.repeat_interleave(values[:, 0], output_size=rectangles.num_pairs)
    _, width, begin, first, gap, gt_idx = values[rectangle].unbind(1)
    position = torch.arange(rectangles.num_pairs, device=device) - begin
    anchor_idx = torch.addcmul(first + position, position // width, gap)
    return Pairs(gt_idx, anchor_idx, rectangles.start.to(device, non_blocking=True))


def _suits(size: npt.NDArray[np.float32], strides: Sequence[float]) -> npt.NDArray[np.bool_]:
    """Return (N, L) whether a level is for instances of (N,) size."""
    values = np.array(strides, dtype=np.float32)
    low = np.where(values == values.min(), 0, _LEVEL_RANGE[0] * values)
    high = np.where(values == values.max(), np.inf, _LEVEL_RANGE[1] * values)
    return (size[:, None] >= low) & (size[:, None] <= high)
