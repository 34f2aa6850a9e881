"""Activations by name, from a list: the text in a YAML is never evaluated."""

from __future__ import annotations

import re

from torch import nn

from yolopose.base.errors import ModelError, did_you_mean

_PLAIN: dict[str, type[nn.Module]] = {
    kind.__name__: kind
    for kind in (nn.SiLU, nn.ReLU, nn.ReLU6, nn.Hardswish, nn.GELU, nn.Mish, nn.ELU, nn.Sigmoid, nn.Tanh, nn.Identity)
}
_LEAKY = "LeakyReLU"
_FORM = re.compile(r"(?:torch\.)?(?:nn\.)?(?P<name>\w+)(?:\((?P<args>[^()]*)\))?")


def activation_by_name(text: object) -> nn.Module:
    """Make the activation that `SiLU`, `nn.ReLU()`, `nn.LeakyReLU(0.1)` or the like names.

    `inplace=True` is accepted and left out: it changes no number.

    Raises:
        ModelError: the name is not in the list, or its arguments are not of that form.
    """
    match = _FORM.fullmatch(text.strip()) if isinstance(text, str) else None
    name = match["name"] if match else str(text)
    if match is None or name not in (*_PLAIN, _LEAKY):
        known = (*_PLAIN, _LEAKY)
        raise ModelError(f"activation {text!r} is not known.{did_you_mean(name, known)} Known are: {', '.join(known)}.")
    args = [item.strip() for item in (match["args"] or "").split(",") if item.strip()]
    args = [item for item in args if item.replace(" ", "") not in ("inplace=True", "inplace=False")]
    if name in _PLAIN and not args:
        return _PLAIN[name]()
    slope = re.fullmatch(r"(?:negative_slope\s*=\s*)?(\d*\.?\d+(?:e-?\d+)?)", args[0]) if len(args) == 1 else None
    if name == _LEAKY and (slope or not args):
        return nn.LeakyReLU(float(slope[1]) if slope else 0.01)
    raise ModelError(f"activation {text!r}: {name} takes {'one slope' if name == _LEAKY else 'no arguments'}.")
