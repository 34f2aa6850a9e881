"""From a model YAML to a network. Nothing in the YAML is ever evaluated as code."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from yolopose.base.errors import ModelError, UsageError
from yolopose.nn.activations import activation_by_name
from yolopose.nn.area import A2C2f, ABlock
from yolopose.nn.conv import Concat, Conv
from yolopose.nn.head import Pose
from yolopose.nn.head26 import Pose26
from yolopose.nn.layers import Row, parse_rows, raw_rows
from yolopose.nn.model import PoseModel
from yolopose.nn.model_yaml import Definition, load_definition
from yolopose.nn.registry import BLOCKS, CONCAT, HEAD26, UPSAMPLE, is_whole
from yolopose.schema import KeypointSchema, PoseSpec, class_names

MAX_PARAMETERS = 500_000_000
MAX_CLASSES = 10_000
MAX_KEYPOINT_NUMBERS = 10_000
_MEASURE = 1024  # side of the image that strides are measured with, pixels


def build_network(
    source: str | Path | Mapping[str, Any],
    *,
    nc: int | None = None,
    kpt_shape: Sequence[int] | None = None,
    spec: PoseSpec | None = None,
    scale: str | None = None,
) -> PoseModel:
    """Build a pose network with fresh weights, on PyTorch's default device, in training mode.

    Under `with torch.device("meta"):` it costs no memory and holds no numbers, which is enough to count
    parameters or to load weights with `load_state_dict(…, assign=True)`.

    Args:
        source: the name of a model YAML that ships (`yolo11n-pose.yaml`), a path, or a YAML's content.
        nc: number of classes instead of the YAML's.
        kpt_shape: (K, D) instead of the YAML's.
        spec: classes and keypoints; wins over `nc` and `kpt_shape`.
        scale: scale letter instead of the name's.

    Raises:
        NotFoundError: there is no such YAML.
        ModelError: the YAML cannot be built; the text names file, row and reason.
    """
    definition = load_definition(source, scale)
    spec = _settle_spec(definition, nc, kpt_shape, spec)
    rows = parse_rows(definition, spec.nc, spec.keypoints.shape)
    channels = _input_channels(definition)
    own_yaml = _own_yaml(definition, spec, channels)
    with torch.device("meta"):  # checked and measured before any memory is taken
        blocks = _make_blocks(definition, rows, channels)
        _set_activation(blocks, definition)
        model = PoseModel(blocks, rows, spec, own_yaml, definition.name)
    _measure_strides(model, definition.label)
    return _with_start_values(model)


def _settle_spec(
    definition: Definition, nc: int | None, kpt_shape: Sequence[int] | None, spec: PoseSpec | None
) -> PoseSpec:
    """The given spec, or one from numbers: arguments first, then the YAML's keys, then its last row."""
    if spec is None:
        args = _head_args(definition)
        nc = nc if nc is not None else _stated(definition, "nc", args[0])
        if not is_whole(nc, 1, MAX_CLASSES):
            raise ModelError(f"{definition.label}: nc must be a whole number 1…{MAX_CLASSES}, got {nc!r}.")
        shape = kpt_shape if kpt_shape is not None else _stated(definition, "kpt_shape", args[1])
        try:
            classes = class_names(None, nc)
            keypoints = KeypointSchema.from_dict({"kpt_shape": shape})
        except UsageError as error:
            raise ModelError(f"{definition.label}: {error}") from error
        if classes == ("class0",) and keypoints.shape == (17, 3):
            classes, keypoints = ("person",), KeypointSchema.coco_person()
        spec = PoseSpec(classes=classes, keypoints=keypoints)
    count, dims = spec.keypoints.shape
    if count * dims > MAX_KEYPOINT_NUMBERS:
        raise ModelError(f"{definition.label}: kpt_shape [{count}, {dims}] exceeds {MAX_KEYPOINT_NUMBERS} numbers.")
    return spec


def _head_args(definition: Definition) -> list[Any]:
    last = raw_rows(definition)[-1]
    args = last[3] if len(last) == 4 else None
    return args if isinstance(args, list) and len(args) == 2 else ["nc", "kpt_shape"]


def _stated(definition: Definition, key: str, in_row: object) -> Any:
    """The value of a YAML key that the last row may repeat as a number."""
    value = definition.values.get(key)
    if in_row == key or in_row is None:
        in_row = value
    if value is None:
        value = in_row
    if value is None:
        raise ModelError(f"{definition.label}: the key `{key}` is missing; add it, such as nc: 1, kpt_shape: [17, 3].")
    if value != in_row:
        raise ModelError(
            f"{definition.label}: `{key}` is {value!r}, but the last row says {in_row!r}; write {key} there."
        )
    return value


def _input_channels(definition: Definition) -> int:
    values = definition.values
    channels = values.get("channels", values.get("ch", 3))
    if not is_whole(channels, 1, 64):
        raise ModelError(f"{definition.label}: channels of the image must be a whole number 1…64, got {channels!r}.")
    return channels


def _own_yaml(definition: Definition, spec: PoseSpec, channels: int) -> dict[str, Any]:
    """The content that builds this very network again."""
    values = copy.deepcopy(definition.values)
    values.pop("channels", None)
    values |= {"nc": spec.nc, "kpt_shape": list(spec.keypoints.shape), "ch": channels}
    values |= {"scale": definition.scale, "yaml_file": f"{definition.name}.yaml"}
    values["head"][-1][3] = ["nc", "kpt_shape"]
    return values


