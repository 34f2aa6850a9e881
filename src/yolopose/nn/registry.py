"""The table of modules and the list of activations that a model YAML may name.

The first argument of a layer is its output channels; the others are those of the table, in this order. Trailing ones
may be omitted, and None keeps the default. A new block is one entry of the table.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from yolopose.base.errors import ModelError, did_you_mean
from yolopose.nn.attention import C2PSA
from yolopose.nn.blocks import C3, SPPF, A2C2f, Bottleneck, C2f, C3k, C3k2
from yolopose.nn.conv import Conv, DWConv


@dataclass(frozen=True, slots=True)
class ArgType:
    """The values an argument may have: a test, and a description for error messages."""

    description: str
    test: Callable[[Any], bool]


def is_int(value: object, low: int, high: int) -> bool:
    """Return whether a value is an integer in a range; booleans are not."""
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _is_ratio(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and 0 < value <= 4


FLAG = ArgType("True or False", lambda value: isinstance(value, bool))
SMALL = ArgType("an integer 1…64", lambda value: is_int(value, 1, 64))
ODD = ArgType("an odd number 1…63", lambda value: is_int(value, 1, 63) and value % 2 == 1)
GROUPS = ArgType("an integer 1…16384", lambda value: is_int(value, 1, 16384))
RATIO = ArgType("a number above 0, up to 4", _is_ratio)
AREA = ArgType("an integer -1…64", lambda value: is_int(value, -1, 64))
PAIR = ArgType(
    "two kernel sides, such as [3, 3]",
    lambda value: isinstance(value, list) and len(value) == 2 and all(is_int(side, 1, 63) for side in value),
)

AdjustFn = Callable[[dict[str, Any], str], None]


@dataclass(frozen=True, slots=True)
class BlockSpec:
    """How a layer of the YAML becomes a module `make(c1, c2, **arguments)`.

    Attributes:
        make: the block.
        args: arguments after the output channels.
        inner: the layer's repeats are passed to the block as `n`; otherwise blocks are stacked.
        adjust: changes the arguments for a scale letter.
        light: a network with this block has the depth-wise class branch in its head.
    """

    make: Callable[..., nn.Module]
    args: Mapping[str, ArgType] = field(default_factory=dict[str, ArgType])
    inner: bool = False
    adjust: AdjustFn | None = None
    light: bool = False


def _c3k_in_large_scales(args: dict[str, Any], scale: str) -> None:
    if scale in ("m", "l", "x"):
        args["c3k"] = True


def _residual_in_large_scales(args: dict[str, Any], scale: str) -> None:
    if scale in ("l", "x"):
        args.setdefault("residual", True)
        args.setdefault("mlp_ratio", 1.2)


_C3_ARGS = {"shortcut": FLAG, "g": GROUPS, "e": RATIO}

BLOCKS: dict[str, BlockSpec] = {
    "Conv": BlockSpec(Conv, {"k": SMALL, "s": SMALL, "g": GROUPS, "d": SMALL}),
    "DWConv": BlockSpec(DWConv, {"k": SMALL, "s": SMALL, "d": SMALL}),
    "Bottleneck": BlockSpec(Bottleneck, {"shortcut": FLAG, "g": GROUPS, "k": PAIR, "e": RATIO}),
    "C2f": BlockSpec(C2f, _C3_ARGS, inner=True),
    "C3": BlockSpec(C3, _C3_ARGS, inner=True),
    "C3k": BlockSpec(C3k, _C3_ARGS, inner=True),
    "C3k2": BlockSpec(
        C3k2,
        {"c3k": FLAG, "e": RATIO, "attn": FLAG, "g": GROUPS, "shortcut": FLAG},
        inner=True,
        adjust=_c3k_in_large_scales,
        light=True,
    ),
    "A2C2f": BlockSpec(
        A2C2f,
        {"a2": FLAG, "area": AREA, "residual": FLAG, "mlp_ratio": RATIO, "e": RATIO, "g": GROUPS, "shortcut": FLAG},
        inner=True,
        adjust=_residual_in_large_scales,
        light=True,
    ),
    "SPPF": BlockSpec(SPPF, {"k": ODD, "n": SMALL, "shortcut": FLAG}),
    "C2PSA": BlockSpec(C2PSA, {"e": RATIO}, inner=True),
}

# layers with other arguments, made by build.py
CONCAT, UPSAMPLE, HEAD, HEAD26 = "Concat", "nn.Upsample", "Pose", "Pose26"
HEADS = (HEAD, HEAD26)
MODULE_NAMES = (*BLOCKS, CONCAT, UPSAMPLE, *HEADS)

# modules of public YAMLs that are not supported, and why
UNSUPPORTED = {
    **dict.fromkeys(("ABlock", "AAttn", "RealNVP"), "it is a part of a block or head, not a layer"),
    **dict.fromkeys(
        ("Detect", "Segment", "Segment26", "OBB", "OBB26", "Classify", "RTDETRDecoder", "WorldDetect", "v10Detect"),
        "it is the head of another task or family; the last layer of a pose network is Pose or Pose26",
    ),
}

_ACTIVATIONS: dict[str, type[nn.Module]] = {
    kind.__name__: kind
    for kind in (nn.SiLU, nn.ReLU, nn.ReLU6, nn.Hardswish, nn.GELU, nn.Mish, nn.ELU, nn.Sigmoid, nn.Tanh, nn.Identity)
}
_LEAKY = "LeakyReLU"
_ACTIVATION_FORM = re.compile(r"(?:torch\.)?(?:nn\.)?(?P<name>\w+)(?:\((?P<args>[^()]*)\))?")


def parse_activation(text: object) -> nn.Module:
    """Make the activation that a YAML names, such as `SiLU`, `nn.ReLU()` or `nn.LeakyReLU(0.1)`. Nothing is evaluated.

    `inplace=True` is accepted and ignored: it changes no value.

    Raises:
        ModelError: the name is not in the list, or its arguments have another form.
    """
    match = _ACTIVATION_FORM.fullmatch(text.strip()) if isinstance(text, str) else None
    name = match["name"] if match else str(text)
    if match is None or name not in (*_ACTIVATIONS, _LEAKY):
        known = (*_ACTIVATIONS, _LEAKY)
        raise ModelError(
            f"activation {text!r} is not supported.{did_you_mean(name, known)} Choose from: {', '.join(known)}."
        )
    args = [item.strip() for item in (match["args"] or "").split(",") if item.strip()]
    args = [item for item in args if item.replace(" ", "") not in ("inplace=True", "inplace=False")]
    if name in _ACTIVATIONS and not args:
        return _ACTIVATIONS[name]()
    slope = re.fullmatch(r"(?:negative_slope\s*=\s*)?(\d*\.?\d+(?:e-?\d+)?)", args[0]) if len(args) == 1 else None
    if name == _LEAKY and (slope or not args):
        return nn.LeakyReLU(float(slope[1]) if slope else 0.01)
    raise ModelError(f"activation {text!r}: {name} takes {'one slope' if name == _LEAKY else 'no arguments'}.")
