"""Build a network from a model YAML. Nothing in the YAML is evaluated as code."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from yolopose.base.errors import ModelError, UsageError
from yolopose.nn.attention import ABlock
from yolopose.nn.blocks import A2C2f
from yolopose.nn.conv import Concat, Conv
from yolopose.nn.head import Pose
from yolopose.nn.head26 import Pose26
from yolopose.nn.model import PoseModel
from yolopose.nn.model_yaml import LayerSpec, ModelYaml, input_channels, load_model_yaml, parse_layers, raw_layers
from yolopose.nn.registry import BLOCKS, CONCAT, HEAD26, UPSAMPLE, is_int, parse_activation
from yolopose.schema import MAX_IMAGE_CHANNELS, KeypointSchema, PoseSpec, class_names

MAX_PARAMETERS = 500_000_000
MAX_CLASSES = 10_000
MAX_KEYPOINT_VALUES = 10_000
_STRIDE_IMGSZ = 1024  # side of the image with which strides are measured, pixels


def build_network(
    source: str | Path | Mapping[str, Any],
    *,
    nc: int | None = None,
    kpt_shape: Sequence[int] | None = None,
    spec: PoseSpec | None = None,
    scale: str | None = None,
) -> PoseModel:
    """Build a pose network with new weights, on PyTorch's default device, in training mode.

    Under `with torch.device("meta"):` it allocates no memory, which is enough to count parameters or to load weights
    with `load_state_dict(…, assign=True)`.

    Args:
        source: the name of a shipped model YAML (`yolo11n-pose.yaml`), a path, or the content of a YAML.
        nc: number of classes instead of that in the YAML.
        kpt_shape: (K, D) instead of that in the YAML.
        spec: classes, keypoints and channels of the image; overrides `nc`, `kpt_shape` and those of the YAML.
        scale: scale letter instead of that in the name.

    Raises:
        NotFoundError: the YAML does not exist.
        ModelError: the YAML cannot be built; the message names file, layer and reason.
    """
    model_yaml = load_model_yaml(source, scale)
    spec = _resolve_spec(model_yaml, nc, kpt_shape, spec)
    layers = parse_layers(model_yaml, spec.nc, spec.keypoints.shape)
    resolved = _resolved_yaml(model_yaml, spec)
    with torch.device("meta"):  # everything is checked before any memory is allocated
        blocks = _make_blocks(model_yaml, layers, spec)
        _set_activation(blocks, model_yaml)
        model = PoseModel(blocks, layers, spec, resolved, model_yaml.name)
    _measure_strides(model, model_yaml.label)
    return _initialize(model)


def _resolve_spec(
    model_yaml: ModelYaml, nc: int | None, kpt_shape: Sequence[int] | None, spec: PoseSpec | None
) -> PoseSpec:
    """Return the given spec, or one from arguments, keys of the YAML, or its last layer, in this order."""
    if spec is None:
        args = _head_args(model_yaml)
        nc = nc if nc is not None else _yaml_value(model_yaml, "nc", args[0])
        if not is_int(nc, 1, MAX_CLASSES):
            raise ModelError(f"{model_yaml.label}: nc must be an integer 1…{MAX_CLASSES}, got {nc!r}.")
        shape = kpt_shape if kpt_shape is not None else _yaml_value(model_yaml, "kpt_shape", args[1])
        try:
            classes = class_names(None, nc)
            visibility = model_yaml.values.get("visibility")
            keypoints = KeypointSchema.from_dict({"kpt_shape": shape, "visibility": visibility})
        except UsageError as error:
            raise ModelError(f"{model_yaml.label}: {error}") from error
        if classes == ("class0",) and keypoints.shape == (17, 3):
            classes = ("person",)
            keypoints = replace(KeypointSchema.coco_person(), visibility=keypoints.visibility)
        spec = PoseSpec(classes=classes, keypoints=keypoints, channels=_input_channels(model_yaml))
    count, dims = spec.keypoints.shape
    if count * dims > MAX_KEYPOINT_VALUES:
        raise ModelError(f"{model_yaml.label}: kpt_shape [{count}, {dims}] exceeds {MAX_KEYPOINT_VALUES} values.")
    return spec


def _head_args(model_yaml: ModelYaml) -> list[Any]:
    last = raw_layers(model_yaml)[-1]
    args = last[3] if len(last) == 4 else None
    return args if isinstance(args, list) and len(args) == 2 else ["nc", "kpt_shape"]


def _yaml_value(model_yaml: ModelYaml, key: str, in_layer: object) -> Any:
    """Return the value of a YAML key that the last layer may repeat as a number."""
    value = model_yaml.values.get(key)
    if in_layer == key or in_layer is None:
        in_layer = value
    if value is None:
        value = in_layer
    if value is None:
        raise ModelError(f"{model_yaml.label}: the key `{key}` is missing; add it, such as nc: 1, kpt_shape: [17, 3].")
    if value != in_layer:
        raise ModelError(
            f"{model_yaml.label}: `{key}` is {value!r}, but the last layer has {in_layer!r}; write {key} there."
        )
    return value


def _input_channels(model_yaml: ModelYaml) -> int:
    channels = input_channels(model_yaml.values)
    if not is_int(channels, 1, MAX_IMAGE_CHANNELS):
        raise ModelError(
            f"{model_yaml.label}: channels of the image must be an integer 1…{MAX_IMAGE_CHANNELS}, got {channels!r}."
        )
    return channels


def _resolved_yaml(model_yaml: ModelYaml, spec: PoseSpec) -> dict[str, Any]:
    """Return the YAML content that builds the same network again."""
    values = copy.deepcopy(model_yaml.values)
    values.pop("channels", None)
    values |= {"nc": spec.nc, "kpt_shape": list(spec.keypoints.shape), "ch": spec.channels}
    values |= {"scale": model_yaml.scale, "yaml_file": f"{model_yaml.name}.yaml"}
    values.pop("visibility", None)
    if spec.keypoints.visibility != 2:
        values["visibility"] = spec.keypoints.visibility
    values["head"][-1][3] = ["nc", "kpt_shape"]
    return values


def _make_blocks(model_yaml: ModelYaml, layers: Sequence[LayerSpec], spec: PoseSpec) -> nn.Sequential:
    blocks = nn.Sequential()
    widths = {-1: spec.channels}
    states = spec.keypoints.visibility
    light = any(layer.module in BLOCKS and BLOCKS[layer.module].light for layer in layers)
    parameters = 0
    for layer in layers:
        inputs = [widths[index] for index in layer.inputs]
        try:
            if layer is layers[-1]:
                block, widths[layer.index] = _make_head(model_yaml, layer, inputs, light, states), 0
            else:
                block, widths[layer.index] = _make_block(model_yaml, layer, inputs)
        except (ValueError, RuntimeError, OverflowError) as error:
            raise ModelError(f"{layer.where}: with {inputs} channels in, {error}") from error
        parameters += sum(parameter.numel() for parameter in block.parameters())
        if parameters > MAX_PARAMETERS:
            raise ModelError(
                f"{layer.where}: {parameters:,} parameters up to here; at most {MAX_PARAMETERS:,} are supported."
            )
        blocks.append(block)
    return blocks


def _make_block(model_yaml: ModelYaml, layer: LayerSpec, inputs: Sequence[int]) -> tuple[nn.Module, int]:
    """Return the module of a layer and its output channels."""
    if layer.module == CONCAT:
        return Concat(), sum(inputs)
    if layer.module == UPSAMPLE:
        return _stack([nn.Upsample(None, layer.args[1], layer.args[2]) for _ in range(layer.repeats)]), inputs[0]
    block = BLOCKS[layer.module]
    out = model_yaml.scale_channels(layer.args[0])
    args = {name: value for name, value in zip(block.args, layer.args[1:], strict=False) if value is not None}
    if block.adjust:
        block.adjust(args, model_yaml.scale)
    if block.inner:
        return block.make(inputs[0], out, n=layer.repeats, **args), out
    return _stack([block.make(out if later else inputs[0], out, **args) for later in range(layer.repeats)]), out


def _stack(blocks: list[nn.Module]) -> nn.Module:
    return blocks[0] if len(blocks) == 1 else nn.Sequential(*blocks)


def _make_head(model_yaml: ModelYaml, layer: LayerSpec, inputs: Sequence[int], light: bool, states: int) -> nn.Module:
    nc, kpt_shape = layer.args
    shape = kpt_shape[0], kpt_shape[1]
    if layer.module == HEAD26:
        _check_head26(model_yaml)
        return Pose26(nc, shape, inputs, light, states)
    values = model_yaml.values
    reg_max = values.get("reg_max", 16)
    if values.get("end2end") or reg_max == 1:
        raise ModelError("end2end and reg_max 1 belong to the head Pose26 of YOLO26, not to Pose; remove these keys.")
    if not is_int(reg_max, 2, 64):
        raise ModelError(f"reg_max must be an integer 2…64, got {reg_max!r}.")
    return Pose(nc, shape, inputs, light, reg_max, states)


def _check_head26(model_yaml: ModelYaml) -> None:
    reg_max, end2end = model_yaml.values.get("reg_max", 1), model_yaml.values.get("end2end", True)
    if reg_max != 1 or isinstance(reg_max, bool):
        raise ModelError(f"Pose26 predicts distances directly, so reg_max is 1; got {reg_max!r}.")
    if end2end is not True:
        raise ModelError(
            f"Pose26 always has both branches, so end2end is True in a model YAML; got {end2end!r}. Select the branch "
            "where the network is used: predict(…, end2end=False)."
        )


def _set_activation(blocks: nn.Module, model_yaml: ModelYaml) -> None:
    """Give all convolutions with an activation the same one."""
    try:
        activation = parse_activation(model_yaml.values.get("activation") or "SiLU")
    except ModelError as error:
        raise ModelError(f"{model_yaml.label}: {error}") from error
    for module in blocks.modules():
        if isinstance(module, Conv) and not isinstance(module.act, nn.Identity):
            module.act = activation


def _measure_strides(model: PoseModel, label: str) -> None:
    """Set the strides of the head from the feature shapes of a 1024×1024 image.

    Raises:
        ModelError: shapes do not fit in some layer, or a stride is not an integer.
    """
    # hooks record the layers reached, so that an error can name the layer in which shapes do not fit
    reached: list[tuple[int, Any]] = []

    def record(index: int) -> Any:
        return lambda _, inputs: reached.append((index, inputs[0]))

    hooks = [block.register_forward_pre_hook(record(index)) for index, block in enumerate(model.model)]
    try:
        shapes = model.infer_shapes(_STRIDE_IMGSZ, _STRIDE_IMGSZ)
    except (RuntimeError, ValueError) as error:
        index, inputs = reached[-1]
        sizes = [tuple(x.shape[1:]) for x in ([inputs] if isinstance(inputs, Tensor) else inputs)]
        raise ModelError(
            f"{model.layers[index].where}: maps of (channels, height, width) {sizes} do not fit: {error}"
        ) from error
    finally:
        for hook in hooks:
            hook.remove()
    for index, (height, width) in zip(model.layers[-1].inputs, shapes, strict=True):
        if height != width or _STRIDE_IMGSZ % height:
            raise ModelError(
                f"{label}: layer {index}, which the head reads, has {height}×{width} anchors for an image of "
                f"{_STRIDE_IMGSZ}×{_STRIDE_IMGSZ}; its stride must be an integer that divides it (8, 16, 32 …)."
            )
    model.head.stride = tuple(_STRIDE_IMGSZ // height for height, _ in shapes)


def _initialize(model: PoseModel) -> PoseModel:
    """Move the network from "meta" to the default device and initialize it: PyTorch's defaults, then special ones."""
    device = torch.get_default_device()
    if device.type == "meta":
        return model
    # like to_empty(), whose empty_like() of "meta" tensors makes PyTorch import sympy (0.4 s)
    model._apply(lambda value: torch.empty(value.shape, dtype=value.dtype, device=device))
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.BatchNorm2d)):
            module.reset_parameters()
    for module in model.modules():
        if isinstance(module, (ABlock, A2C2f)):
            module.reset_parameters()
    model.head.reset_parameters()
    return model
