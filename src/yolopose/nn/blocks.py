"""The feature blocks of the YOLOv8 and YOLO11 families. Attribute names are the state_dict's names."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from yolopose.nn.attention import PSABlock, attention_heads
from yolopose.nn.conv import Conv


class Bottleneck(nn.Module):
    """Two convolutions, added to the input where `shortcut` is set and the channels agree."""

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


class _Staged(nn.Module):
    """Splits the channels in two and hands one half through the inner blocks; all stages are joined."""

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


class C2f(_Staged):
    """The block of YOLOv8: `n` bottlenecks in stages, every stage joined."""

    def __init__(self, c1: int, c2: int, n: int = 1, shortcut: bool = False, g: int = 1, e: float = 0.5) -> None:
        hidden = int(c2 * e)
        super().__init__(c1, c2, hidden, [Bottleneck(hidden, hidden, shortcut, g, e=1.0) for _ in range(n)])


class C3(nn.Module):
    """Two 1×1 branches, one of them through `n` bottlenecks, joined by a third."""

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


class C3k2(_Staged):
    """`C2f` whose inner blocks are `C3k`, narrow bottlenecks, or bottlenecks followed by attention.

    Args:
        c1: channels in.
        c2: channels out.
        n: inner blocks.
        c3k: inner blocks are `C3k`.
        e: hidden channels as a share of c2.
        attn: inner blocks are bottleneck and attention, whatever `c3k` says.
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


class SPPF(nn.Module):
    """Chained max-pools of one size, all joined: what they see grows step by step.

    Args:
        c1: channels in.
        c2: channels out.
        k: side of the pools, odd.
        n: number of pools. None is the form of YOLOv8 to YOLO12: three pools; a number is the form of
            YOLO26, whose first convolution has no activation.
        shortcut: adds the input where the channels agree.
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
