"""The convolution unit of all blocks, concatenation of feature maps, and the expectation over distance bins."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from yolopose.base.errors import ModelError
from yolopose.nn.recompute import batch_norm_silu

BN_EPS = 1e-3
BN_MOMENTUM = 0.03


class Conv(nn.Module):
    """Convolution with "same" padding, batch norm, activation.

    Args:
        c1: input channels.
        c2: output channels.
        k: kernel side.
        s: stride.
        g: groups.
        d: dilation.
        act: apply the activation (SiLU).

    Raises:
        ModelError: no input or output channels, or groups that do not divide both.
    """

    def __init__(self, c1: int, c2: int, k: int = 1, s: int = 1, g: int = 1, d: int = 1, act: bool = True) -> None:
        super().__init__()
        if min(c1, c2) < 1 or c1 % g or c2 % g:
            raise ModelError(
                f"a convolution from {c1} to {c2} channels in {g} groups is impossible: groups must divide both."
            )
        padding = (d * (k - 1) + 1) // 2
        self.conv = nn.Conv2d(c1, c2, k, s, padding, groups=g, dilation=d, bias=False)
        self.bn: nn.BatchNorm2d | None = nn.BatchNorm2d(c2, eps=BN_EPS, momentum=BN_MOMENTUM)
        self.act: nn.Module = nn.SiLU() if act else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(B, c1, H, W) → (B, c2, ⌈H/s⌉, ⌈W/s⌉) for odd k."""
        x = self.conv(x)
        if self.bn is None:
            return self.act(x)
        fused = batch_norm_silu(self.bn, self.act, x) if self.training else None
        return self.act(self.bn(x)) if fused is None else fused

    @torch.no_grad()
    def fuse(self) -> None:
        """Fold the running statistics of the batch norm into the convolution; does nothing if already done."""
        bn, weight = self.bn, self.conv.weight
        if bn is None or bn.running_mean is None or bn.running_var is None:
            return
        scale = bn.weight.float() / (bn.running_var.float() + bn.eps).sqrt()
        bias = bn.bias.float() - bn.running_mean.float() * scale
        grad = weight.requires_grad
        self.conv.weight = nn.Parameter((weight.float() * scale[:, None, None, None]).to(weight.dtype), grad)
        self.conv.bias = nn.Parameter(bias.to(weight.dtype), grad)
        self.bn = None


class DWConv(Conv):
    """Depth-wise `Conv`, with the greatest common divisor of the channels as groups."""

    def __init__(self, c1: int, c2: int, k: int = 1, s: int = 1, d: int = 1, act: bool = True) -> None:
        super().__init__(c1, c2, k, s, g=math.gcd(c1, c2), d=d, act=act)


class Concat(nn.Module):
    """Concatenates maps of equal height and width along the channels."""

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """[(B, cᵢ, H, W), …] → (B, Σcᵢ, H, W)."""
        return torch.cat(list(maps), 1)


class DFL(nn.Module):
    """Expectation over bins 0…bins-1 for each box side (arXiv 2006.04388); nothing in it is trained."""

    def __init__(self, bins: int = 16) -> None:
        super().__init__()
        # a convolution only because public state_dicts contain its weight
        self.conv = nn.Conv2d(bins, 1, 1, bias=False).requires_grad_(False)
        self.bins = bins
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set the fixed weights 0…bins-1; does nothing on the "meta" device."""
        weight = self.conv.weight
        if not weight.is_meta:
            weight.copy_(torch.arange(self.bins, dtype=weight.dtype).view_as(weight))

    def forward(self, logits: Tensor) -> Tensor:
        """(B, 4·bins, A), side-major → (B, 4, A) float32 distances in grid units."""
        probabilities = logits.float().unflatten(1, (4, self.bins)).softmax(2)
        # a product and a sum: autocast would run a convolution in 16 bits, with errors of whole pixels
        return (probabilities * self.conv.weight.float().view(1, 1, self.bins, 1)).sum(2)
