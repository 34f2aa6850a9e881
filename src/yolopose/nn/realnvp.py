"""The density of residuals that RLE learns (arXiv 2107.11291): a RealNVP flow in two dimensions (arXiv 1605.08803)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

_LAYERS = 6
_HIDDEN = 64
_GAIN = 0.01  # of the weights' start values: the flow begins close to the normal distribution that it bends


class RealNVP(nn.Module):
    """Coupling layers that map residuals of a point, in units of its σ, onto a standard normal distribution.

    Each layer leaves one coordinate as it is and scales and shifts the other by what two small nets make of the first.
    """

    loc: Tensor
    cov: Tensor
    mask: Tensor

    def __init__(self) -> None:
        super().__init__()
        # the prior is N(0, I): its numbers are kept because they stand in every state_dict of the family
        self.register_buffer("loc", torch.zeros(2))
        self.register_buffer("cov", torch.eye(2))
        self.register_buffer("mask", _masks())
        self.s = nn.ModuleList(_net(bounded=True) for _ in range(_LAYERS))
        self.t = nn.ModuleList(_net(bounded=False) for _ in range(_LAYERS))

    def log_density(self, residuals: Tensor) -> Tensor:
        """(N, 2) residuals in units of σ → (N,) logarithms of their density."""
        z, log_det = residuals, residuals.new_zeros(len(residuals))
        for index in reversed(range(_LAYERS)):
            mask = self.mask[index]
            kept = mask * z
            scale = self.s[index](kept) * (1 - mask)
            shift = self.t[index](kept) * (1 - mask)
            z = (1 - mask) * (z - shift) * torch.exp(-scale) + kept
            log_det = log_det - scale.sum(1)
        return log_det - z.square().sum(1) / 2 - math.log(2 * math.pi)

    @torch.no_grad()
    def reset(self) -> None:
        """Set the start values; nothing where they hold no numbers yet ("meta")."""
        if self.mask.is_meta:
            return
        self.loc.zero_()
        self.cov.copy_(torch.eye(2))
        self.mask.copy_(_masks())
        for module in self.modules():
            if isinstance(module, nn.Linear):
                module.reset_parameters()  # of the biases, that is
                nn.init.xavier_uniform_(module.weight, _GAIN)


def _masks() -> Tensor:
    return torch.tensor([[0.0, 1.0], [1.0, 0.0]]).repeat(_LAYERS // 2, 1)


def _net(bounded: bool) -> nn.Module:
    layers = [nn.Linear(2, _HIDDEN), nn.SiLU(), nn.Linear(_HIDDEN, _HIDDEN), nn.SiLU(), nn.Linear(_HIDDEN, 2)]
    return nn.Sequential(*layers, *([nn.Tanh()] if bounded else []))
