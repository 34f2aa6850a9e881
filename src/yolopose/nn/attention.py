"""Attention over the positions of a map, as the YOLO11 backbone uses it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from yolopose.base.errors import ModelError
from yolopose.nn.conv import Conv


class Attention(nn.Module):
    """Multi-head attention over all positions, with a depth-wise convolution of the values as position code.

    Args:
        c: channels in and out.
        heads: attention heads; must divide c.
        ratio: width of keys and queries as a share of the values'.

    Raises:
        ModelError: heads does not divide c, or leaves keys without channels.
    """

    def __init__(self, c: int, heads: int, ratio: float = 0.5) -> None:
        super().__init__()
        if heads < 1 or c % heads or c // heads * ratio < 1:
            raise ModelError(
                f"attention over {c} channels cannot be cut into {heads} equal heads with keys {ratio:g} as wide."
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
        # the queries are scaled before the product, which keeps 16-bit products in range
        weights = ((q * self.key_dim**-0.5).transpose(2, 3) @ k).softmax(3)
        mixed = (v @ weights.transpose(2, 3)).reshape(shape)
        return self.proj(mixed + self.pe(v.reshape(shape)))

    def macs(self, positions: int) -> int:
        """Return the multiply-adds of the two products for one image of so many positions."""
        return self.heads * positions**2 * (self.key_dim + self.head_dim)


class PSABlock(nn.Module):
    """Attention, then a two-layer feed-forward, each added to its input."""

    def __init__(self, c: int, ratio: float = 0.5, heads: int = 4) -> None:
        super().__init__()
        self.attn = Attention(c, heads, ratio)
        self.ffn = nn.Sequential(Conv(c, 2 * c), Conv(2 * c, c, act=False))

    def forward(self, x: Tensor) -> Tensor:
        """(B, c, H, W) → (B, c, H, W)."""
        x = x + self.attn(x)
        return x + self.ffn(x)


class C2PSA(nn.Module):
    """Half of the channels pass by, the other half go through `n` attention blocks.

    Raises:
        ModelError: c1 and c2 differ.
    """

    def __init__(self, c1: int, c2: int, n: int = 1, e: float = 0.5) -> None:
        super().__init__()
        if c1 != c2:
            raise ModelError(f"C2PSA gives as many channels as it takes, but takes {c1} and should give {c2}.")
        hidden = int(c1 * e)
        self.cv1 = Conv(c1, 2 * hidden)
        self.cv2 = Conv(2 * hidden, c1)
        self.m = nn.Sequential(*(PSABlock(hidden, heads=attention_heads(hidden)) for _ in range(n)))

    def forward(self, x: Tensor) -> Tensor:
        """(B, c, H, W) → (B, c, H, W)."""
        passed, mixed = self.cv1(x).chunk(2, 1)
        return self.cv2(torch.cat((passed, self.m(mixed)), 1))


def attention_heads(channels: int) -> int:
    """Return the number of heads used for so many channels: one for each 64."""
    return max(channels // 64, 1)
