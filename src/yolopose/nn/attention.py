"""Attention over the positions of a feature map: `Attention` of YOLO11, `AAttn` of YOLO12 (arXiv 2502.12524)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from yolopose.base.errors import ModelError
from yolopose.nn.conv import Conv

_INIT_STD = 0.02  # of the convolutions in an area attention block


class Attention(nn.Module):
    """Multi-head attention over all positions; a depth-wise convolution of the values encodes position.

    Args:
        c: input and output channels.
        heads: attention heads; must divide c.
        ratio: width of keys and queries as a share of the values'.

    Raises:
        ModelError: heads does not divide c, or keys have no channels.
    """

    def __init__(self, c: int, heads: int, ratio: float = 0.5) -> None:
        super().__init__()
        if heads < 1 or c % heads or c // heads * ratio < 1:
            raise ModelError(
                f"attention over {c} channels cannot be split into {heads} equal heads with keys {ratio:g} as wide."
            )
        self.heads = heads
        self.head_dim = c // heads
        self.key_dim = int(self.head_dim * ratio)
        self.qkv = Conv(c, c + 2 * self.key_dim * heads, act=False)
        self.proj = Conv(c, c, act=False)
        self.pe = Conv(c, c, 3, g=c, act=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, c, H, W) → (B, c, H, W)."""
        shape = x.shape
        qkv = self.qkv(x).flatten(2).unflatten(1, (self.heads, 2 * self.key_dim + self.head_dim))
        q, k, v = qkv.split((self.key_dim, self.key_dim, self.head_dim), 2)
        # queries are scaled before the product, which keeps float16 products in range
        weights = ((q * self.key_dim**-0.5).transpose(2, 3) @ k).softmax(3)
        mixed = (v @ weights.transpose(2, 3)).reshape(shape)
        return self.proj(mixed + self.pe(v.reshape(shape)))

    def macs(self, positions: int) -> int:
        """Return the multiply-adds of both matrix products for one image."""
        return self.heads * positions**2 * (self.key_dim + self.head_dim)


class PSABlock(nn.Module):
    """Attention, then a two-layer feed-forward network, each added to its input."""

    def __init__(self, c: int, ratio: float = 0.5, heads: int = 4) -> None:
        super().__init__()
        self.attn = Attention(c, heads, ratio)
        self.ffn = nn.Sequential(Conv(c, 2 * c), Conv(2 * c, c, act=False))

    def forward(self, x: Tensor) -> Tensor:
        """(B, c, H, W) → (B, c, H, W)."""
        x = x + self.attn(x)
        return x + self.ffn(x)


class C2PSA(nn.Module):
    """Passes half of the channels through `n` attention blocks and the other half around them.

    Raises:
        ModelError: c1 and c2 differ.
    """

    def __init__(self, c1: int, c2: int, n: int = 1, e: float = 0.5) -> None:
        super().__init__()
        if c1 != c2:
            raise ModelError(f"C2PSA needs equal input and output channels, got {c1} and {c2}.")
        hidden = int(c1 * e)
        self.cv1 = Conv(c1, 2 * hidden)
        self.cv2 = Conv(2 * hidden, c1)
        self.m = nn.Sequential(*(PSABlock(hidden, heads=attention_heads(hidden)) for _ in range(n)))

    def forward(self, x: Tensor) -> Tensor:
        """(B, c, H, W) → (B, c, H, W)."""
        skipped, mixed = self.cv1(x).chunk(2, 1)
        return self.cv2(torch.cat((skipped, self.m(mixed)), 1))


def attention_heads(channels: int) -> int:
    """Return the number of heads for so many channels: one per 64."""
    return max(channels // 64, 1)


class AAttn(nn.Module):
    """Multi-head attention within areas; a depth-wise convolution of the values encodes position.

    Positions are taken row by row and split into `area` equal runs, so an area is a band of rows, and attention costs
    `area` times less.

    Args:
        c: input and output channels.
        heads: attention heads; must divide c.
        area: number of areas; must divide the number of positions.

    Raises:
        ModelError: heads does not divide c.
    """

    def __init__(self, c: int, heads: int, area: int = 1) -> None:
        super().__init__()
        if heads < 1 or c % heads:
            raise ModelError(f"attention over {c} channels cannot be split into {heads} equal heads.")
        self.heads = heads
        self.area = area
        self.head_dim = c // heads
        self.qkv = Conv(c, 3 * c, act=False)
        self.proj = Conv(c, c, act=False)
        self.pe = Conv(c, c, 7, g=c, act=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, c, H, W) → (B, c, H, W); H·W is a multiple of `area`."""
        shape = x.shape
        dim = self.head_dim
        # (B, heads, 3·dim, area, positions of an area)
        qkv = self.qkv(x).flatten(2).unflatten(2, (self.area, -1)).unflatten(1, (self.heads, 3 * dim))
        q, k, v = qkv.transpose(2, 3).split(dim, 3)  # each (B, heads, area, dim, positions)
        weights = ((q * dim**-0.5).transpose(3, 4) @ k).softmax(4)
        mixed = (v @ weights.transpose(3, 4)).transpose(2, 3).reshape(shape)
        return self.proj(mixed + self.pe(v.transpose(2, 3).reshape(shape)))

    def macs(self, positions: int) -> int:
        """Return the multiply-adds of both matrix products for one image."""
        return self.heads * positions * (positions // self.area) * 2 * self.head_dim


class ABlock(nn.Module):
    """Area attention, then a two-layer feed-forward network, each added to its input."""

    def __init__(self, c: int, heads: int, mlp_ratio: float = 1.2, area: int = 1) -> None:
        super().__init__()
        hidden = int(c * mlp_ratio)
        self.attn = AAttn(c, heads, area)
        self.mlp = nn.Sequential(Conv(c, hidden), Conv(hidden, c, act=False))

    def forward(self, x: Tensor) -> Tensor:
        """(B, c, H, W) → (B, c, H, W)."""
        x = x + self.attn(x)
        return x + self.mlp(x)

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Initialize the convolutions."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.trunc_normal_(module.weight, std=_INIT_STD)
