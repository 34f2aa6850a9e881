"""Plain values out of a read pickle, and into a file: bounded walks over whatever a file may hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePath
from typing import Any

import torch
from torch import Tensor

from yolopose.base.errors import UsageError
from yolopose.weights.errors import damaged
from yolopose.weights.values import Stand, TensorRef

_MAX_DEPTH = 40
_MAX_VALUES = 200_000
_DROPPED = object()


def to_plain(value: object, path: str, tensor: Callable[[TensorRef], Tensor] | None = None) -> Any:
    """Return new dicts, lists and scalars with the content of a value out of a pickle.

    Args:
        value: what `read_pickle` returned, or a part of it.
        path: the file, for errors.
        tensor: reads tensors; None leaves them out, as everything else that is not plain.

    Raises:
        WeightsError: it is nested too deep, holds itself, or unfolds to too many values.
    """
    budget = [_MAX_VALUES]
    found = _plain(value, path, tensor, budget, 0)
    return None if found is _DROPPED else found


def as_dict(value: object, path: str) -> dict[str, Any]:
    """Return the plain content of a dict, or of the attributes of a stand-in; anything else gives an empty dict."""
    found = to_plain(value, path)
    return {str(key): item for key, item in found.items()} if isinstance(found, dict) else {}


def _plain(
    value: object, path: str, tensor: Callable[[TensorRef], Tensor] | None, budget: list[int], depth: int
) -> Any:
    budget[0] -= 1
    if depth > _MAX_DEPTH or budget[0] < 0:
        raise damaged(path, "its values are nested too deep, hold themselves, or unfold without end")
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, TensorRef):
        return _DROPPED if tensor is None else tensor(value)
    if isinstance(value, Stand):
        value = value.state
    if isinstance(value, dict):
        pairs = ((key, _plain(item, path, tensor, budget, depth + 1)) for key, item in value.items())
        return {key: item for key, item in pairs if item is not _DROPPED}
    if isinstance(value, (list, tuple)):
        items = (_plain(item, path, tensor, budget, depth + 1) for item in value)
        return [item for item in items if item is not _DROPPED]
    return _DROPPED


def storable(value: object, where: str) -> Any:
    """Return a value as plain dicts, lists, scalars and contiguous CPU tensors, fit for a weights file.

    Args:
        value: anything of these, with mappings, tuples, paths and numpy scalars in it.
        where: what it is, for the error (`args.lr0`).

    Raises:
        UsageError: it holds something that a weights file cannot carry.
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True).contiguous()
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, Mapping):
        return {
            key if isinstance(key, int) else str(key): storable(item, f"{where}.{key}") for key, item in value.items()
        }
    if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray)):
        return [storable(item, f"{where}[{index}]") for index, item in enumerate(value)]
    item = getattr(value, "item", None)  # numpy scalars
    if callable(item) and getattr(value, "ndim", None) == 0:
        return storable(item(), where)
    raise UsageError(
        f"A weights file cannot carry {where}, which is a {type(value).__name__}: only plain values go in."
    )


def narrowed(value: Tensor) -> Tensor:
    """Return float32 numbers as float16, unless they overflow there (a running variance may): then as they are."""
    if value.dtype != torch.float32:
        return value
    half = value.half()
    return value if bool((half.isinf() & value.isfinite()).any()) else half
