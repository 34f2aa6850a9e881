"""Residual log-likelihood estimation (Li et al., arXiv 2107.11291): points with the spread that their errors have."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

_EPS = 1e-9
_FURTHEST = 100.0  # an error counts as no more than so many σ
_TINY = torch.finfo(torch.float32).tiny
# of a COCO person's points: wrists and ankles lie worst, elbows and knees better
_PERSON_WEIGHTS = (1.0,) * 7 + (1.2,) * 2 + (1.5,) * 2 + (1.0,) * 2 + (1.2,) * 2 + (1.5,) * 2


def point_weights(count: int) -> Tensor:
    """Return (K,) weights of the points: those of a person's where there are 17, else 1."""
    return torch.tensor(_PERSON_WEIGHTS) if count == len(_PERSON_WEIGHTS) else torch.ones(count)


def rle_loss(
    error: Tensor,
    logits: Tensor,
    labeled: Tensor,
    weights: Tensor,
    log_density: Callable[[Tensor], Tensor],
    *,
    gather: bool = True,
) -> Tensor:
    """Negative log-likelihood of the errors under a Laplace distribution times a learned density; at least 0.

    Whatever the numbers are, loss and gradients are finite: an error counts as no more than 100 σ, and a point whose
    error or σ is no number is left out.

    Args:
        error: (R, K, 2) predicted minus true position, grid units.
        logits: (R, K, 2) whose sigmoid is σ, grid units.
        labeled: (R, K) 1 where a point counts, else 0.
        weights: (K,) weights of the points.
        log_density: (N, 2) errors in σ → (N,) logarithms of their learned density.
        gather: compute points that count alone, which is most of the work saved; on a GPU their number would have to be
            waited for.

    Returns:
        Sum over points and axes, by weight, for each point that counts.
    """
    known = torch.isfinite(error).all(2) & torch.isfinite(logits).all(2)
    counts = (labeled * known).flatten()
    factor = (weights * labeled * known).flatten()
    error, logits, known = error.flatten(0, 1), logits.flatten(0, 1), known.flatten()[:, None]
    if gather:
        kept = counts.nonzero()[:, 0]
        error, logits, known, factor = error[kept], logits[kept], known[kept], factor[kept]
    # put aside before anything is computed: a gradient of 0 times one that is no number would be none
    error = torch.where(known, error, 0.0)
    # no further than counts whatever σ, which is below 1: divided by a small σ it could overflow
    error = error.clamp(-2 * _FURTHEST, 2 * _FURTHEST)
    sigma = torch.where(known, logits, 0.0).sigmoid().clamp(min=_TINY)
    residual = (error / (sigma + _EPS)).clamp(-_FURTHEST, _FURTHEST)
    each = 2 * sigma.log() + math.log(2) + residual.abs() - log_density(residual)[:, None]
    total = (each.sum(1) * factor).sum() / counts.sum().clamp(min=1)
    return total.clamp(min=0)