def _make_blocks(definition: Definition, rows: Sequence[Row], channels: int) -> nn.Sequential:
    blocks = nn.Sequential()
    widths = {-1: channels}
    light = any(row.module in BLOCKS and BLOCKS[row.module].light for row in rows)
    parameters = 0
    for row in rows:
        inputs = [widths[index] for index in row.inputs]
        try:
            if row is rows[-1]:
                block, widths[row.index] = _make_head(definition, row, inputs, light), 0
            else:
                block, widths[row.index] = _make_block(definition, row, inputs)
        except (ValueError, RuntimeError, OverflowError) as error:
            raise ModelError(f"{row.where}: with {inputs} channels in, {error}") from error
        parameters += sum(parameter.numel() for parameter in block.parameters())
        if parameters > MAX_PARAMETERS:
            raise ModelError(f"{row.where}: up to here are {parameters:,} parameters; at most {MAX_PARAMETERS:,} go.")
        blocks.append(block)
    return blocks


def _make_block(definition: Definition, row: Row, inputs: Sequence[int]) -> tuple[nn.Module, int]:
    """A row's module and its output channels."""
    if row.module == CONCAT:
        return Concat(), sum(inputs)
    if row.module == UPSAMPLE:
        return _stacked([nn.Upsample(None, row.args[1], row.args[2]) for _ in range(row.repeats)]), inputs[0]
    entry = BLOCKS[row.module]
    out = definition.channels(row.args[0])
    args = {name: value for name, value in zip(entry.args, row.args[1:], strict=False) if value is not None}
    if entry.adjust:
        entry.adjust(args, definition.scale)
    if entry.inner:
        return entry.make(inputs[0], out, n=row.repeats, **args), out
    return _stacked([entry.make(out if later else inputs[0], out, **args) for later in range(row.repeats)]), out


def _stacked(blocks: list[nn.Module]) -> nn.Module:
    return blocks[0] if len(blocks) == 1 else nn.Sequential(*blocks)


def _make_head(definition: Definition, row: Row, inputs: Sequence[int], light: bool) -> nn.Module:
    nc, kpt_shape = row.args
    shape = kpt_shape[0], kpt_shape[1]
    if row.module == HEAD26:
        _check_head26(definition)
        return Pose26(nc, shape, inputs, light)
    values = definition.values
    reg_max = values.get("reg_max", 16)
    if values.get("end2end") or reg_max == 1:
        raise ModelError("end2end and reg_max 1 belong to the head Pose26 of YOLO26, not to Pose; remove these keys.")
    if not is_whole(reg_max, 2, 64):
        raise ModelError(f"reg_max must be a whole number 2…64, got {reg_max!r}.")
    return Pose(nc, shape, inputs, light, reg_max)


def _check_head26(definition: Definition) -> None:
    reg_max, end2end = definition.values.get("reg_max", 1), definition.values.get("end2end", True)
    if reg_max != 1 or isinstance(reg_max, bool):
        raise ModelError(f"Pose26 gives distances directly, so reg_max is 1; got {reg_max!r}.")
    if end2end is not True:
        raise ModelError(
            f"Pose26 always has both branches, so end2end is True in a model YAML; got {end2end!r}. Which one answers "
            "is chosen where the network is used: predict(…, end2end=False)."
        )


def _set_activation(blocks: nn.Module, definition: Definition) -> None:
    """Return all convolutions that have an activation one and the same."""
    try:
        activation = activation_by_name(definition.values.get("activation") or "SiLU")
    except ModelError as error:
        raise ModelError(f"{definition.label}: {error}") from error
    for module in blocks.modules():
        if isinstance(module, Conv) and not isinstance(module.act, nn.Identity):
            module.act = activation


def _measure_strides(model: PoseModel, label: str) -> None:
    """Set the head's strides from a forward pass that computes shapes alone.

    Raises:
        ModelError: maps do not fit together in some row, or a stride is no whole number.
    """
    reached: list[tuple[int, Any]] = []

    def note(index: int) -> Any:
        return lambda _, inputs: reached.append((index, inputs[0]))

    hooks = [block.register_forward_pre_hook(note(index)) for index, block in enumerate(model.model)]
    try:
        shapes = model.infer_shapes(_MEASURE, _MEASURE)
    except (RuntimeError, ValueError) as error:
        index, given = reached[-1]
        sizes = [tuple(x.shape[1:]) for x in ([given] if isinstance(given, Tensor) else given)]
        raise ModelError(
            f"{model.rows[index].where}: maps of (channels, height, width) {sizes} do not fit: {error}"
        ) from error
    finally:
        for hook in hooks:
            hook.remove()
    for row, (height, width) in zip(model.rows[-1].inputs, shapes, strict=True):
        if height != width or _MEASURE % height:
            raise ModelError(
                f"{label}: row {row}, which the head reads, makes {height}×{width} cells of {_MEASURE}×{_MEASURE} "
                "pixels; its stride must be a whole number that divides them (8, 16, 32 …)."
            )
    model.head.stride = tuple(_MEASURE // height for height, _ in shapes)


def _with_start_values(model: PoseModel) -> PoseModel:
    """Move the network from "meta" to the default device and fills it: PyTorch's defaults and the head's own."""
    device = torch.get_default_device()
    if device.type == "meta":
        return model
    # to_empty() does the same, but its empty_like() of "meta" tensors makes PyTorch import sympy (0.4 s)
    model._apply(lambda value: torch.empty(value.shape, dtype=value.dtype, device=device))
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.BatchNorm2d)):
            module.reset_parameters()
    for module in model.modules():
        if isinstance(module, (ABlock, A2C2f)):
            module.reset()
    model.head.reset()
    return model
