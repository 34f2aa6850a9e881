"""Checkpoints of the reference package: a tree of stand-ins, out of which tensors and plain values are taken."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from yolopose.base.errors import WeightsError
from yolopose.schema import KeypointSchema, ModelMetadata, PoseSpec
from yolopose.weights.checkpoint import Checkpoint
from yolopose.weights.errors import damaged, shown
from yolopose.weights.plain import as_dict, to_plain
from yolopose.weights.tensors import Storages
from yolopose.weights.values import Stand, TensorRef

_MAX_DEPTH = 40
_MAX_ENTRIES = 200_000
_MAX_NAME = 300


def from_reference(top: Mapping[Any, Any], storages: Storages, path: str) -> Checkpoint:
    """Make a checkpoint of a public one: `ema` where it is given, else `model`.

    Args:
        top: the dict that the file holds.
        storages: reads its tensors.
        path: the file, for errors.

    Raises:
        WeightsError: it holds no network, or contradicts itself.
    """
    ema, model = top.get("ema"), top.get("model")
    network = ema if ema is not None else model
    if not isinstance(network, Stand):
        return from_state(network if isinstance(network, dict) else {}, storages, path)
    refs = _Tree(path).collect(network)
    state = {name: storages.tensor(ref, widen=True) for name, ref in refs.items()}
    args = as_dict(top.get("train_args"), path) or as_dict(network.state.get("args"), path)
    checkpoint = Checkpoint(
        state=state,
        model_yaml=as_dict(network.state.get("yaml"), path),
        train_args=args,
        metrics=as_dict(top.get("train_metrics"), path),
        epoch=epoch if isinstance(epoch := top.get("epoch"), int) else -1,
        date=_text(top.get("date")),
        version=_text(top.get("version")),
        license=_text(top.get("license")),
        origin="reference",
        dtype=_float_type(refs),
    )
    checkpoint.metadata = _metadata(network, checkpoint, storages, path)
    return checkpoint


def from_state(values: Mapping[Any, Any], storages: Storages, path: str) -> Checkpoint:
    """Make a checkpoint of a bare state_dict: weights to transfer, without an architecture.

    Raises:
        WeightsError: it is no dict of tensors by name.
    """
    inner = values.get("state_dict")
    refs = inner if isinstance(inner, dict) else values
    if not refs or not all(isinstance(key, str) and isinstance(ref, TensorRef) for key, ref in refs.items()):
        keys = ", ".join(shown(key) for key in list(values)[:5]) or "nothing"
        raise WeightsError(f"The file {path} holds neither a network nor tensors by name; its keys are: {keys}.")
    state = {name: storages.tensor(ref, widen=True) for name, ref in refs.items()}
    return Checkpoint(state=state, origin="reference", dtype=_float_type(refs))


class _Tree:
    """Collects the tensors of a module tree by path, in the order of torch's `state_dict`."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.visited = 0
        self.found: dict[str, TensorRef] = {}

    def collect(self, module: Stand, prefix: str = "", depth: int = 0) -> dict[str, TensorRef]:
        if depth > _MAX_DEPTH or len(prefix) > _MAX_NAME:
            raise damaged(self.path, "its network is nested too deep, or holds itself")
        temporary = module.state.get("_non_persistent_buffers_set")
        skipped: set[Any] = temporary if isinstance(temporary, set) else set()
        for name, ref in [*self.part(module, "_parameters"), *self.part(module, "_buffers")]:
            if ref is None or name in skipped:
                continue
            if not isinstance(ref, TensorRef) or len(name) > _MAX_NAME:
                raise damaged(self.path, f"{shown(prefix + name)} in it is no tensor")
            self.found[prefix + name] = ref
        for name, child in self.part(module, "_modules"):
            if isinstance(child, Stand):
                self.collect(child, f"{prefix}{name}.", depth + 1)
        return self.found

    def part(self, module: Stand, key: str) -> list[tuple[str, Any]]:
        values = module.state.get(key, {})
        if not isinstance(values, dict) or not all(isinstance(name, str) for name in values):
            raise damaged(self.path, f"{key} of a {shown(module.name.qualname)} in it is no dict of names")
        self.visited += 1 + len(values)
        if self.visited > _MAX_ENTRIES:
            raise damaged(self.path, "its network unfolds without end")
        return list(values.items())


