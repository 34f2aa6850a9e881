"""Values of a restricted pickle: inert records for classes and tensors; conversion to plain and storable values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

from torch import Tensor

from yolopose.base.errors import UsageError
from yolopose.weights.errors import damaged_error

# storage classes by their name in the file: torch's dtype name, bytes per element
STORAGES: Mapping[str, tuple[str, int]] = {
    "HalfStorage": ("float16", 2),
    "BFloat16Storage": ("bfloat16", 2),
    "FloatStorage": ("float32", 4),
    "DoubleStorage": ("float64", 8),
    "BoolStorage": ("bool", 1),
    "ByteStorage": ("uint8", 1),
    "CharStorage": ("int8", 1),
    "ShortStorage": ("int16", 2),
    "IntStorage": ("int32", 4),
    "LongStorage": ("int64", 8),
}

_MAX_DEPTH = 40
_MAX_VALUES = 200_000
_DROPPED = object()


@dataclass(frozen=True, slots=True, eq=False)
class StoredName:
    """A class or function named in a file. It is never looked up or imported.

    Attributes:
        module: the module as written in the file.
        qualname: the name inside it.
        layer: whether it is a class whose instances are read as `StoredObject`.
    """

    module: str
    qualname: str
    layer: bool = False

    @property
    def text(self) -> str:
        """`module.qualname`."""
        return f"{self.module}.{self.qualname}"


@dataclass(slots=True, eq=False)
class StoredObject:
    """An instance of a foreign class, reduced to its stored attributes; it has no behavior.

    Attributes:
        name: the class.
        args: constructor arguments in the file.
        state: the attributes; empty until the file's state is read.
    """

    name: StoredName
    args: tuple[object, ...] = ()
    state: dict[Any, Any] = field(default_factory=dict[Any, Any])


@dataclass(frozen=True, slots=True, eq=False)
class Storage:
    """A flat array in the archive: member `data/<key>`, its dtype and number of elements."""

    key: str
    dtype: str
    numel: int


@dataclass(frozen=True, slots=True, eq=False)
class TensorRef:
    """A tensor that is not read yet: a view of a storage, with bounds already checked.

    Attributes:
        storage: the storage.
        offset: first element.
        size: shape.
        stride: steps in elements, one per dimension.
    """

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


def describe(value: object) -> str:
    """Describe a value for an error message, such as `the name os.system` or `a list`."""
    if isinstance(value, StoredName):
        return f"the name {value.text}"
    if isinstance(value, StoredObject):
        return f"the stored {value.name.text}"
    if isinstance(value, (TensorRef, Storage)):
        return f"a {'tensor' if isinstance(value, TensorRef) else 'storage'}"
    kind = type(value).__name__
    return f"{'an' if kind[0] in 'aeiouAEIOU' else 'a'} {kind}"


def to_plain(value: object, path: str, read_tensor: Callable[[TensorRef], Tensor] | None = None) -> Any:
    """Copy a value of a pickle into new dicts, lists and scalars.

    Args:
        value: what `read_pickle` returned, or a part of it.
        path: the file, for errors.
        read_tensor: reads tensors; with None they are dropped, as is everything else that is not plain.

    Raises:
        WeightsError: it is nested too deep, contains itself, or unfolds to too many values.
    """
    budget = [_MAX_VALUES]  # counted over the whole walk: shared containers can unfold exponentially
    plain = _to_plain(value, path, read_tensor, budget, 0)
    return None if plain is _DROPPED else plain


def to_dict(value: object, path: str) -> dict[str, Any]:
    """Return the plain content of a dict or of a stored object's attributes; {} for anything else."""
    plain = to_plain(value, path)
    return {str(key): item for key, item in plain.items()} if isinstance(plain, dict) else {}


def _to_plain(
    value: object, path: str, read_tensor: Callable[[TensorRef], Tensor] | None, budget: list[int], depth: int
) -> Any:
    budget[0] -= 1
    if depth > _MAX_DEPTH or budget[0] < 0:
        raise damaged_error(path, "its values are nested too deep, contain themselves, or unfold without end")
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, TensorRef):
        return _DROPPED if read_tensor is None else read_tensor(value)
    if isinstance(value, StoredObject):
        value = value.state
    if isinstance(value, dict):
        pairs = ((key, _to_plain(item, path, read_tensor, budget, depth + 1)) for key, item in value.items())
        return {key: item for key, item in pairs if item is not _DROPPED}
    if isinstance(value, (list, tuple)):
        items = (_to_plain(item, path, read_tensor, budget, depth + 1) for item in value)
        return [item for item in items if item is not _DROPPED]
    return _DROPPED


def to_storable(value: object, name: str) -> Any:
    """Return a value as plain dicts, lists, scalars and contiguous CPU tensors that a weights file can hold.

    Args:
        value: such values, and mappings, tuples, paths and numpy scalars in them.
        name: what it is, for the error (`args.lr0`).

    Raises:
        UsageError: it contains something else.
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True).contiguous()
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, Mapping):
        return {
            key if isinstance(key, int) else str(key): to_storable(item, f"{name}.{key}") for key, item in value.items()
        }
    if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray)):
        return [to_storable(item, f"{name}[{index}]") for index, item in enumerate(value)]
    item = getattr(value, "item", None)  # numpy scalars, recognized without importing numpy's types
    if callable(item) and getattr(value, "ndim", None) == 0:
        return to_storable(item(), name)
    raise UsageError(
        f"A weights file cannot hold {name}, which is a {type(value).__name__}: only plain values and tensors."
    )
