"""Our own format: one dict of tensors and plain values, as a torch `.pt` or a `.safetensors` file.

Format 1 as .pt: a dict with `format`, `writer`, `version`, `date`, `license`, `epoch`, `dtype`, `state`, `yaml`,
`metadata`, `args`, `metrics`, `extra`, readable with `torch.load(weights_only=True)`. Format 1 as .safetensors: the
tensors are the state; the other keys except `extra` are a JSON text under `yolopose` in the metadata.
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
from yolopose.base.records import CheckpointHeader, check_record
from yolopose.nn.model_yaml import input_channels
from yolopose.schema import ModelMetadata
from yolopose.weights.archive import TensorReader
from yolopose.weights.checkpoint import Checkpoint
from yolopose.weights.errors import damaged_error, printable
from yolopose.weights.values import STORAGES, TensorRef, to_plain, to_storable

FORMAT = 1
WRITER = "yolopose"


def write_pt(path: Path, checkpoint: Checkpoint, half: bool) -> None:
    """Write a .pt in place; the caller provides a temporary path.

    Raises:
        UsageError: the checkpoint contains something that cannot be stored.
        OSError: the file cannot be written.
    """
    state = _storable_state(checkpoint, half)
    content = {**_header(checkpoint, half), "state": state, "extra": to_storable(checkpoint.extra, "extra")}
    try:
        with path.open("wb") as file:  # with an open file the archive's root is `archive` and not the file's name
            torch.save(content, file)
    except RuntimeError as error:  # torch hides an error of the disk behind one of its zip writer
        raise error.__context__ if isinstance(error.__context__, OSError) else error from None


def write_safetensors(path: Path, checkpoint: Checkpoint, half: bool) -> None:
    """Write a .safetensors in place, without `extra`.

    Raises:
        UsageError: the checkpoint contains something that cannot be stored.
        OSError: the file cannot be written.
    """
    text = json.dumps(_header(checkpoint, half), ensure_ascii=False)
    try:
        save_file(_storable_state(checkpoint, half), path, metadata={WRITER: text})
    except SafetensorError as error:
        raise OSError(str(error)) from error


def is_native(content: object) -> bool:
    """Return whether the content of a pickle is a checkpoint of this package."""
    return isinstance(content, dict) and content.get("writer") == WRITER


def from_native(content: Mapping[Any, Any], reader: TensorReader, path: str) -> Checkpoint:
    """Make a checkpoint of the dict in our .pt.

    Raises:
        WeightsError: it has a newer format, or is damaged.
    """
    _check_format(content.get("format"), path)
    refs = content.get("state")
    if not isinstance(refs, dict) or not all(isinstance(ref, TensorRef) for ref in refs.values()):
        raise damaged_error(path, "its state is not a dict of tensors")
    state = {str(name): reader.read(ref, widen=True) for name, ref in refs.items()}
    header = to_plain({key: value for key, value in content.items() if key not in ("state", "extra")}, path)
    checkpoint = _checkpoint(header, state, path)
    # training state keeps its dtypes: an optimizer in float16 must resume in float16
    extra = to_plain(content.get("extra", {}), path, lambda ref: reader.read(ref, widen=False))
    checkpoint.extra = extra if isinstance(extra, dict) else {}
    return checkpoint


def read_safetensors(path: Path) -> Checkpoint:
    """Read a .safetensors file, ours or any other.

    Raises:
        WeightsError: it is damaged or has a newer format.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a mapping
    except (SafetensorError, OSError, RuntimeError, ValueError, KeyError, AttributeError) as error:
        raise damaged_error(str(path), f"safetensors reports {printable(error)}") from error
    for name, value in stored.items():
        if str(value.dtype).removeprefix("torch.") not in {dtype for dtype, _ in STORAGES.values()}:
            raise damaged_error(str(path), f"{printable(name)} has the unsupported type {value.dtype}")
    # a copy, since the tensors are memory-mapped: later changes to the file would change the weights
    state = {
        name: value.to(torch.float32 if value.is_floating_point() else value.dtype, copy=True)
        for name, value in stored.items()
    }
    if WRITER not in metadata:
        return Checkpoint(state=state, origin="safetensors")
    try:
        parsed = json.loads(metadata[WRITER])
    except (ValueError, RecursionError) as error:
        raise damaged_error(str(path), "its metadata is not valid JSON") from error
    header = to_plain(parsed, str(path))
    if not isinstance(header, dict):
        raise damaged_error(str(path), "its metadata is not a JSON object")
    _check_format(header.get("format"), str(path))
    return _checkpoint(header, state, str(path))


def _check_format(value: object, path: str) -> None:
    if type(value) is not int or value < 1:
        raise damaged_error(path, f"its format number is {printable(value)}")
    if value > FORMAT:
        raise WeightsError(
            f"The weights file {path} has format {value}; yolopose {__version__} supports formats up to {FORMAT}. "
            "Upgrade: `pip install -U yolopose`."
        )


def _header(checkpoint: Checkpoint, half: bool) -> dict[str, Any]:
    """Return all plain values of a file."""
    metadata = checkpoint.metadata
    values = {
        "yaml": checkpoint.model_yaml,
        "metadata": None if metadata is None else _metadata_values(metadata),
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
        **{key: to_storable(value, key) for key, value in values.items()},
    }


def _metadata_values(metadata: ModelMetadata) -> dict[str, Any]:
    # names as a list, since JSON has no integer keys; without what other keys of the file already hold
    values = {**metadata.to_dict(), "names": list(metadata.spec.classes)}
    return {key: value for key, value in values.items() if key not in ("args", "license", "version", "task")}


def _storable_state(checkpoint: Checkpoint, half: bool) -> dict[str, Tensor]:
    state: dict[str, Tensor] = to_storable(checkpoint.state, "state")
    return {name: _to_half(value) for name, value in state.items()} if half else state


def _to_half(value: Tensor) -> Tensor:
    """Convert float32 to float16, except where values overflow, as a running variance may."""
    if value.dtype != torch.float32:
        return value
    half = value.half()
    return value if bool((half.isinf() & value.isfinite()).any()) else half


def _checkpoint(header: Mapping[Any, Any], state: dict[str, Tensor], path: str) -> Checkpoint:
    check_record(dict(header), CheckpointHeader, f"The weights file {path} is damaged", WeightsError)
    return Checkpoint(
        state=state,
        model_yaml=header["yaml"],
        metadata=_metadata(header, path),
        train_args=header["args"],
        metrics=header["metrics"],
        epoch=header["epoch"],
        date=header["date"],
        version=header["version"],
        license=header["license"],
        dtype=header["dtype"],
    )


def _metadata(header: Mapping[Any, Any], path: str) -> ModelMetadata | None:
    values = header.get("metadata")
    if values is None:
        return None
    try:
        rest = {key: header[key] for key in ("license", "version", "args")}
        # missing in metadata for 3 channels, and in files of earlier versions
        channels = input_channels(header["yaml"])
        return ModelMetadata.from_dict({"channels": channels, **values, **rest})
    except (UsageError, TypeError, ValueError, OverflowError) as error:
        raise damaged_error(path, f"its metadata cannot be read ({printable(error)})") from error
