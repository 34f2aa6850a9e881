"""Parse the layers of a model YAML; every layer is checked before anything is built."""

from __future__ import annotations

import reprlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from yolopose.base.errors import ModelError, did_you_mean
from yolopose.nn.model_yaml import ModelYaml
from yolopose.nn.registry import BLOCKS, CONCAT, HEADS, MODULE_NAMES, UNSUPPORTED, UPSAMPLE, is_int

MAX_LAYERS = 500
MAX_BLOCKS = 2_000
MAX_CHANNELS = 16_384


@dataclass(frozen=True, slots=True)
class LayerSpec:
    """One layer of the backbone or head.

    Attributes:
        index: its number, counted over backbone and head.
        inputs: numbers of the layers it reads; -1 is the image.
        repeats: scaled repeats.
        module: name of the module.
        args: its arguments, with `nc`, `kpt_shape` and `None` resolved.
        where: file, number and text of the layer, for error messages.
    """

    index: int
    inputs: tuple[int, ...]
    repeats: int
    module: str
    args: tuple[Any, ...]
    where: str


def raw_layers(source: ModelYaml) -> list[Any]:
    """Return the layers of backbone and head as in the YAML.

    Raises:
        ModelError: a part is missing or not a list, there are too many layers, or the last one is not the head.
    """
    layers: list[Any] = []
    for key in ("backbone", "head"):
        part = source.values.get(key)
        if not isinstance(part, list) or not part:
            raise ModelError(f"{source.label}: `{key}` must be a list of [from, repeats, module, args] layers.")
        layers += part
    if len(layers) > MAX_LAYERS:
        raise ModelError(f"{source.label} has {len(layers)} layers; at most {MAX_LAYERS} are supported.")
    heads = [index for index, layer in enumerate(layers) if isinstance(layer, list) and _is_head(layer)]
    if heads != [len(layers) - 1]:
        last = layers[-1]
        if isinstance(last, list) and len(last) == 4 and str(last[2]) in UNSUPPORTED:
            _check_module(last[2], _location(source, len(layers) - 1, last))
        raise ModelError(
            f"{source.label}: the last layer, and only the last, must be a head such as [[16, 19, 22], 1, Pose, [nc, "
            f"kpt_shape]]; layers with Pose or Pose26: {heads or 'none'}, layers: 0…{len(layers) - 1}."
        )
    return layers


def parse_layers(source: ModelYaml, nc: int, kpt_shape: tuple[int, int]) -> list[LayerSpec]:
    """Check every layer and return them with scaled repeats and resolved arguments.

    Raises:
        ModelError: a layer is wrong; the message names it.
    """
    variables = {"nc": nc, "kpt_shape": list(kpt_shape), "None": None}
    layers: list[LayerSpec] = []
    for index, raw in enumerate(raw_layers(source)):
        where = _location(source, index, raw)
        if not isinstance(raw, list) or len(raw) != 4:
            raise ModelError(f"{where} must be [from, repeats, module, args].")
        inputs, repeats, name, args = raw
        if not is_int(repeats, 1, MAX_BLOCKS):
            raise ModelError(f"{where}: repeats must be an integer 1…{MAX_BLOCKS}, got {repeats!r}.")
        if not isinstance(args, list):
            raise ModelError(f"{where}: the arguments must be a list, such as [64, 3, 2]; got {args!r}.")
        resolved = tuple(variables.get(item, item) if isinstance(item, str) else item for item in args)
        if name in HEADS and len(args) == 2:  # values written in the layer itself are overridden as well
            resolved = (nc, list(kpt_shape))
        indices = _parse_inputs(inputs, index, where)
        layer = LayerSpec(index, indices, source.scale_repeats(repeats), _check_module(name, where), resolved, where)
        _check_args(layer)
        layers.append(layer)
    if sum(layer.repeats for layer in layers) > MAX_BLOCKS:
        raise ModelError(f"{source.label}: the repeats make more than {MAX_BLOCKS} blocks.")
    return layers


def _is_head(layer: list[Any]) -> bool:
    return any(layer[2:3] == [name] for name in HEADS)


def _location(source: ModelYaml, index: int, raw: object) -> str:
    return f"{source.label}, layer {index} {reprlib.repr(raw)}"


def _check_module(name: object, where: str) -> str:
    if isinstance(name, str) and name in MODULE_NAMES:
        return name
    if isinstance(name, str) and name in UNSUPPORTED:
        raise ModelError(f"{where}: module {name!r} cannot be built: {UNSUPPORTED[name]}.")
    hint = did_you_mean(str(name), MODULE_NAMES)
    raise ModelError(f"{where}: unknown module {name!r}.{hint} The modules are: {', '.join(MODULE_NAMES)}.")


def _parse_inputs(inputs: object, index: int, where: str) -> tuple[int, ...]:
    """Return the absolute layer numbers of a `from` entry."""
    items = cast(list[int], inputs if isinstance(inputs, list) else [inputs])
    if not items or not all(is_int(item, -MAX_LAYERS, MAX_LAYERS) for item in items):
        raise ModelError(f"{where}: `from` must be -1, a layer number, or a list of them; got {inputs!r}.")
    if index == 0:
        if items != [-1]:
            raise ModelError(f"{where}: the first layer reads the image, so its `from` must be -1; got {inputs!r}.")
        return (-1,)
    absolute = tuple(index + item if item < 0 else item for item in items)
    for item, target in zip(items, absolute, strict=True):
        if target >= index:
            raise ModelError(
                f"{where}: `from` {item} is not built yet; a layer reads layers before it (0…{index - 1})."
            )
        if target < 0:
            raise ModelError(f"{where}: `from` {item} lies before the first layer; the lowest here is {-index}.")
    return absolute


def _check_args(layer: LayerSpec) -> None:
    """Check number and type of a layer's inputs and arguments."""
    if layer.module not in (CONCAT, *HEADS) and len(layer.inputs) != 1:
        raise ModelError(f"{layer.where}: {layer.module} reads one map, but `from` names {len(layer.inputs)}.")
    if layer.module in BLOCKS:
        _check_block(layer)
    elif layer.module in HEADS:
        if layer.repeats != 1 or len(layer.args) != 2:
            raise ModelError(f"{layer.where}: the head has 1 repeat and the arguments [nc, kpt_shape].")
    elif layer.module == CONCAT:
        if layer.repeats != 1 or layer.args != (1,):
            raise ModelError(f"{layer.where}: Concat has 1 repeat and concatenates channels: its arguments are [1].")
    elif layer.module == UPSAMPLE and not _is_upsample(layer.args):
        raise ModelError(f"{layer.where}: nn.Upsample takes [None, factor, nearest or bilinear], factor 1…16.")


def _is_upsample(args: Sequence[Any]) -> bool:
    return len(args) == 3 and args[0] is None and is_int(args[1], 1, 16) and args[2] in ("nearest", "bilinear")


def _check_block(layer: LayerSpec) -> None:
    types = BLOCKS[layer.module].args
    form = f"{layer.module} takes [channels, {', '.join(types)}]"
    if not 1 <= len(layer.args) <= 1 + len(types):
        raise ModelError(f"{layer.where}: {form}, at least the channels; got {len(layer.args)} arguments.")
    if not is_int(layer.args[0], 1, MAX_CHANNELS):
        raise ModelError(f"{layer.where}: {form}; channels must be an integer 1…{MAX_CHANNELS}.")
    for (name, arg_type), value in zip(types.items(), layer.args[1:], strict=False):
        if value is not None and not arg_type.test(value):
            raise ModelError(f"{layer.where}: {form}; {name} must be {arg_type.description}, got {value!r}.")
