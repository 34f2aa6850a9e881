"""The density of keypoint errors that RLE learns (arXiv 2107.11291): a two-dimensional RealNVP (arXiv 1605.08803)."""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn

_LAYERS = 6
_HIDDEN = 64
_GAIN = 0.01  # of the initial weights: the flow starts close to the identity, the density close to a normal one


class RealNVP(nn.Module):
    """Coupling layers that map residuals, in units of σ, to a standard normal distribution.

    Each layer keeps one coordinate and scales and shifts the other by two small networks of the first.
    """

    loc: Tensor
    cov: Tensor
    mask: Tensor

    def __init__(self) -> None:
        super().__init__()
        # the prior is N(0, I); its parameters are buffers because public state_dicts contain them
        self.register_buffer("loc", torch.zeros(2))
        self.register_buffer("cov", torch.eye(2))
        self.register_buffer("mask", _coupling_masks())
        self.s = nn.ModuleList(_mlp(bounded=True) for _ in range(_LAYERS))
        self.t = nn.ModuleList(_mlp(bounded=False) for _ in range(_LAYERS))

    def log_density(self, residuals: Tensor) -> Tensor:
        """(N, 2) residuals in units of σ → (N,) log densities."""
        z = residuals
        total_scale = torch.zeros_like(residuals)
        free = 1 - self.mask
        layers = [self._stacked(index) for index in (0, 2, 4)]
        for index in reversed(range(_LAYERS)):
            fixed = self.mask[index] * z
            values = fixed.expand(2, -1, -1)
            for number, (weight, bias) in enumerate(layers):
                values = torch.baddbmm(bias[index], nn.functional.silu(values) if number else values, weight[index])
            scale = values[0].tanh() * free[index]
            z = torch.addcmul(fixed, (z - values[1]) * free[index], torch.exp(-scale))
            total_scale = total_scale + scale
        return -total_scale.sum(1) - z.square().sum(1) / 2 - math.log(2 * math.pi)

    def _stacked(self, index: int) -> tuple[Tensor, Tensor]:
        """Return (6, 2, in, out) weights and (6, 2, 1, out) biases of a linear layer of both networks of each layer."""
        linear = [cast(nn.Sequential, net)[index] for pair in zip(self.s, self.t, strict=True) for net in pair]
        weight = torch.stack([cast(Tensor, layer.weight) for layer in linear]).unflatten(0, (_LAYERS, 2))
        bias = torch.stack([cast(Tensor, layer.bias) for layer in linear]).unflatten(0, (_LAYERS, 2))
        return weight.transpose(2, 3), bias[:, :, None]

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Initialize weights and buffers; does nothing on the "meta" device."""
        if self.mask.is_meta:
            return
        self.loc.zero_()
        self.cov.copy_(torch.eye(2))
        self.mask.copy_(_coupling_masks())
        for module in self.modules():
            if isinstance(module, nn.Linear):
                module.reset_parameters()  # for the bias
                nn.init.xavier_uniform_(module.weight, _GAIN)


def _coupling_masks() -> Tensor:
    return torch.tensor([[0.0, 1.0], [1.0, 0.0]]).repeat(_LAYERS // 2, 1)


def _mlp(bounded: bool) -> nn.Module:
    layers = [nn.Linear(2, _HIDDEN), nn.SiLU(), nn.Linear(_HIDDEN, _HIDDEN), nn.SiLU(), nn.Linear(_HIDDEN, 2)]
    return nn.Sequential(*layers, *([nn.Tanh()] if bounded else []))
