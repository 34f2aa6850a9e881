"""Task-aligned assignment of anchors to ground-truth instances (TAL; Feng et al., TOOD, arXiv 2108.07755).

No Python loop runs over images or instances. The candidate pairs (instance, anchor inside its box) are listed once,
and every later step is a gather or scatter over these P pairs. P grows with the area of the boxes, not with instances
× anchors, and similarities are computed in chunks, so hundreds of instances per image need only megabytes. No step
synchronizes with a GPU: data-dependent sizes exist only in the list of pairs, which is made on the device of the
labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from yolopose.criterion.similarity import Similarity, box_similarity
from yolopose.criterion.targets import Targets

TOPK = 10
ALPHA = 0.5
BETA = 6.0
_EPS = 1e-9
_CHUNK = 1 << 17  # pairs whose similarity is computed at once
_LEVEL_RANGE = (2.0, 12.0)  # √(w·h) of the instances a level is for, in strides of the level

Levels = Sequence[tuple[Tensor, Tensor]]
"""(w,) x and (h,) y of the anchor centers of each level, pixels, ascending."""


@dataclass(frozen=True, slots=True)
class AssignerConfig:
    """Which anchors an instance may take, and how many.

    Attributes:
        topk: anchors each instance takes, by alignment.
        one_to_one: each instance keeps only its best anchor after conflicts are resolved.
        match_level: instances take anchors only from levels that suit their size, if such anchors lie in the box.
    """

    topk: int = TOPK
    one_to_one: bool = False
    match_level: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Assignment:
    """R rows of (instance, anchor); the rows with `mask` are the positives. An anchor is in at most one positive.

    The number of rows does not depend on how many are positive, so no step waits for the GPU to count them.

    Attributes:
        mask: (R,) bool, which rows are positives.
        gt_idx: (R,) int64, index of the instance in the targets.
        batch_idx: (R,) int64, index of the image.
        anchor_idx: (R,) int64.
        weight: (R,) float32, soft class target 0…1 of the anchor; 0 where `mask` is False.
    """

    mask: Tensor
    gt_idx: Tensor
    batch_idx: Tensor
    anchor_idx: Tensor
    weight: Tensor


@torch.no_grad()
def assign(
    scores: Tensor,
    boxes: Tensor,
    levels: Levels,
    targets: Targets,
    *,
    min_side: float,
    config: AssignerConfig = AssignerConfig(),
    strides: Tensor | None = None,
    similarity: Similarity | None = None,
) -> Assignment:
    """Assign anchors to instances by alignment t = s^α·u^β, with class score s and similarity u.

    Args:
        scores: (B, nc, A) probabilities.
        boxes: (B, A, 4) predicted x1, y1, x2, y2, pixels.
        levels: centers of the A anchors by level, on the device of the targets.
        targets: ground truth on the device of the scores, or on the CPU, which avoids a synchronization.
        min_side: shorter sides (pixels) are enlarged to this before testing which anchors lie inside.
        config: which anchors an instance may take.
        strides: (A,) stride of each anchor in pixels, on the device of the targets; needed for `match_level`.
        similarity: u of the pairs; CIoU of the boxes by default.

    Returns:
        The assignment, on the device of the scores.

    Raises:
        ValueError: `match_level` without strides.
    """
    if config.match_level and strides is None:
        raise ValueError("match_level=True compares the size of instances with strides: pass `strides`.")
    pairs = anchors_in_boxes(targets.boxes, levels, min_side)
    if config.match_level and strides is not None:
        keep = level_mask(targets.boxes, *pairs, strides)
        pairs = pairs[0][keep], pairs[1][keep]
    gt_idx, anchor_idx = (index.to(scores.device, non_blocking=True) for index in pairs)
    targets = targets.to(scores.device)
    batch_idx = targets.batch_idx[gt_idx]
    num_gt = len(targets)
    alignment, u = _measure_alignment(
        scores, targets, batch_idx, gt_idx, anchor_idx, similarity or box_similarity(boxes)
    )
    taken = _select_topk(alignment, gt_idx, anchor_idx, num_gt, config.topk)
    flat_anchor = batch_idx * scores.shape[2] + anchor_idx  # index of the pair's anchor among those of all images
    pair, mask = resolve_conflicts(taken, u, flat_anchor, scores.shape[0] * scores.shape[2])
    if config.one_to_one:
        mask = _keep_best(alignment, gt_idx, anchor_idx, pair, mask, num_gt)
    weight = _target_weights(alignment, u, gt_idx, pair, mask, num_gt)
    return Assignment(mask, gt_idx[pair], batch_idx[pair], anchor_idx[pair], weight)


def anchors_in_boxes(boxes: Tensor, levels: Levels, min_side: float) -> tuple[Tensor, Tensor]:
    """List the pairs of a box and an anchor whose center lies strictly inside it.

    Args:
        boxes: (N, 4) x1, y1, x2, y2, pixels.
        levels: anchor centers by level.
        min_side: shorter sides are enlarged to this around the box center, pixels.

    Returns:
        (P,) box indices, ascending, and (P,) anchor indices, ascending within a box.
    """
    center = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = (boxes[:, 2:] - boxes[:, :2]) / 2
    half = torch.where(half < min_side / 2, min_side / 2, half)
    low = (center - half + _EPS).T.contiguous()
    high = (center + half - _EPS).T.contiguous()
    # the anchors of a level inside a box form a rectangle of the grid: first anchor, width, height, row length
    rectangles: list[tuple[Tensor, ...]] = []
    offset = 0
    for x, y in levels:
        left, top = torch.searchsorted(x, low[0], right=True), torch.searchsorted(y, low[1], right=True)
        right, bottom = torch.searchsorted(x, high[0]), torch.searchsorted(y, high[1])
        width = (right - left).clamp(min=0)
        height = (bottom - top).clamp(min=0)
        rectangles.append((offset + top * len(x) + left, width, height, torch.full_like(width, len(x))))
        offset += len(x) * len(y)
    first, width, height, row_length = (torch.stack(part, 1).flatten() for part in zip(*rectangles, strict=True))
    count = width * height
    rectangle = torch.arange(len(count), device=boxes.device).repeat_interleave(count)
    # position of each pair within its rectangle, row by row
    position = torch.arange(len(rectangle), device=boxes.device) - (count.cumsum(0) - count)[rectangle]
    row = position // width[rectangle]
    anchor_idx = first[rectangle] + row * row_length[rectangle] + position - row * width[rectangle]
    return rectangle // len(levels), anchor_idx


def level_mask(boxes: Tensor, gt_idx: Tensor, anchor_idx: Tensor, strides: Tensor) -> Tensor:
    """Mark the pairs whose anchor is on a level for instances of that size.

    A level is for √(w·h) from 2 to 12 of its strides; the finest level also for smaller and the coarsest also for
    larger instances.

    Args:
        boxes: (N, 4) x1, y1, x2, y2, pixels.
        gt_idx: (P,) box of each pair.
        anchor_idx: (P,) anchor of each pair.
        strides: (A,) stride of each anchor in pixels.

    Returns:
        (P,) bool; True for all pairs of an instance that would otherwise lose every pair.
    """
    strides = strides.to(boxes.device)
    low = torch.where(strides == strides.min(), 0.0, _LEVEL_RANGE[0] * strides)
    high = torch.where(strides == strides.max(), torch.inf, _LEVEL_RANGE[1] * strides)
    size = (boxes[:, 2:] - boxes[:, :2]).prod(1).sqrt()[gt_idx]
    mask = (size >= low[anchor_idx]) & (size <= high[anchor_idx])
    remaining = torch.zeros(len(boxes), dtype=torch.int64, device=boxes.device).scatter_add_(0, gt_idx, mask.long())
    return mask | (remaining[gt_idx] == 0)


def _measure_alignment(
    scores: Tensor, targets: Targets, batch_idx: Tensor, gt_idx: Tensor, anchor_idx: Tensor, similarity: Similarity
) -> tuple[Tensor, Tensor]:
    """Return (P,) alignment t = s^α·u^β and (P,) similarity u of each pair."""
    u = torch.empty(len(gt_idx), device=scores.device)
    score = torch.empty_like(u)
    for start in range(0, len(gt_idx), _CHUNK):
        chunk = slice(start, start + _CHUNK)
        u[chunk] = similarity(targets, batch_idx[chunk], gt_idx[chunk], anchor_idx[chunk])
        score[chunk] = scores[batch_idx[chunk], targets.classes[gt_idx[chunk]], anchor_idx[chunk]]
    return score.pow(ALPHA) * u.pow(BETA), u


def _select_topk(alignment: Tensor, gt_idx: Tensor, anchor_idx: Tensor, num_gt: int, topk: int) -> Tensor:
    """Return (N·topk,) indices of the pairs that each instance takes, best first; −1 where it takes fewer.

    The reference package takes the top k over all anchors, where anchors outside the box have t = 0 and ties go to the
    lower anchor index. A pair with t = 0 therefore competes with every anchor outside the box; see `_rank_of_zeros`.
    """
    device = alignment.device
    size = torch.zeros(num_gt, dtype=torch.int64, device=device).scatter_add_(0, gt_idx, torch.ones_like(gt_idx))
    start = size.cumsum(0) - size
    # two stable sorts order the pairs by instance and, within an instance, by descending alignment
    order = alignment.argsort(descending=True, stable=True)
    order = order[gt_idx[order].argsort(stable=True)]
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order), device=device) - start[gt_idx[order]]
    nonzero = alignment > 0
    rank = torch.where(nonzero, rank, _rank_of_zeros(nonzero.long(), gt_idx, anchor_idx, start))
    # pairs beyond the top k go to one extra position that is cut off
    position = torch.where(rank < topk, gt_idx * topk + rank, num_gt * topk)
    table = torch.full((num_gt * topk + 1,), -1, dtype=torch.int64, device=device)
    return table.scatter_(0, position, torch.arange(len(order), device=device))[:-1]


def _rank_of_zeros(nonzero: Tensor, gt_idx: Tensor, anchor_idx: Tensor, start: Tensor) -> Tensor:
    """Return the (P,) ranks that pairs with t = 0 have if every anchor outside the box is listed with t = 0, too.

    All anchors with t > 0 come first, then the others by index. Example: of anchors 0…3 a box contains 1, 2 and 3, with
    t = 0, 0.5 and 0. The order is 2, 0, 1, 3, so the pairs of anchors 1 and 3 have ranks 2 and 3.

    Args:
        nonzero: (P,) 1 where t > 0, else 0.
        gt_idx: (P,) instance of each pair, ascending.
        anchor_idx: (P,) anchor of each pair, ascending within an instance.
        start: (N,) first pair of each instance.
    """
    before = nonzero.cumsum(0) - nonzero  # pairs with t > 0 before this one, over all instances
    # `start` of a last instance without pairs is one past the end
    before_first = torch.cat((before, before.new_zeros(1)))[start.clamp(max=len(before))]
    nonzero_per_gt = torch.zeros_like(start).scatter_add_(0, gt_idx, nonzero)
    return nonzero_per_gt[gt_idx] + anchor_idx - (before - before_first[gt_idx])


def resolve_conflicts(taken: Tensor, u: Tensor, flat_anchor: Tensor, num_anchors: int) -> tuple[Tensor, Tensor]:
    """Assign an anchor that several instances take to the instance with the largest u whose box contains the anchor.

    The winner need not have the anchor among its own top k.

    Args:
        taken: (R,) pairs that instances take; −1 for none.
        u: (P,) similarity of the pairs.
        flat_anchor: (P,) index of the pair's anchor among those of all images.
        num_anchors: number of anchors of all images.

    Returns:
        (R,) pairs, and (R,) bool which of them are positives.
    """
    mask = taken >= 0
    if len(u) == 0:  # no anchor lies in any box, so the rows have nothing to refer to
        return taken[:0], mask[:0]
    device = flat_anchor.device
    pair = taken.clamp(min=0)
    row_anchor = flat_anchor[pair]
    num_takers = torch.zeros(num_anchors, dtype=torch.int64, device=device).scatter_add_(0, row_anchor, mask.long())
    max_u = torch.zeros(num_anchors, device=device).scatter_reduce_(0, flat_anchor, u, "amax")
    # among pairs with the largest u the first wins, which keeps the result deterministic
    candidate = torch.where(u == max_u[flat_anchor], torch.arange(len(flat_anchor), device=device), len(flat_anchor))
    winner = torch.full((num_anchors,), len(flat_anchor), dtype=torch.int64, device=device)
    winner.scatter_reduce_(0, flat_anchor, candidate, "amin")
    pair = torch.where(num_takers[row_anchor] > 1, winner[row_anchor], pair)
    # all rows of a contested anchor now hold the same pair: only the first row stays a positive
    row = torch.arange(len(pair), device=device)
    first = torch.full((num_anchors,), len(pair), dtype=torch.int64, device=device)
    first.scatter_reduce_(0, row_anchor, torch.where(mask, row, len(pair)), "amin")
    return pair, mask & (first[row_anchor] == row)


def _keep_best(
    alignment: Tensor, gt_idx: Tensor, anchor_idx: Tensor, pair: Tensor, mask: Tensor, num_gt: int
) -> Tensor:
    """Return (R,) bool, the positive with the largest t of each instance; ties go to the lower anchor index."""
    owner = gt_idx[pair]
    t = torch.where(mask, alignment[pair], -1.0)
    max_t = torch.full((num_gt,), -1.0, device=t.device).scatter_reduce_(0, owner, t, "amax")
    best = mask & (t == max_t[owner])
    sentinel = torch.iinfo(torch.int64).max
    anchors = torch.where(best, anchor_idx[pair], sentinel)
    lowest = torch.full((num_gt,), sentinel, dtype=torch.int64, device=t.device)
    lowest.scatter_reduce_(0, owner, anchors, "amin")
    return best & (anchors == lowest[owner])


def _target_weights(alignment: Tensor, u: Tensor, gt_idx: Tensor, pair: Tensor, mask: Tensor, num_gt: int) -> Tensor:
    """Return (R,) soft class targets: t scaled so that the largest of an instance equals its largest u."""
    owner = gt_idx[pair]
    t, row_u = alignment[pair] * mask, u[pair] * mask
    max_t, max_u = (
        torch.zeros(num_gt, device=alignment.device).scatter_reduce_(0, owner, values, "amax") for values in (t, row_u)
    )
    return t * max_u[owner] / (max_t[owner] + _EPS)
