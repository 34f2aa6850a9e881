"""`runtime=auto`: convert weights once for the engine that is fastest on this machine, and cache the result."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path

import torch

from yolopose._version import __version__
from yolopose.base.cpu import cpu_name, physical_cores
from yolopose.base.errors import ExportError, OutputError, WeightsError
from yolopose.base.files import write_text
from yolopose.base.log import LOGGER, quiet
from yolopose.base.settings import cache_dir
from yolopose.config import ExportOptions
from yolopose.data.figures import draw_scene
from yolopose.formats.engine_choice import choice_path, measure_engines, read_choice, write_choice
from yolopose.formats.exporting import export_network
from yolopose.formats.protocol import Format
from yolopose.formats.pytorch import TorchRuntime, pick_device
from yolopose.formats.registry import get_format, missing_packages, require_packages
from yolopose.nn import PoseModel
from yolopose.runtime import Runtime
from yolopose.schema import ModelMetadata

ENGINES = ("openvino", "onnx")
"""Formats whose engines compute what torch does (keypoints within 0.001 pixels in float32), usually faster on a CPU."""


def create_runtime(network: PoseModel, metadata: ModelMetadata, name: str, device: object, half: bool) -> Runtime:
    """Return the engine of `runtime=` for a network.

    Args:
        network: the network.
        metadata: metadata of the weights.
        name: `torch`, a format of `ENGINES`, or `auto`: torch on a GPU; on a CPU the fastest of torch and the installed
            engines, which are timed once for each machine and kind of network. The choice is logged.
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
    if name == "auto":
        return _create_fastest(network, metadata, device, half)
    return _convert_or_load(network, metadata, get_format(name), name, device, half)


def _create_fastest(network: PoseModel, metadata: ModelMetadata, device: object, half: bool) -> Runtime:
    """Return the fastest engine, which is measured unless an earlier run has done so."""
    entries = _installed()
    if not entries:
        LOGGER.warning(f"runtime=auto: using torch, no other engine is installed (pip install {ENGINES[0]}).")
        return TorchRuntime(network, device, half, metadata)
    path = choice_path(cache_dir() / "engines", _choice_key(network, metadata, entries, half))
    choice = read_choice(path)
    if choice is not None and choice.name in {"torch", *(entry.info.name for entry in entries)}:
        LOGGER.info(f"runtime=auto: {choice.name} is the fastest engine on this machine ({choice}, see {path}).")
        runtime = _open_engine(network, metadata, choice.name, device, half)
        return runtime or TorchRuntime(network, device, half, metadata)
    names = ("torch", *(entry.info.name for entry in entries))
    opened = {name: _open_engine(network, metadata, name, device, half) for name in names}
    engines = {name: runtime for name, runtime in opened.items() if runtime is not None}
    if len(engines) == 1:  # the others cannot be used, which may change
        return engines["torch"]
    choice = measure_engines(engines, metadata.imgsz)
    write_choice(path, choice)
    LOGGER.info(f"runtime=auto: measured {choice}; using {choice.name}, and from now on without measuring ({path}).")
    return engines[choice.name]


def _open_engine(network: PoseModel, metadata: ModelMetadata, name: str, device: object, half: bool) -> Runtime | None:
    """Open an engine for `runtime=auto`; None, with a warning, if the weights cannot be converted for it."""
    if name == "torch":
        return TorchRuntime(network, device, half, metadata)
    entry = get_format(name)
    try:
        return _convert_or_load(network, metadata, entry, "auto", device, half)
    except (ExportError, OutputError) as error:
        LOGGER.warning(f"runtime=auto: {entry.info.title} is not used, since it failed: {error}")
        return None


def _choice_key(network: PoseModel, metadata: ModelMetadata, entries: Sequence[Format], half: bool) -> list[object]:
    """Return everything that the speed of the engines depends on; weights do not change it."""
    packages = sorted({package for entry in entries for package in _packages(entry)})
    versions = [f"{package} {version(package)}" for package in packages]
    return [
        cpu_name(), physical_cores(), torch.__version__, versions, __version__, network.yaml, network.spec.nc,
        network.spec.keypoints.shape, metadata.imgsz, metadata.end2end, half,
    ]  # fmt: skip


def _packages(entry: Format) -> list[str]:
    """Return the packages that converting and running need, without duplicates."""
    return list(dict.fromkeys((*entry.info.run_requires, *entry.info.export_requires)))


def _installed() -> list[Format]:
    return [entry for entry in map(get_format, ENGINES) if not missing_packages(_packages(entry))]


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
