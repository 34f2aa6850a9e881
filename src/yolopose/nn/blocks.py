"""Feature blocks of all families. Attribute names are those of public state_dicts."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from yolopose.base.errors import ModelError
from yolopose.nn.attention import ABlock, PSABlock, attention_heads
from yolopose.nn.conv import Conv

_HEAD_DIM = 32  # channels of a head of area attention
_INIT_GAMMA = 0.01  # initial factor of a residual A2C2f: the block starts close to the identity


class Bottleneck(nn.Module):
    """Two convolutions, added to the input with `shortcut` and equal channels."""

    def __init__(
        self, c1: int, c2: int, shortcut: bool = True, g: int = 1, k: tuple[int, int] = (3, 3), e: float = 0.5
    ) -> None:
        super().__init__()
        hidden = int(c2 * e)
        self.cv1 = Conv(c1, hidden, k[0])
        self.cv2 = Conv(hidden, c2, k[1], g=g)
        self.add = shortcut and c1 == c2

    def forward(self, x: Tensor) -> Tensor:
        """(B, c1, H, W) → (B, c2, H, W)."""
        y = self.cv2(self.cv1(x))
        return x + y if self.add else y


class _SplitStages(nn.Module):
    """Passes half of the channels through the inner blocks one by one; all outputs are concatenated."""

    def __init__(self, c1: int, c2: int, hidden: int, inner: Sequence[nn.Module]) -> None:
        super().__init__()
        self.cv1 = Conv(c1, 2 * hidden)
        self.cv2 = Conv((2 + len(inner)) * hidden, c2)
        self.m = nn.ModuleList(inner)

    def forward(self, x: Tensor) -> Tensor:
        """(B, c1, H, W) → (B, c2, H, W)."""
        stages = list(self.cv1(x).chunk(2, 1))
        for block in self.m:
            stages.append(block(stages[-1]))
        return self.cv2(torch.cat(stages, 1))


class C2f(_SplitStages):
    """The block of YOLOv8: `n` bottlenecks, all outputs concatenated."""

    def __init__(self, c1: int, c2: int, n: int = 1, shortcut: bool = False, g: int = 1, e: float = 0.5) -> None:
        hidden = int(c2 * e)
        super().__init__(c1, c2, hidden, [Bottleneck(hidden, hidden, shortcut, g, e=1.0) for _ in range(n)])


class C3(nn.Module):
    """Two 1×1 branches, one followed by `n` bottlenecks, fused by a third 1×1 convolution."""

    kernels = (1, 3)

    def __init__(self, c1: int, c2: int, n: int = 1, shortcut: bool = True, g: int = 1, e: float = 0.5) -> None:
        super().__init__()
        hidden = int(c2 * e)
        self.cv1 = Conv(c1, hidden)
        self.cv2 = Conv(c1, hidden)
        self.cv3 = Conv(2 * hidden, c2)
        self.m = nn.Sequential(*(Bottleneck(hidden, hidden, shortcut, g, self.kernels, 1.0) for _ in range(n)))

    def forward(self, x: Tensor) -> Tensor:
        """(B, c1, H, W) → (B, c2, H, W)."""
        return self.cv3(torch.cat((self.m(self.cv1(x)), self.cv2(x)), 1))


class C3k(C3):
    """`C3` with 3×3 kernels in both convolutions of a bottleneck."""

    kernels = (3, 3)


class C3k2(_SplitStages):
    """`C2f` whose inner blocks are `C3k`, narrow bottlenecks, or bottlenecks followed by attention.

    Args:
        c1: input channels.
        c2: output channels.
        n: inner blocks.
        c3k: inner blocks are `C3k`.
        e: hidden channels as a share of c2.
        attn: inner blocks are a bottleneck and attention; `c3k` is ignored.
        g: groups of the inner convolutions.
        shortcut: inner blocks add their input.
    """

    def __init__(
        self,
        c1: int,
        c2: int,
        n: int = 1,
        c3k: bool = False,
        e: float = 0.5,
        attn: bool = False,
        g: int = 1,
        shortcut: bool = True,
    ) -> None:
        hidden = int(c2 * e)

        def inner() -> nn.Module:
            if attn:
                heads = attention_heads(hidden)
                return nn.Sequential(Bottleneck(hidden, hidden, shortcut, g), PSABlock(hidden, heads=heads))
            return C3k(hidden, hidden, 2, shortcut, g) if c3k else Bottleneck(hidden, hidden, shortcut, g)

        super().__init__(c1, c2, hidden, [inner() for _ in range(n)])


class A2C2f(nn.Module):
    """Stages of area attention or of `C3k`, whose outputs are concatenated (YOLO12, arXiv 2502.12524).

    Args:
        c1: input channels.
        c2: output channels.
        n: stages.
        a2: each stage is two attention blocks; False makes it a `C3k`.
        area: areas of the attention; below 1 counts as 1.
        residual: add the output, scaled by a learned factor per channel, to the input; only with `a2`.
        mlp_ratio: hidden channels of a feed-forward as a share of its input channels.
        e: hidden channels as a share of c2.
        g: groups of the `C3k`'s convolutions.
        shortcut: the bottlenecks of the `C3k` add their input.

    Raises:
        ModelError: the hidden channels are not a multiple of a head's, or `residual` with c1 ≠ c2.
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
                f"A2C2f splits its {hidden} hidden channels into heads of {_HEAD_DIM}: they must be a multiple of it."
            )
        if a2 and residual and c1 != c2:
            raise ModelError(f"a residual A2C2f needs equal input and output channels, got {c1} and {c2}.")
        self.gamma = nn.Parameter(_INIT_GAMMA * torch.ones(c2)) if a2 and residual else None
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
    def reset_parameters(self) -> None:
        """Initialize the learned factor."""
        if self.gamma is not None:
            self.gamma.fill_(_INIT_GAMMA)


class SPPF(nn.Module):
    """Chained max-pools of one size, all outputs concatenated, so the receptive field grows step by step.

    Args:
        c1: input channels.
        c2: output channels.
        k: kernel side of the pools, odd.
        n: number of pools. None is the form of YOLOv8 to YOLO12: three pools. A number is the form of YOLO26,
            whose first convolution has no activation.
        shortcut: add the input where the channels are equal.
    """

    def __init__(self, c1: int, c2: int, k: int = 5, n: int | None = None, shortcut: bool = False) -> None:
        super().__init__()
        hidden = c1 // 2
        self.pools = 3 if n is None else n
        self.cv1 = Conv(c1, hidden, act=n is None)
        self.cv2 = Conv(hidden * (self.pools + 1), c2)
        self.m = nn.MaxPool2d(k, 1, k // 2)
        self.add = shortcut and c1 == c2

    def forward(self, x: Tensor) -> Tensor:
        """(B, c1, H, W) → (B, c2, H, W)."""
        stages = [self.cv1(x)]
        for _ in range(self.pools):
            stages.append(self.m(stages[-1]))
        y = self.cv2(torch.cat(stages, 1))
        return x + y if self.add else y
