"""`runtime=auto`: convert weights once for the fastest installed engine, and cache the result."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
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
from yolopose.formats.protocol import Format
from yolopose.formats.pytorch import TorchRuntime, pick_device
from yolopose.formats.registry import get_format, missing_packages, require_packages
from yolopose.nn import PoseModel
from yolopose.runtime import Runtime
from yolopose.schema import ModelMetadata

FASTEST_FIRST = ("openvino", "onnx")
"""Formats by the speed of their engines on an x86 CPU; each is faster there than torch in float32."""


def create_runtime(network: PoseModel, metadata: ModelMetadata, name: str, device: object, half: bool) -> Runtime:
    """Return the engine of `runtime=` for a network.

    Args:
        network: the network.
        metadata: metadata of the weights.
        name: `torch`, a format of `FASTEST_FIRST`, or `auto`: torch on a GPU, else the first format whose packages are
            installed, else torch. The choice is logged.
        device: see `open_runtime`.
        half: see `open_runtime`.

    Returns:
        An engine for any input size and batch whose results hold tensors, as those of torch do.

    Raises:
        UsageError: the engine does not run on the device.
        DependencyError: the named engine is not installed.
        ExportError: the network cannot be converted for the named engine.
        OutputError: the converted file cannot be written.
    """
    if name == "torch" or (name == "auto" and pick_device(device).type != "cpu"):
        return TorchRuntime(network, device, half, metadata)
    entry = _fastest_installed() if name == "auto" else get_format(name)
    if entry is None:
        LOGGER.warning(f"runtime=auto: using torch, no faster engine is installed (pip install {FASTEST_FIRST[0]}).")
        return TorchRuntime(network, device, half, metadata)
    try:
        return _convert_or_load(network, metadata, entry, name, device, half)
    except (ExportError, OutputError) as error:
        if name != "auto":
            raise
        LOGGER.warning(f"runtime=auto: using torch, since {entry.info.title} failed: {error}")
        return TorchRuntime(network, device, half, metadata)


def _packages(entry: Format) -> list[str]:
    """Return the packages that converting and running need, without duplicates."""
    return list(dict.fromkeys((*entry.info.run_requires, *entry.info.export_requires)))


def _fastest_installed() -> Format | None:
    return next((entry for entry in map(get_format, FASTEST_FIRST) if not missing_packages(_packages(entry))), None)


def _convert_or_load(
    network: PoseModel, metadata: ModelMetadata, entry: Format, name: str, device: object, half: bool
) -> Runtime:
    require_packages(_packages(entry), f"runtime={name}")
    title = entry.info.title
    stem = cache_dir() / "engines" / f"{metadata.name or 'network'}-{_fingerprint(network, metadata, entry)}"
    path = Path(f"{stem}{entry.info.suffixes[0]}")
    checksum = Path(f"{stem}.sha256")
    # the file is float32 for any device; whether 16 bits are used is decided by the engine
    runtime = _load_cached(path, checksum, entry, device, half)
    if runtime is not None:
        LOGGER.info(f"runtime={name}: using {title}, converted earlier ({path}).")
    else:
        LOGGER.info(f"runtime={name}: using {title}; converting the weights once, into {path}.")
        options = ExportOptions(
            format=entry.info.name,
            imgsz=metadata.imgsz,
            dynamic=True,
            end2end=metadata.end2end,
            uncertainty=metadata.uncertainty,
        )
        with quiet():
            export_network(network, metadata, options, stem, draw_scene(0, "val", 0, 640)[0], None)
        write_text(checksum, _digest(_contents(path)))
        runtime = entry.load(path, device, half)
    runtime.to_array = torch.from_numpy  # type: ignore[method-assign]  # results of weights hold tensors
    return runtime


def _load_cached(path: Path, checksum: Path, entry: Format, device: object, half: bool) -> Runtime | None:
    """Open the file of an earlier run; None if it is missing or damaged."""
    try:
        if checksum.read_text(encoding="ascii") == _digest(_contents(path)):
            return entry.load(path, device, half)
    except (OSError, UnicodeDecodeError, WeightsError):  # written anew
        pass
    return None


def _fingerprint(network: PoseModel, metadata: ModelMetadata, entry: Format) -> str:
    """Return a digest of everything that the converted file depends on: weights, metadata, format, versions."""
    record = [metadata.to_dict(), network.yaml, entry.info.name, __version__]
    versions = [version(package) for package in sorted(_packages(entry))]
    parts = [json.dumps([record, versions], sort_keys=True, default=str).encode()]
    for key, value in network.state_dict().items():
        parts += [f"{key} {value.dtype} {list(value.shape)}".encode(), value.cpu().contiguous().numpy().tobytes()]
    return _digest(parts)[:16]


def _contents(path: Path) -> Iterable[bytes]:
    for file in sorted(path.iterdir()) if path.is_dir() else [path]:
        yield file.name.encode()
        yield file.read_bytes()


def _digest(parts: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big"))  # separates the parts
        digest.update(part)
    return digest.hexdigest()
