"""Checkpoints of the reference package: tensors and plain values are taken out of a tree of `StoredObject`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from yolopose.base.errors import WeightsError
from yolopose.nn.model_yaml import input_channels
from yolopose.schema import MAX_IMAGE_CHANNELS, KeypointSchema, ModelMetadata, PoseSpec
from yolopose.weights.archive import TensorReader
from yolopose.weights.checkpoint import Checkpoint
from yolopose.weights.errors import damaged_error, printable
from yolopose.weights.values import StoredObject, TensorRef, to_dict, to_plain

_MAX_DEPTH = 40
_MAX_ENTRIES = 200_000
_MAX_NAME = 300
_DEFAULT_STRIDE = 32


def from_reference(content: Mapping[Any, Any], reader: TensorReader, path: str) -> Checkpoint:
    """Make a checkpoint of a public one: of `ema` where it is present, else of `model`.

    Args:
        content: the dict in the file.
        reader: reads its tensors.
        path: the file, for errors.

    Raises:
        WeightsError: it contains no network, or is inconsistent.
    """
    ema, model = content.get("ema"), content.get("model")
    network = ema if ema is not None else model
    if not isinstance(network, StoredObject):
        return from_state_dict(network if isinstance(network, dict) else {}, reader, path)
    refs = _StateCollector(path).collect(network)
    epoch = content.get("epoch")
    checkpoint = Checkpoint(
        state={name: reader.read(ref, widen=True) for name, ref in refs.items()},
        model_yaml=to_dict(network.state.get("yaml"), path),
        train_args=to_dict(content.get("train_args"), path) or to_dict(network.state.get("args"), path),
        metrics=to_dict(content.get("train_metrics"), path),
        epoch=epoch if isinstance(epoch, int) else -1,
        date=_text(content.get("date")),
        version=_text(content.get("version")),
        license=_text(content.get("license")),
        origin="reference",
        dtype=_float_dtype(refs),
    )
    checkpoint.metadata = _metadata(network, checkpoint, reader, path)
    return checkpoint


def from_state_dict(values: Mapping[Any, Any], reader: TensorReader, path: str) -> Checkpoint:
    """Make a checkpoint of a bare state_dict: weights without an architecture.

    Raises:
        WeightsError: it is not a dict of tensors by name.
    """
    nested = values.get("state_dict")
    refs = nested if isinstance(nested, dict) else values
    if not refs or not all(isinstance(key, str) and isinstance(ref, TensorRef) for key, ref in refs.items()):
        keys = ", ".join(printable(key) for key in list(values)[:5]) or "none"
        raise WeightsError(f"The file {path} holds neither a network nor a state_dict; its keys are: {keys}.")
    state = {name: reader.read(ref, widen=True) for name, ref in refs.items()}
    return Checkpoint(state=state, origin="reference", dtype=_float_dtype(refs))


class _StateCollector:
    """Collects the tensors of a module tree by name, in the order of torch's `state_dict`."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.visited = 0
        self.refs: dict[str, TensorRef] = {}

    def collect(self, module: StoredObject, prefix: str = "", depth: int = 0) -> dict[str, TensorRef]:
        if depth > _MAX_DEPTH or len(prefix) > _MAX_NAME:
            raise damaged_error(self.path, "its network is nested too deep, or contains itself")
        non_persistent = module.state.get("_non_persistent_buffers_set")
        skipped: set[Any] = non_persistent if isinstance(non_persistent, set) else set()
        for name, ref in [*self._entries(module, "_parameters"), *self._entries(module, "_buffers")]:
            if ref is None or name in skipped:
                continue
            if not isinstance(ref, TensorRef) or len(name) > _MAX_NAME:
                raise damaged_error(self.path, f"{printable(prefix + name)} in it is not a tensor")
            self.refs[prefix + name] = ref
        for name, child in self._entries(module, "_modules"):
            if isinstance(child, StoredObject):
                self.collect(child, f"{prefix}{name}.", depth + 1)
        return self.refs

    def _entries(self, module: StoredObject, key: str) -> list[tuple[str, Any]]:
        values = module.state.get(key, {})
        if not isinstance(values, dict) or not all(isinstance(name, str) for name in values):
            layer = printable(module.name.qualname)
            raise damaged_error(self.path, f"{key} of a {layer} in it is not a dict by name")
        # counted over the whole walk: shared modules can unfold exponentially
        self.visited += 1 + len(values)
        if self.visited > _MAX_ENTRIES:
            raise damaged_error(self.path, "its network unfolds without end")
        return list(values.items())


