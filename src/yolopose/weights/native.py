"""Our own format: one dict of tensors and plain values, as a torch `.pt` or a `.safetensors` file.

Layout of format 1, in the .pt: `format`, `writer`, `version`, `date`, `license`, `epoch`, `dtype`, `state`, `yaml`,
`metadata`, `args`, `metrics`, `extra`. In the .safetensors the tensors are the state, and the same keys but `state` and
`extra` stand as one JSON text under `yolopose` in its metadata. `torch.load(weights_only=True)` reads the first.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from yolopose._version import __version__
from yolopose.base.errors import UsageError, WeightsError
from yolopose.schema import ModelMetadata
from yolopose.weights.checkpoint import Checkpoint
from yolopose.weights.errors import damaged, shown
from yolopose.weights.plain import narrowed, storable, to_plain
from yolopose.weights.tensors import Storages
from yolopose.weights.values import STORAGES, TensorRef

FORMAT = 1
WRITER = "yolopose"
_FIELDS: Mapping[str, type] = {
    "version": str,
    "date": str,
    "license": str,
    "epoch": int,
    "dtype": str,
    "yaml": dict,
    "args": dict,
    "metrics": dict,
}


def write_pt(path: Path, checkpoint: Checkpoint, half: bool) -> None:
    """Write a .pt to `path` in place (the caller gives a temporary path).

    Raises:
        UsageError: the checkpoint holds something that is not plain.
        OSError: the file cannot be written.
    """
    state = _state(checkpoint, half)
    content = {**_record(checkpoint, half), "state": state, "extra": storable(checkpoint.extra, "extra")}
    try:
        with path.open("wb") as file:  # an open file gives the archive the root `archive`, whatever its name
            torch.save(content, file)
    except RuntimeError as error:  # torch hides the disk's own error behind one of its zip writer
        raise error.__context__ if isinstance(error.__context__, OSError) else error from None


def write_safetensors(path: Path, checkpoint: Checkpoint, half: bool) -> None:
    """Write a .safetensors to `path` in place; `extra` is left out.

    Raises:
        UsageError: the checkpoint holds something that is not plain.
        OSError: the file cannot be written.
    """
    text = json.dumps(_record(checkpoint, half), ensure_ascii=False)
    try:
        save_file(_state(checkpoint, half), path, metadata={WRITER: text})
    except SafetensorError as error:
        raise OSError(str(error)) from error


def is_ours(top: object) -> bool:
    """Whether a read pickle is a checkpoint of this package."""
    return isinstance(top, dict) and top.get("writer") == WRITER


def from_native(top: Mapping[Any, Any], storages: Storages, path: str) -> Checkpoint:
    """Make a checkpoint of the dict in our .pt.

    Raises:
        WeightsError: it is of a newer format, or damaged.
    """
    _check_format(top.get("format"), path)
    refs = top.get("state")
    if not isinstance(refs, dict) or not all(isinstance(ref, TensorRef) for ref in refs.values()):
        raise damaged(path, "its state is no dict of tensors")
    state = {str(name): storages.tensor(ref, widen=True) for name, ref in refs.items()}
    record = to_plain({key: value for key, value in top.items() if key not in ("state", "extra")}, path)
    checkpoint = _checkpoint(record, state, path)
    extra = to_plain(top.get("extra", {}), path, lambda ref: storages.tensor(ref, widen=False))
    checkpoint.extra = extra if isinstance(extra, dict) else {}
    return checkpoint


def read_safetensors(path: Path) -> Checkpoint:
    """Read a .safetensors file, ours or any other.

    Raises:
        WeightsError: it is damaged or of a newer format.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
    except (SafetensorError, OSError, RuntimeError, ValueError, KeyError, AttributeError) as error:
        raise damaged(str(path), f"safetensors says {shown(error)}") from error
    for name, value in stored.items():
        if str(value.dtype).removeprefix("torch.") not in {dtype for dtype, _ in STORAGES.values()}:
            raise damaged(str(path), f"{shown(name)} is of the type {value.dtype}")
    # a copy, so that the file is free again and later changes to it do not reach the weights
    state = {
        name: value.to(torch.float32 if value.is_floating_point() else value.dtype, copy=True)
        for name, value in stored.items()
    }
    if WRITER not in metadata:
        return Checkpoint(state=state, origin="safetensors")
    try:
        parsed = json.loads(metadata[WRITER])
    except (ValueError, RecursionError) as error:
        raise damaged(str(path), "its record is no JSON") from error
    record = to_plain(parsed, str(path))
    if not isinstance(record, dict):
        raise damaged(str(path), "its record is no JSON object")
    _check_format(record.get("format"), str(path))
    return _checkpoint(record, state, str(path))


def _check_format(found: object, path: str) -> None:
    if type(found) is not int or found < 1:
        raise damaged(path, f"its format number is {shown(found)}")
    if found > FORMAT:
        raise WeightsError(
            f"The weights file {path} has format {found}; yolopose {__version__} knows formats up to {FORMAT}. "
            "Upgrade: `pip install -U yolopose`."
        )


def _record(checkpoint: Checkpoint, half: bool) -> dict[str, Any]:
    metadata = checkpoint.metadata
    values = {
        "yaml": checkpoint.model_yaml,
        "metadata": None if metadata is None else _plain_metadata(metadata),
        "args": checkpoint.train_args,
        "metrics": checkpoint.metrics,
    }
    return {
        "format": FORMAT,
        "writer": WRITER,
        "version": checkpoint.version or __version__,
        "date": checkpoint.date,
        "license": checkpoint.license,
        "epoch": checkpoint.epoch,
        "dtype": "float16" if half else "float32",
        **{key: storable(value, key) for key, value in values.items()},
    }


def _plain_metadata(metadata: ModelMetadata) -> dict[str, Any]:
    # names as a list, since JSON has no whole-number keys; what the record says elsewhere is not said twice
    values = {**metadata.to_dict(), "names": list(metadata.spec.classes)}
    return {key: value for key, value in values.items() if key not in ("args", "license", "version", "task")}


def _state(checkpoint: Checkpoint, half: bool) -> dict[str, Tensor]:
    state: dict[str, Tensor] = storable(checkpoint.state, "state")
    return {name: narrowed(value) for name, value in state.items()} if half else state


def _checkpoint(record: Mapping[Any, Any], state: dict[str, Tensor], path: str) -> Checkpoint:
    for key, kind in _FIELDS.items():
        if not isinstance(record.get(key), kind):
            raise damaged(path, f"its {key} is missing or no {kind.__name__}")
    return Checkpoint(
        state=state,
        model_yaml=record["yaml"],
        metadata=_metadata(record, path),
        train_args=record["args"],
        metrics=record["metrics"],
        epoch=record["epoch"],
        date=record["date"],
        version=record["version"],
        license=record["license"],
        dtype=record["dtype"],
    )


def _metadata(record: Mapping[Any, Any], path: str) -> ModelMetadata | None:
    values = record.get("metadata")
    if values is None:
        return None
    try:
        rest = {key: record[key] for key in ("license", "version", "args")}
        return ModelMetadata.from_dict({**values, **rest})
    except (UsageError, TypeError, ValueError, OverflowError) as error:
        raise damaged(path, f"its metadata cannot be read ({shown(error)})") from error
