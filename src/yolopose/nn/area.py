"""The attention blocks of YOLO12: attention within areas of a map (arXiv 2502.12524)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from yolopose.base.errors import ModelError
from yolopose.nn.blocks import C3k
from yolopose.nn.conv import Conv

_HEAD_DIM = 32  # channels of an attention head
_GAMMA = 0.01  # share that a residual A2C2f begins with
_SPREAD = 0.02  # σ of the start values of an attention block's convolutions


class AAttn(nn.Module):
    """Multi-head attention within equal runs of positions; a depth-wise convolution of the values is the position code.

    The positions are taken row by row, so a run is a band of rows: attention costs `area` times less.

    Args:
        c: channels in and out.
        heads: attention heads; must divide c.
        area: number of runs; must divide the positions of every map that comes.

    Raises:
        ModelError: heads does not divide c.
    """

    def __init__(self, c: int, heads: int, area: int = 1) -> None:
        super().__init__()
        if heads < 1 or c % heads:
            raise ModelError(f"attention over {c} channels cannot be cut into {heads} equal heads.")
        self.heads = heads
        self.area = area
        self.head_dim = c // heads
        self.qkv = Conv(c, 3 * c, act=False)
        self.proj = Conv(c, c, act=False)
        self.pe = Conv(c, c, 7, g=c, act=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, c, H, W) → (B, c, H, W); H·W a multiple of `area`."""
        shape = x.shape
        dim = self.head_dim
        # (B, heads, 3·dim, area, positions of a run)
        qkv = self.qkv(x).flatten(2).unflatten(2, (self.area, -1)).unflatten(1, (self.heads, 3 * dim))
        q, k, v = qkv.transpose(2, 3).split(dim, 3)  # each (B, heads, area, dim, positions)
        weights = ((q * dim**-0.5).transpose(3, 4) @ k).softmax(4)
        mixed = (v @ weights.transpose(3, 4)).transpose(2, 3).reshape(shape)
        return self.proj(mixed + self.pe(v.transpose(2, 3).reshape(shape)))

    def macs(self, positions: int) -> int:
        """Return the multiply-adds of the two products for one image of so many positions."""
        return self.heads * positions * (positions // self.area) * 2 * self.head_dim


class ABlock(nn.Module):
    """Area attention, then a two-layer feed-forward, each added to its input."""

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
    def reset(self) -> None:
        """Set the start values of its convolutions."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.trunc_normal_(module.weight, std=_SPREAD)


class A2C2f(nn.Module):
    """Stages of area attention, or of `C3k`, every stage joined.

    Args:
        c1: channels in.
        c2: channels out.
        n: stages.
        a2: stages of two attention blocks; False makes each a `C3k`.
        area: runs of positions that attention stays within; below 1 counts as 1.
        residual: adds the input, and the stages' share of the sum is learned; with `a2` alone.
        mlp_ratio: hidden channels of a feed-forward as a share of its input's.
        e: hidden channels as a share of c2.
        g: groups of the `C3k`'s convolutions.
        shortcut: the `C3k`'s bottlenecks add their input.

    Raises:
        ModelError: the hidden channels are no multiple of a head's, or `residual` where channels differ.
    """

    def __init__(
        self,
        c1: int,
        c2: int,
        n: int = 1,
        a2: bool = True,
        area: int = 1,
        residual: bool = False,
        mlp_ratio: float = 2.0,
        e: float = 0.5,
        g: int = 1,
        shortcut: bool = True,
    ) -> None:
        super().__init__()
        hidden = int(c2 * e)
        if a2 and hidden % _HEAD_DIM:
            raise ModelError(
                f"A2C2f cuts its {hidden} hidden channels into heads of {_HEAD_DIM}, so they must be a multiple."
            )
        if a2 and residual and c1 != c2:
            raise ModelError(
                f"a residual A2C2f gives as many channels as it takes, but takes {c1} and should give {c2}."
            )
        self.gamma = nn.Parameter(_GAMMA * torch.ones(c2)) if a2 and residual else None
        self.cv1 = Conv(c1, hidden)
        self.cv2 = Conv((1 + n) * hidden, c2)

        def stage() -> nn.Module:
            if not a2:
                return C3k(hidden, hidden, 2, shortcut, g)
            heads = hidden // _HEAD_DIM
            return nn.Sequential(*(ABlock(hidden, heads, mlp_ratio, max(area, 1)) for _ in range(2)))

        self.m = nn.ModuleList(stage() for _ in range(n))

    def forward(self, x: Tensor) -> Tensor:
        """(B, c1, H, W) → (B, c2, H, W)."""
        stages = [self.cv1(x)]
        for block in self.m:
            stages.append(block(stages[-1]))
        y = self.cv2(torch.cat(stages, 1))
        return y if self.gamma is None else x + self.gamma[:, None, None] * y

    @torch.no_grad()
    def reset(self) -> None:
        """Set the start value of the learned share."""
        if self.gamma is not None:
            self.gamma.fill_(_GAMMA)