def _metadata(network: StoredObject, checkpoint: Checkpoint, reader: TensorReader, path: str) -> ModelMetadata | None:
    head = _head_attributes(network)
    yaml = checkpoint.model_yaml
    shape = _first("kpt_shape", network.state, yaml, head)
    if shape is None:  # a network for another task: only its backbone can be used
        return None
    nc = _first("nc", head, yaml, network.state)
    if type(nc) is not int or not 1 <= nc <= 100_000:
        raise damaged_error(path, f"its number of classes is {printable(nc)}")
    classes = _class_names(to_plain(network.state.get("names"), path), nc, path)
    return ModelMetadata(
        spec=PoseSpec(
            classes=classes,
            keypoints=_keypoints(network, to_plain(shape, path), classes, path),
            channels=_channels(checkpoint, path),
        ),
        name=_model_name(yaml),
        stride=_max_stride(network, reader),
        imgsz=_imgsz(checkpoint.train_args.get("imgsz")),
        license=checkpoint.license,
        version=checkpoint.version,
        args=checkpoint.train_args,
    )


def _channels(checkpoint: Checkpoint, path: str) -> int:
    channels = input_channels(checkpoint.model_yaml)
    if type(channels) is not int or not 1 <= channels <= MAX_IMAGE_CHANNELS:
        raise damaged_error(path, f"its number of image channels is {printable(channels)}")
    return channels


def _head_attributes(network: StoredObject) -> dict[Any, Any]:
    """Return the attributes of the last layer; {} where the tree has another form."""
    state = network.state
    for key in ("model", None):
        modules = state.get("_modules")
        if not isinstance(modules, dict) or not modules:
            return {}
        child = modules.get(key) if key else list(modules.values())[-1]
        if not isinstance(child, StoredObject):
            return {}
        state = child.state
    return state


def _first(key: str, *mappings: Mapping[Any, Any]) -> Any:
    return next((mapping[key] for mapping in mappings if mapping.get(key) is not None), None)


def _class_names(names: object, nc: int, path: str) -> tuple[str, ...]:
    """Return the class names; a missing one is the class index."""
    known = dict(enumerate(names)) if isinstance(names, list) else names if isinstance(names, dict) else {}
    invalid = [index for index in known if type(index) is not int or not 0 <= index < nc]
    if invalid:
        raise WeightsError(
            f"The weights file {path} names {len(known)} classes, but its network has {nc}: class "
            f"{printable(invalid[0])} has no output."
        )
    return tuple(str(known.get(index, index)) for index in range(nc))


def _keypoints(network: StoredObject, shape: object, classes: tuple[str, ...], path: str) -> KeypointSchema:
    if not (
        isinstance(shape, list)
        and len(shape) == 2
        and all(type(number) is int for number in shape)
        and 1 <= shape[0] <= 100_000
        and shape[1] in (2, 3)
    ):
        raise damaged_error(path, f"its kpt_shape is {printable(shape)}")
    if shape == [17, 3] and classes == ("person",):
        return KeypointSchema.coco_person()
    stored = to_plain(network.state.get("kpt_names"), path)
    by_class = {0: stored} if isinstance(stored, list) else stored if isinstance(stored, dict) else {}
    names = {
        index: tuple(str(name) for name in items)
        for index, items in by_class.items()
        if type(index) is int and isinstance(items, list) and len(items) == shape[0]
    }
    return KeypointSchema(count=shape[0], dims=shape[1], names=names)


def _model_name(yaml: Mapping[str, Any]) -> str:
    file = _text(yaml.get("yaml_file")).replace("\\", "/").rsplit("/", 1)[-1]
    return file.removesuffix(".yaml").removesuffix(".yml")


def _max_stride(network: StoredObject, reader: TensorReader) -> int:
    ref = network.state.get("stride")
    if not isinstance(ref, TensorRef):
        return _DEFAULT_STRIDE
    strides = reader.read(ref, widen=True)
    if not 1 <= strides.numel() <= 8 or not 1 <= (largest := float(strides.max())) <= 1024:
        return _DEFAULT_STRIDE
    return int(largest)


def _imgsz(value: Any) -> tuple[int, int]:
    sides: list[Any] = value if isinstance(value, list) else [value, value]
    if len(sides) == 2 and all(type(side) is int and 1 <= side <= 100_000 for side in sides):
        return sides[0], sides[1]
    return 640, 640


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _float_dtype(refs: Mapping[str, TensorRef]) -> str:
    """Return the most frequent floating-point type."""
    dtypes = [ref.storage.dtype for ref in refs.values() if "float" in ref.storage.dtype]
    return max(set(dtypes), key=dtypes.count) if dtypes else "float32"