def _metadata(network: Stand, checkpoint: Checkpoint, storages: Storages, path: str) -> ModelMetadata | None:
    head, yaml = _head(network), checkpoint.model_yaml
    shape = _first("kpt_shape", network.state, yaml, head)
    if shape is None:  # a network for another task: its backbone can be moved, but it is no pose model
        return None
    nc = _first("nc", head, yaml, network.state)
    if type(nc) is not int or not 1 <= nc <= 100_000:
        raise damaged(path, f"its number of classes is {shown(nc)}")
    classes = _classes(to_plain(network.state.get("names"), path), nc, path)
    return ModelMetadata(
        spec=PoseSpec(classes=classes, keypoints=_keypoints(network, to_plain(shape, path), classes, path)),
        name=_name(yaml),
        stride=_stride(network, storages),
        imgsz=_imgsz(checkpoint.train_args.get("imgsz")),
        license=checkpoint.license,
        version=checkpoint.version,
        args=checkpoint.train_args,
    )


def _head(network: Stand) -> dict[Any, Any]:
    """The attributes of the last layer."""
    state = network.state
    for key in ("model", None):
        modules = state.get("_modules")
        if not isinstance(modules, dict) or not modules:
            return {}
        child = modules.get(key) if key else list(modules.values())[-1]
        if not isinstance(child, Stand):
            return {}
        state = child.state
    return state


def _first(key: str, *places: Mapping[Any, Any]) -> Any:
    return next((place[key] for place in places if place.get(key) is not None), None)


def _classes(names: object, nc: int, path: str) -> tuple[str, ...]:
    """Classes names; missing ones are the class index."""
    known = dict(enumerate(names)) if isinstance(names, list) else names if isinstance(names, dict) else {}
    beyond = [index for index in known if type(index) is not int or not 0 <= index < nc]
    if beyond:
        raise WeightsError(
            f"The weights file {path} names {len(known)} classes, but its network has {nc}: class {shown(beyond[0])} "
            "has no output."
        )
    return tuple(str(known.get(index, index)) for index in range(nc))


def _keypoints(network: Stand, shape: object, classes: tuple[str, ...], path: str) -> KeypointSchema:
    if not (
        isinstance(shape, list)
        and len(shape) == 2
        and all(type(number) is int for number in shape)
        and 1 <= shape[0] <= 100_000
        and shape[1] in (2, 3)
    ):
        raise damaged(path, f"its kpt_shape is {shown(shape)}")
    if shape == [17, 3] and classes == ("person",):
        return KeypointSchema.coco_person()
    stored = to_plain(network.state.get("kpt_names"), path)
    names = {0: stored} if isinstance(stored, list) else stored if isinstance(stored, dict) else {}
    kept = {
        index: tuple(str(name) for name in items)
        for index, items in names.items()
        if type(index) is int and isinstance(items, list) and len(items) == shape[0]
    }
    return KeypointSchema(count=shape[0], dims=shape[1], names=kept)


def _name(yaml: Mapping[str, Any]) -> str:
    file = _text(yaml.get("yaml_file")).replace("\\", "/").rsplit("/", 1)[-1]
    return file.removesuffix(".yaml").removesuffix(".yml")


def _stride(network: Stand, storages: Storages) -> int:
    ref = network.state.get("stride")
    if not isinstance(ref, TensorRef) or not 1 <= (values := storages.tensor(ref, widen=True)).numel() <= 8:
        return 32
    largest = float(values.max())
    return int(largest) if 1 <= largest <= 1024 else 32


def _imgsz(value: Any) -> tuple[int, int]:
    sides: list[Any] = value if isinstance(value, list) else [value, value]
    if len(sides) == 2 and all(type(side) is int and 1 <= side <= 100_000 for side in sides):
        return sides[0], sides[1]
    return 640, 640


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _float_type(refs: Mapping[str, TensorRef]) -> str:
    kinds = [ref.storage.dtype for ref in refs.values() if "float" in ref.storage.dtype]
    return max(set(kinds), key=kinds.count) if kinds else "float32"
