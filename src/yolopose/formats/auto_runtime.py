"""`runtime=auto`: weights converted once for the fastest engine that is installed, and kept."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import torch

from yolopose._version import __version__
from yolopose.base.errors import ExportError, OutputError, WeightsError
from yolopose.base.files import write_text
from yolopose.base.log import LOGGER, quiet
from yolopose.base.settings import cache_dir
from yolopose.config import ExportOptions
from yolopose.data.figures import draw_scene
from yolopose.formats.exporting import export_network
from yolopose.formats.pytorch import TorchRuntime, pick_device
from yolopose.formats.registry import Format, get_format, missing_packages, require_packages
from yolopose.nn import PoseModel
from yolopose.runtime import Runtime
from yolopose.schema import ModelMetadata

ORDER = ("openvino", "onnx")
"""Formats by the speed of their engines on an x86 processor, each faster there than torch in float32."""


def create_runtime(network: PoseModel, metadata: ModelMetadata, name: str, device: object, half: bool) -> Runtime:
    """Return the engine that `runtime=` names, with a network.

    Args:
        network: the network.
        metadata: what is known of it.
        name: `torch`, a format of `ORDER`, or `auto`: the first of them that is installed, torch on a GPU, and torch
            where nothing else is to be had; what was chosen is logged.
        device: see `open_runtime`.
        half: see `open_runtime`.

    Returns:
        An engine of any input size and batch, whose results hold tensors as those of torch do.

    Raises:
        UsageError: the engine does not run on the device.
        DependencyError: the engine that was named is not installed.
        ExportError: the network cannot be converted for the engine that was named.
        OutputError: the converted file cannot be kept.
    """
    if name == "torch" or (name == "auto" and pick_device(device).type != "cpu"):
        return TorchRuntime(network, device, half, metadata)
    row = _fastest() if name == "auto" else get_format(name)
    if row is None:
        LOGGER.warning(f"runtime=auto: torch computes, since no faster engine is installed (pip install {ORDER[0]}).")
        return TorchRuntime(network, device, half, metadata)
    try:
        return _converted(network, metadata, row, name, device, half)
    except (ExportError, OutputError) as error:
        if name != "auto":
            raise
        LOGGER.warning(f"runtime=auto: torch computes, since {row.title} cannot: {error}")
        return TorchRuntime(network, device, half, metadata)


def _fastest() -> Format | None:
    rows = (get_format(name) for name in ORDER)
    return next((row for row in rows if not missing_packages({*row.run_requires, *row.export_requires})), None)


def _converted(
    network: PoseModel, metadata: ModelMetadata, row: Format, name: str, device: object, half: bool
) -> Runtime:
    require_packages(tuple(dict.fromkeys((*row.run_requires, *row.export_requires))), f"runtime={name}")
    stem = cache_dir() / "engines" / f"{metadata.name or 'network'}-{_identity(network, metadata, row)}"
    path, note = Path(f"{stem}{row.suffixes[0]}"), Path(f"{stem}.sha256")
    engine = _kept(path, note, row, device, half)
    if engine is not None:
        LOGGER.info(f"runtime={name}: {row.title} computes, from what was converted before ({path}).")
    else:
        LOGGER.info(f"runtime={name}: {row.title} computes; the weights are converted for it once, into {path}.")
        options = ExportOptions(
            format=row.name,
            imgsz=metadata.imgsz,
            dynamic=True,
            end2end=metadata.end2end,
            uncertainty=metadata.uncertainty,
        )
        with quiet():
            export_network(network, metadata, options, stem, draw_scene(0, "val", 0, 640)[0], None)
        write_text(note, _digest(_contents(path)))
        engine = _load(path, row, device, half)
    engine.to_array = torch.from_numpy  # type: ignore[method-assign]  # what results of weights hold
    return engine


def _kept(path: Path, note: Path, row: Format, device: object, half: bool) -> Runtime | None:
    """The engine of what an earlier run kept; None when it is not there, or not as it was written."""
    try:
        if note.read_text(encoding="ascii") == _digest(_contents(path)):
            return _load(path, row, device, half)
    except (OSError, UnicodeDecodeError, WeightsError):  # made anew
        pass
    return None


def _load(path: Path, row: Format, device: object, half: bool) -> Runtime:
    # a file in float32 is right for every device; whether 16 bits are computed in is the engine's own choice
    return import_module(f"yolopose.formats.{row.module}").load(path, device, half)


def _identity(network: PoseModel, metadata: ModelMetadata, row: Format) -> str:
    """A name for everything that the converted file depends on: weights, record, format, versions."""
    record = [metadata.to_dict(), network.yaml, row.name, __version__]
    versions = [version(package) for package in sorted({*row.run_requires, *row.export_requires})]
    parts = [json.dumps([record, versions], sort_keys=True, default=str).encode()]
    for key, value in network.state_dict().items():
        parts += [f"{key} {value.dtype} {list(value.shape)}".encode(), value.cpu().contiguous().numpy().tobytes()]
    return _digest(parts)[:16]


def _contents(path: Path) -> Iterable[bytes]:
    for file in sorted(path.iterdir()) if path.is_dir() else [path]:
        yield file.name.encode()
        yield file.read_bytes()


def _digest(parts: Iterable[bytes]) -> str:
    found = hashlib.sha256()
    for part in parts:
        found.update(len(part).to_bytes(8, "big"))
        found.update(part)
    return found.hexdigest()
