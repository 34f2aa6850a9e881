"""Task-aligned assignment of anchors to ground-truth instances (TAL; Feng et al., TOOD, arXiv 2108.07755).

No Python loop runs over images or instances. The candidate pairs (instance, anchor inside its box) are listed once,
and every later step is a gather or scatter over these P pairs. P grows with the area of the boxes, not with instances
× anchors, and similarities are computed in chunks, so hundreds of instances per image need only megabytes. No step
synchronizes with a GPU: the host computes how many pairs there are from the labels, the device lists them
(`candidates.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from yolopose.criterion.candidates import Pairs
from yolopose.criterion.similarity import Similarity, box_similarity
from yolopose.criterion.targets import Targets

TOPK = 10
ALPHA = 0.5
BETA = 6.0
_EPS = 1e-9
_CHUNK = {"cpu": 1 << 17}  # pairs whose similarity is computed at once
_GPU_CHUNK = 1 << 22


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
    pairs: Pairs,
    targets: Targets,
    configs: Sequence[AssignerConfig] = (AssignerConfig(),),
    similarity: Similarity | None = None,
) -> Assignment:
    """Assign anchors to instances by alignment t = s^α·u^β, with class score s and similarity u.

    Several branches of a head are assigned at once, as if their images were one batch: those of the first branch, then
    those of the second.

    Args:
        scores: (B, nc, A) probabilities.
        boxes: (B, A, 4) predicted x1, y1, x2, y2, pixels.
        pairs: candidates, see `candidates.py`.
        targets: ground truth; that of each branch, one after the other.
        configs: of each branch: which anchors an instance may take.
        similarity: u of the pairs; CIoU of the boxes by default.
    """
    gt_idx, anchor_idx, start = pairs
    batch_idx = targets.batch_idx[gt_idx]
    num_gt = len(targets)
    alignment, u = _measure_alignment(
        scores, targets, batch_idx, gt_idx, anchor_idx, similarity or box_similarity(boxes)
    )
    taken = _select_topk(alignment, gt_idx, anchor_idx, start, num_gt, configs)
    flat_anchor = torch.add(anchor_idx, batch_idx, alpha=scores.shape[2])  # index among the anchors of all images
    pair, mask = resolve_conflicts(taken, u, flat_anchor, scores.shape[0] * scores.shape[2])
    owner = gt_idx[pair]
    t = alignment[pair] * mask
    if any(config.one_to_one for config in configs):
        best = _is_best(t, owner, anchor_idx[pair], mask, num_gt)
        if not all(config.one_to_one for config in configs):
            per_branch = [torch.full((len(mask) // len(configs),), not config.one_to_one) for config in configs]
            best = best | torch.cat(per_branch).to(mask.device, non_blocking=True)
        mask = mask & best
        t = t * mask
    return Assignment(mask, owner, batch_idx[pair], anchor_idx[pair], _target_weights(t, u[pair] * mask, owner, num_gt))


def _measure_alignment(
    scores: Tensor, targets: Targets, batch_idx: Tensor, gt_idx: Tensor, anchor_idx: Tensor, similarity: Similarity
) -> tuple[Tensor, Tensor]:
    """Return (P,) alignment t = s^α·u^β and (P,) similarity u of each pair."""
    step = _CHUNK.get(scores.device.type, _GPU_CHUNK)
    if torch.compiler.is_compiling() or len(gt_idx) <= step:
        u = similarity(targets, batch_idx, gt_idx, anchor_idx)
        score = scores[batch_idx, targets.classes[gt_idx], anchor_idx]
        return score.pow(ALPHA) * u.pow(BETA), u
    parts: list[tuple[Tensor, Tensor]] = []
    for start in range(0, len(gt_idx), step):
        chunk = slice(start, start + step)
        u = similarity(targets, batch_idx[chunk], gt_idx[chunk], anchor_idx[chunk])
        score = scores[batch_idx[chunk], targets.classes[gt_idx[chunk]], anchor_idx[chunk]]
        parts.append((score.pow(ALPHA) * u.pow(BETA), u))
    return torch.cat([alignment for alignment, _ in parts]), torch.cat([u for _, u in parts])


def _select_topk(
    alignment: Tensor, gt_idx: Tensor, anchor_idx: Tensor, start: Tensor, num_gt: int, configs: Sequence[AssignerConfig]
) -> Tensor:
    """Return (N·topk,) indices of the pairs that each instance takes, best first; −1 where it takes fewer.

    The reference package takes the top k over all anchors, where anchors outside the box have t = 0 and ties go to the
    lower anchor index. A pair with t = 0 therefore competes with every anchor outside the box; see `_rank_of_zeros`.

    Args:
        alignment: (P,) t.
        gt_idx: (P,) instance of each pair, ascending.
        anchor_idx: (P,) anchor of each pair, ascending within an instance.
        start: (N,) first pair of each instance.
        num_gt: N.
        configs: of each branch, which has an equal part of the instances.
    """
    device = alignment.device
    topk = max(config.topk for config in configs)
    # two stable sorts order the pairs by instance and, within an instance, by descending alignment
    order = alignment.argsort(descending=True, stable=True)
    order = order[gt_idx[order].argsort(stable=True)]
    pairs = torch.arange(len(order), device=device)
    # an instance has the same range of positions before and after sorting
    rank = torch.empty_like(order).scatter_(0, order, pairs) - start[gt_idx]
    nonzero = alignment > 0
    rank = torch.where(nonzero, rank, _rank_of_zeros(nonzero.long(), gt_idx, anchor_idx, start))
    taken = rank < topk
    for branch, config in enumerate(configs):
        if config.topk < topk:
            first, last = (part * num_gt // len(configs) for part in (branch, branch + 1))
            taken &= (rank < config.topk) | (gt_idx < first) | (gt_idx >= last)
    # pairs beyond the top k go to one extra position that is cut off
    position = torch.where(taken, torch.add(rank, gt_idx, alpha=topk), num_gt * topk)
    table = torch.full((num_gt * topk + 1,), -1, dtype=torch.int64, device=device)
    return table.scatter_(0, position, pairs)[:-1]


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


def _is_best(t: Tensor, owner: Tensor, anchor_idx: Tensor, mask: Tensor, num_gt: int) -> Tensor:
    """Return (R,) bool, the positive with the largest t of each instance; ties go to the lower anchor index.

    Args:
        t: (R,) alignment of each row.
        owner: (R,) its instance.
        anchor_idx: (R,) its anchor.
        mask: (R,) bool, which rows are positives.
        num_gt: number of instances.
    """
    t = torch.where(mask, t, -1.0)
    best = t == torch.full((num_gt,), -1.0, device=t.device).scatter_reduce_(0, owner, t, "amax")[owner]
    sentinel = torch.iinfo(torch.int64).max
    anchors = torch.where(best & mask, anchor_idx, sentinel)
    lowest = torch.full((num_gt,), sentinel, dtype=torch.int64, device=t.device)
    return anchors == lowest.scatter_reduce_(0, owner, anchors, "amin")[owner]


def _target_weights(t: Tensor, u: Tensor, owner: Tensor, num_gt: int) -> Tensor:
    """Return (R,) soft class targets: t scaled so that the largest of an instance equals its largest u.

    Args:
        t: (R,) alignment of each positive; 0 for other rows.
        u: (R,) similarity of each positive; 0 for other rows.
        owner: (R,) instance of each row.
        num_gt: number of instances.
    """
    zeros = torch.zeros(2, num_gt, device=t.device)
    largest = zeros.scatter_reduce_(1, owner.expand(2, -1), torch.stack((t, u)), "amax")
    scale = largest[1] / (largest[0] + _EPS)
    return t * scale[owner]
