"""Weights files read and written: the kind is told by content when reading, by suffix when writing."""

from __future__ import annotations

from pathlib import Path

from yolopose.base.errors import UsageError, WeightsError
from yolopose.base.files import atomic_path
from yolopose.weights.archive import Archive
from yolopose.weights.checkpoint import Checkpoint
from yolopose.weights.foreign import from_reference, from_state
from yolopose.weights.native import from_native, is_ours, read_safetensors, write_pt, write_safetensors
from yolopose.weights.pickle_reader import read_pickle
from yolopose.weights.sniff import sniff
from yolopose.weights.tensors import Storages
from yolopose.weights.values import Stand


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read a weights file of ours, a public checkpoint, a bare state_dict, or a .safetensors file.

    Nothing in the file is ever run: pickles go through an interpreter that knows only what weights need.

    Args:
        path: the file; its kind is told by its content, not by its name.

    Raises:
        NotFoundError: there is no such file.
        UnsafeFileError: the file asks for something that reading weights never needs.
        WeightsError: it is damaged, of a newer format, or no weights file.
    """
    path = Path(path)
    if sniff(path) == "safetensors":
        return read_safetensors(path)
    with Archive(path) as archive:
        top = read_pickle(bytes(archive.read("data.pkl")), archive.sizes(), str(path))
        return _checkpoint(top, Storages(archive), str(path))


def write_checkpoint(path: str | Path, checkpoint: Checkpoint, half: bool = False) -> Path:
    """Write a weights file, whole or not at all.

    Args:
        path: its suffix chooses the kind: `.pt` (everything) or `.safetensors` (without `extra`).
        checkpoint: what to write.
        half: store the state's floats as float16, except tensors that would overflow there.

    Returns:
        The path.

    Raises:
        UsageError: the suffix is another, or a value cannot be stored.
        OutputError: the file cannot be written.
    """
    path = Path(path)
    writers = {".pt": write_pt, ".safetensors": write_safetensors}
    writer = writers.get(path.suffix.lower())
    if writer is None:
        raise UsageError(f"Weights are written as .pt or .safetensors, not as {path.name!r}.")
    with atomic_path(path) as temporary:
        writer(temporary, checkpoint, half)
    return path


def _checkpoint(top: object, storages: Storages, path: str) -> Checkpoint:
    if isinstance(top, Stand):  # a module saved by itself
        return from_reference({"model": top}, storages, path)
    if not isinstance(top, dict):
        raise WeightsError(f"The file {path} holds a {type(top).__name__}, neither a network nor tensors by name.")
    if is_ours(top):
        return from_native(top, storages, path)
    if top.get("model") is not None or top.get("ema") is not None:
        return from_reference(top, storages, path)
    return from_state(top, storages, path)
