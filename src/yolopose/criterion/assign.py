"""Task-aligned assignment (Feng et al., TOOD, arXiv 2108.07755): which cells answer for which objects.

Nothing here is a loop over images or objects: the cells inside each box are listed once as (object, cell) pairs, and
all that follows is arithmetic on the pairs. Their number is the covered area, not objects × cells, and they are
measured in pieces, so hundreds of objects in an image cost megabytes. No step waits for the device: sizes that depend
on data come from the pairs alone, which are made where the labels are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from yolopose.criterion.similarity import Likeness, by_box
from yolopose.criterion.targets import Targets

TOPK = 10
ALPHA = 0.5
BETA = 6.0
_EPS = 1e-9
_PAIRS = 1 << 17  # pairs measured at once
_GATE = (2.0, 12.0)  # sides of objects that a level is for, in its strides

Levels = Sequence[tuple[Tensor, Tensor]]
"""(w,) x and (h,) y of the centers of each level's cells, pixels, ascending."""


@dataclass(frozen=True, slots=True)
class Rule:
    """How many cells objects take, and which.

    Attributes:
        topk: cells that each object takes.
        single: of these each object keeps the best one alone, once contested cells are settled.
        gated: an object takes cells of the levels alone that suit its size, if there are any in it.
    """

    topk: int = TOPK
    single: bool = False
    gated: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Assignment:
    """R rows of (object, cell), of which those with `mask` are the positives; each cell is in one positive at most.

    Attributes:
        mask: (R,) bool.
        target: (R,) int64, index of the object.
        image: (R,) int64, image of the batch.
        cell: (R,) int64.
        weight: (R,) float32, soft class target 0…1 of the cell; 0 where `mask` is False.
    """

    mask: Tensor
    target: Tensor
    image: Tensor
    cell: Tensor
    weight: Tensor


@torch.no_grad()
def assign(
    scores: Tensor,
    boxes: Tensor,
    levels: Levels,
    targets: Targets,
    *,
    smallest: float,
    rule: Rule = Rule(),
    strides: Tensor | None = None,
    likeness: Likeness | None = None,
) -> Assignment:
    """Assign cells to objects.

    Args:
        scores: (B, nc, A) probabilities.
        boxes: (B, A, 4) predicted x1, y1, x2, y2, pixels.
        levels: the cells of each level, row by row those that the A stand for; on the device of the targets.
        targets: the objects, on the same device, or on the CPU, which spares the device a wait.
        smallest: boxes with a side below this (pixels) are widened to it when cells inside them are looked for.
        rule: how many cells objects take.
        strides: (A,) pixels a cell, where the targets are; a gated rule needs them.
        likeness: u of pairs of object and cell; CIoU of the boxes when left out.

    Returns:
        The rows, on the device of the scores.
    """
    pairs = inside(targets.boxes, levels, smallest)
    if rule.gated and strides is not None:
        suits = suiting(targets.boxes, *pairs, strides)
        pairs = pairs[0][suits], pairs[1][suits]
    target, cell = (index.to(scores.device, non_blocking=True) for index in pairs)
    targets = targets.to(scores.device)
    image = targets.batch_idx[target]
    align, overlap = _measure(scores, targets, image, target, cell, likeness or by_box(boxes))
    slot = image * scores.shape[2] + cell
    slots = scores.shape[0] * scores.shape[2]
    chosen = _top(align, target, cell, len(targets), rule.topk)
    pair, mask = _settle(chosen, overlap, slot, slots)
    if rule.single:
        mask = _best(align, target, cell, pair, mask, len(targets))
    weight = _weights(align, overlap, target, pair, mask, len(targets))
    return Assignment(mask, target[pair], image[pair], cell[pair], weight)


def inside(boxes: Tensor, levels: Levels, smallest: float) -> tuple[Tensor, Tensor]:
    """List the pairs of a box and a cell whose center lies strictly inside it.

    Args:
        boxes: (N, 4) x1, y1, x2, y2, pixels.
        levels: the cells.
        smallest: shorter sides are widened to this about the center, pixels.

    Returns:
        (P,) boxes, ascending, and (P,) cells, ascending within a box.
    """
    center = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = (boxes[:, 2:] - boxes[:, :2]) / 2
    half = torch.where(half < smallest / 2, smallest / 2, half)
    low, high = ((center - half + _EPS).T.contiguous(), (center + half - _EPS).T.contiguous())
    # what a box covers of a level is a rectangle of cells: its first cell, sides, and cells in a row of the level
    blocks: list[tuple[Tensor, ...]] = []
    before = 0
    for level in levels:
        start, end = (
            [torch.searchsorted(at, sides[axis], right=first) for axis, at in enumerate(level)]
            for sides, first in ((low, True), (high, False))
        )
        wide, tall = ((last - first).clamp(min=0) for first, last in zip(start, end, strict=True))
        pitch = len(level[0])
        blocks.append((before + start[1] * pitch + start[0], wide, tall, torch.full_like(wide, pitch)))
        before += pitch * len(level[1])
    corner, wide, tall, pitch = (torch.stack(part, 1).flatten() for part in zip(*blocks, strict=True))
    count = wide * tall
    block = torch.arange(len(count), device=boxes.device).repeat_interleave(count)
    number = torch.arange(len(block), device=boxes.device) - (count.cumsum(0) - count)[block]
    row = number // wide[block]
    cell = corner[block] + row * pitch[block] + number - row * wide[block]
    return block // len(levels), cell


