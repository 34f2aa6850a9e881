"""The one table of modules that a model YAML may name, and how the arguments of their rows are read.

A row's first argument is the output channels; the others are those named here, in this order, and may
be left out from the end. None leaves the default. A new block is one line of the table.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from yolopose.nn.area import A2C2f
from yolopose.nn.attention import C2PSA
from yolopose.nn.blocks import C3, SPPF, Bottleneck, C2f, C3k, C3k2
from yolopose.nn.conv import Conv, DWConv


@dataclass(frozen=True, slots=True)
class Kind:
    """What an argument may be: the test, and its words for an error text."""

    words: str
    test: Callable[[Any], bool]


def is_whole(value: object, low: int, high: int) -> bool:
    """Whether it is a whole number of this range; True and False are none."""
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _is_ratio(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and 0 < value <= 4


FLAG = Kind("True or False", lambda value: isinstance(value, bool))
SMALL = Kind("a whole number 1…64", lambda value: is_whole(value, 1, 64))
ODD = Kind("an odd number 1…63", lambda value: is_whole(value, 1, 63) and value % 2 == 1)
GROUPS = Kind("a whole number 1…16384", lambda value: is_whole(value, 1, 16384))
RATIO = Kind("a number above 0, up to 4", _is_ratio)
AREA = Kind("a whole number -1…64", lambda value: is_whole(value, -1, 64))
PAIR = Kind(
    "two kernel sides, such as [3, 3]",
    lambda value: isinstance(value, list) and len(value) == 2 and all(is_whole(side, 1, 63) for side in value),
)

Adjust = Callable[[dict[str, Any], str], None]


@dataclass(frozen=True, slots=True)
class Entry:
    """How a row becomes a module `make(c1, c2, **arguments)`.

    Attributes:
        make: the block.
        args: arguments after the output channels.
        inner: the row's repeats go to the block as `n`; otherwise blocks are stacked.
        adjust: changes the arguments for a scale letter.
        light: a graph that holds this block has the light class branch.
    """

    make: Callable[..., nn.Module]
    args: Mapping[str, Kind] = field(default_factory=dict[str, Kind])
    inner: bool = False
    adjust: Adjust | None = None
    light: bool = False


def _c3k_in_large_scales(args: dict[str, Any], scale: str) -> None:
    if scale in ("m", "l", "x"):
        args["c3k"] = True


def _residual_in_large_scales(args: dict[str, Any], scale: str) -> None:
    if scale in ("l", "x"):
        args.setdefault("residual", True)
        args.setdefault("mlp_ratio", 1.2)


_C3_ARGS = {"shortcut": FLAG, "g": GROUPS, "e": RATIO}

BLOCKS: dict[str, Entry] = {
    "Conv": Entry(Conv, {"k": SMALL, "s": SMALL, "g": GROUPS, "d": SMALL}),
    "DWConv": Entry(DWConv, {"k": SMALL, "s": SMALL, "d": SMALL}),
    "Bottleneck": Entry(Bottleneck, {"shortcut": FLAG, "g": GROUPS, "k": PAIR, "e": RATIO}),
    "C2f": Entry(C2f, _C3_ARGS, inner=True),
    "C3": Entry(C3, _C3_ARGS, inner=True),
    "C3k": Entry(C3k, _C3_ARGS, inner=True),
    "C3k2": Entry(
        C3k2,
        {"c3k": FLAG, "e": RATIO, "attn": FLAG, "g": GROUPS, "shortcut": FLAG},
        inner=True,
        adjust=_c3k_in_large_scales,
        light=True,
    ),
    "A2C2f": Entry(
        A2C2f,
        {"a2": FLAG, "area": AREA, "residual": FLAG, "mlp_ratio": RATIO, "e": RATIO, "g": GROUPS, "shortcut": FLAG},
        inner=True,
        adjust=_residual_in_large_scales,
        light=True,
    ),
    "SPPF": Entry(SPPF, {"k": ODD, "n": SMALL, "shortcut": FLAG}),
    "C2PSA": Entry(C2PSA, {"e": RATIO}, inner=True),
}

# Rows of a form of their own, made by build.py
CONCAT, UPSAMPLE, HEAD, HEAD26 = "Concat", "nn.Upsample", "Pose", "Pose26"
HEADS = (HEAD, HEAD26)
KNOWN = (*BLOCKS, CONCAT, UPSAMPLE, *HEADS)

# Modules of public YAMLs that are not here, and why
FOREIGN = {
    **dict.fromkeys(("ABlock", "AAttn", "RealNVP"), "it is a part of a block or head, no row by itself"),
    **dict.fromkeys(
        ("Detect", "Segment", "Segment26", "OBB", "OBB26", "Classify", "RTDETRDecoder", "WorldDetect", "v10Detect"),
        "it is the head of another task or family; the last row of a pose network is Pose or Pose26",
    ),
}
