"""Model YAMLs: find and read a file, resolve its scale, and check and parse its layers."""

from __future__ import annotations

import copy
import math
import re
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from yolopose.base.errors import ModelError, NotFoundError, did_you_mean
from yolopose.base.log import LOGGER
from yolopose.base.suggestions import suggest_path
from yolopose.base.yamlfile import read_yaml
from yolopose.nn.registry import BLOCKS, CONCAT, HEADS, MODULE_NAMES, UNSUPPORTED, UPSAMPLE, is_int
from yolopose.zoo import model_yaml_names, model_yaml_path, suggest_model_name

MAX_LAYERS = 500
MAX_BLOCKS = 2_000
MAX_CHANNELS = 16_384
# "my-yolo11s-pose" → "my-yolo11", "s", "-pose"
_SCALED_NAME = re.compile(r"^(?P<family>.*yolov?\d+)(?P<letter>[a-z]?)(?P<rest>(?:[-_.].*)?)$", re.IGNORECASE)
_MAX_SCALE = 16.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelYaml:
    """A model YAML at one scale.

    Attributes:
        label: how error messages name it.
        name: name of the network, such as `yolo11n-pose`.
        values: content of the YAML.
        scale: scale letter; empty where the YAML has no scales.
        depth: factor for repeats.
        width: factor for channels.
        max_channels: limit of channels before the factor is applied.
    """

    label: str
    name: str
    values: dict[str, Any]
    scale: str
    depth: float
    width: float
    max_channels: float

    def scale_repeats(self, count: int) -> int:
        """Return the repeats of a layer at this scale."""
        return max(round(count * self.depth), 1) if count > 1 else count

    def scale_channels(self, count: int) -> int:
        """Return the output channels of a layer at this scale, a multiple of 8."""
        return math.ceil(min(count, self.max_channels) * self.width / 8) * 8


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


def load_model_yaml(source: str | Path | Mapping[str, Any], scale: str | None = None) -> ModelYaml:
    """Read a model YAML and resolve its scale.

    Args:
        source: a path, the name of a shipped YAML (`yolo11n-pose.yaml`), or the content of a YAML.
        scale: scale letter; None takes that of the name, of the `scale` key, or the first of the table.

    Raises:
        NotFoundError: the file does not exist.
        ModelError: the file, its scales or the letter are invalid.
    """
    if isinstance(source, Mapping):
        values = {str(key): copy.deepcopy(value) for key, value in source.items()}
        stem = _stem(str(values.get("yaml_file") or "model"))
        label = f"Model YAML of {stem}"
        letter = scale or values.get("scale") or _split_letter(stem)[0]
    else:
        path, stem = _find_yaml(Path(source))
        values = read_yaml(path, "model YAML", ModelError)
        label = f"Model YAML {path}"
        requested = _split_letter(stem)[0]
        letter = scale or requested or values.get("scale")
        if requested and path.stem != stem and not values.get("scales"):
            raise ModelError(f"{label} has no `scales`, so scale {requested!r} does not exist; use {path.name}.")
    if scale and not values.get("scales"):
        raise ModelError(f"{label} has no `scales`, so scale {scale!r} cannot be chosen.")
    letter, factors = _scale_factors(values, letter, label)
    return ModelYaml(
        label=label,
        name=_with_letter(stem, letter),
        values=values,
        scale=letter,
        depth=factors[0],
        width=factors[1],
        max_channels=factors[2],
    )


def _stem(name: str) -> str:
    """Return the file name without folder (of either platform) and suffix."""
    return re.sub(r"\.ya?ml$", "", re.split(r"[/\\]", name)[-1], flags=re.IGNORECASE)


def _split_letter(stem: str) -> tuple[str, str]:
    """Return the scale letter of a name ("" without one), and the name without it."""
    match = _SCALED_NAME.match(stem)
    if match is None:
        return "", stem
    return match["letter"].lower(), match["family"] + match["rest"]


def _with_letter(stem: str, letter: str) -> str:
    match = _SCALED_NAME.match(stem)
    return stem if match is None or not letter else match["family"] + letter + match["rest"]


def _find_yaml(requested: Path) -> tuple[Path, str]:
    """Return the file to open and the requested stem: as named, else without the letter, else a shipped one."""
    if requested.suffix.lower() not in (".yaml", ".yml"):
        if requested.suffix.lower() in (".pt", ".onnx", ".safetensors"):
            raise ModelError(f"{requested} is a weights file, not a model YAML. Open it with model={requested}.")
        requested = requested.with_name(requested.name + ".yaml")
    plain = requested.with_name(_split_letter(requested.stem)[1] + requested.suffix)
    for path in (requested, plain):
        if path.is_file():
            return path, requested.stem
    if requested.parent == Path("."):
        for name in (requested.name, plain.name):
            shipped = model_yaml_path(name)
            if shipped is not None:
                return shipped, requested.stem
    names = model_yaml_names()
    suggestion = suggest_model_name(requested.stem) if requested.parent == Path() else None
    if model_yaml_path(f"{plain.stem}.yaml"):  # .yml instead of .yaml
        suggestion = requested.stem
    hint = f" Did you mean model={suggestion}.yaml?" if suggestion else suggest_path(requested, "model")
    raise NotFoundError(
        f"The model YAML {requested} does not exist (current folder: {Path.cwd()}).{hint} The shipped ones are: "
        f"{', '.join(names)}; add a scale letter after the number, as in yolo11n-pose.yaml."
    )


def _scale_factors(values: Mapping[str, Any], letter: object, label: str) -> tuple[str, tuple[float, float, float]]:
    """Return the scale letter and its (depth, width, max_channels)."""
    scales = values.get("scales")
    if not scales:
        depth, width = values.get("depth_multiple", 1.0), values.get("width_multiple", 1.0)
        return "", _check_factors((depth, width, math.inf), f"{label}: depth_multiple and width_multiple")
    if not isinstance(scales, Mapping):
        raise ModelError(f"{label}: scales must map a letter to [depth, width, max_channels], got {scales!r}.")
    known = [str(key) for key in scales]
    if not letter:
        letter = known[0]
        LOGGER.info(f"{label}: no scale letter in the name, using scale {letter!r} of {', '.join(known)}.")
    if not isinstance(letter, str) or letter not in known:
        raise ModelError(f"{label} has no scale {letter!r}; it has {', '.join(known)}.")
    row = next(value for key, value in scales.items() if str(key) == letter)
    if not isinstance(row, list) or len(row) != 3:
        raise ModelError(f"{label}: scale {letter!r} must be [depth, width, max_channels], got {row!r}.")
    return letter, _check_factors(row, f"{label}: scale {letter!r}")


def _check_factors(row: Any, where: str) -> tuple[float, float, float]:
    if not all(isinstance(item, (int, float)) and not isinstance(item, bool) and item > 0 for item in row):
        raise ModelError(f"{where} must be positive numbers, got {list(row)!r}.")
    depth, width, limit = row
    if depth > _MAX_SCALE or width > _MAX_SCALE:
        raise ModelError(f"{where}: depth {depth:g} and width {width:g} must not exceed {_MAX_SCALE:g}.")
    return float(depth), float(width), float(limit)


def input_channels(values: Mapping[str, Any]) -> Any:
    """Return the channels of the image in the content of a model YAML, unchecked: `channels`, `ch`, or else 3."""
    return values.get("channels", values.get("ch", 3))


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