def suiting(boxes: Tensor, target: Tensor, cell: Tensor, strides: Tensor) -> Tensor:
    """Log which pairs join an object and a cell of a level for objects of its size.

    A level is for √(w·h) from 2 to 12 of its strides; the finest one for smaller ones too, the coarsest for larger.

    Args:
        boxes: (N, 4) x1, y1, x2, y2, pixels.
        target: (P,) boxes of the pairs.
        cell: (P,) cells of the pairs.
        strides: (A,) pixels a cell.

    Returns:
        (P,) bool; all pairs of an object that has no other.
    """
    strides = strides.to(boxes.device)
    low, high = _GATE[0] * strides, _GATE[1] * strides
    low = torch.where(strides == strides.min(), 0.0, low)
    high = torch.where(strides == strides.max(), torch.inf, high)
    size = (boxes[:, 2:] - boxes[:, :2]).prod(1).sqrt()[target]
    suits = (size >= low[cell]) & (size <= high[cell])
    left = torch.zeros(len(boxes), dtype=torch.int64, device=boxes.device).scatter_add_(0, target, suits.long())
    return suits | (left[target] == 0)


def _measure(
    scores: Tensor, targets: Targets, image: Tensor, target: Tensor, cell: Tensor, likeness: Likeness
) -> tuple[Tensor, Tensor]:
    """(P,) alignment t = s^α·u^β and (P,) likeness u of each pair."""
    overlap = torch.empty(len(target), device=scores.device)
    score = torch.empty_like(overlap)
    for start in range(0, len(target), _PAIRS):
        part = slice(start, start + _PAIRS)
        overlap[part] = likeness(targets, image[part], target[part], cell[part])
        score[part] = scores[image[part], targets.classes[target[part]], cell[part]]
    return score.pow(ALPHA) * overlap.pow(BETA), overlap


def _top(align: Tensor, target: Tensor, cell: Tensor, count: int, topk: int) -> Tensor:
    """(N·topk,) the pairs that each object takes, best first; −1 where it takes fewer.

    The best are taken from all cells, where those outside the box have t = 0 as well; among equal ones the first cell
    goes first. A pair with t = 0 thus has little chance against the crowd outside.
    """
    size = torch.zeros(count, dtype=torch.int64, device=align.device).scatter_add_(0, target, torch.ones_like(target))
    start = size.cumsum(0) - size
    order = align.argsort(descending=True, stable=True)
    order = order[target[order].argsort(stable=True)]
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order), device=align.device) - start[target[order]]
    good = (align > 0).long()
    before = good.cumsum(0) - good  # pairs with t > 0 ahead of this one, of all objects
    firsts = torch.cat((before, before.new_zeros(1)))[start.clamp(max=len(order))]  # an object at the end may be bare
    of_object = torch.zeros_like(size).scatter_add_(0, target, good)
    zero_rank = of_object[target] + cell - (before - firsts[target])
    rank = torch.where(good.bool(), rank, zero_rank)
    place = torch.where(rank < topk, target * topk + rank, count * topk)
    table = torch.full((count * topk + 1,), -1, dtype=torch.int64, device=align.device)
    return table.scatter_(0, place, torch.arange(len(order), device=align.device))[:-1]


def _settle(chosen: Tensor, overlap: Tensor, slot: Tensor, slots: int) -> tuple[Tensor, Tensor]:
    """Return each cell to one object: of a contested cell the one with the largest u of all that contain it.

    Returns:
        (R,) pairs, and (R,) which of them count.
    """
    mask = chosen >= 0
    if len(overlap) == 0:  # no cell lies in any box; `chosen` is then of no pair
        return chosen[:0], mask[:0]
    pair = chosen.clamp(min=0)
    here = slot[pair]
    takers = torch.zeros(slots, dtype=torch.int64, device=slot.device).scatter_add_(0, here, mask.long())
    largest = torch.zeros(slots, device=slot.device).scatter_reduce_(0, slot, overlap, "amax")
    index = torch.arange(len(slot), device=slot.device)
    owner = torch.full((slots,), len(slot), dtype=torch.int64, device=slot.device)
    best = torch.where(overlap == largest[slot], index, len(slot))
    owner.scatter_reduce_(0, slot, best, "amin")
    pair = torch.where(takers[here] > 1, owner[here], pair)
    # rows of one cell are alike now: the first stands for all
    row = torch.arange(len(pair), device=slot.device)
    first = torch.full((slots,), len(pair), dtype=torch.int64, device=slot.device)
    first.scatter_reduce_(0, here, torch.where(mask, row, len(pair)), "amin")
    return pair, mask & (first[here] == row)


def _best(align: Tensor, target: Tensor, cell: Tensor, pair: Tensor, mask: Tensor, count: int) -> Tensor:
    """(R,) which rows hold the cell with the largest t of their object, the first among equal ones."""
    of, t = target[pair], torch.where(mask, align[pair], -1.0)
    most = torch.full((count,), -1.0, device=t.device).scatter_reduce_(0, of, t, "amax")
    first = mask & (t == most[of])
    beyond = torch.iinfo(torch.int64).max
    cells = torch.where(first, cell[pair], beyond)
    lowest = torch.full((count,), beyond, dtype=torch.int64, device=t.device).scatter_reduce_(0, of, cells, "amin")
    return first & (cells == lowest[of])


def _weights(align: Tensor, overlap: Tensor, target: Tensor, pair: Tensor, mask: Tensor, count: int) -> Tensor:
    """(R,) soft class targets: t scaled so that an object's best cell gets its largest u."""
    of, t, u = target[pair], align[pair] * mask, overlap[pair] * mask
    most_t, most_u = (
        torch.zeros(count, device=align.device).scatter_reduce_(0, of, values, "amax") for values in (t, u)
    )
    return t * most_u[of] / (most_t[of] + _EPS)
