"""Weights and exported networks as engines; one file for each format, imported when it is asked for."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from yolopose.base.errors import DependencyError, UsageError
from yolopose.runtime import Runtime

SUFFIXES = (".pt", ".safetensors")


def open_runtime(path: str | Path, *, device: object = None, half: bool = False) -> Runtime:
    """Opens a weights file with the engine that runs it.

    Args:
        path: the file; its suffix tells the format.
        device: see `yolopose.formats.pytorch.pick_device`.
        half: compute in float16 where the device can.

    Raises:
        UsageError: the suffix is of no format known here, or the device is not here.
        NotFoundError: there is no such file.
        WeightsError: the file is damaged or holds no pose network.
        DependencyError: the engine's library is not installed.
    """
    if Path(path).suffix.lower() not in SUFFIXES:
        raise UsageError(f"{path} is of no known format: this version runs {' and '.join(SUFFIXES)} files.")
    need_torch(str(path))
    from yolopose.formats.pytorch import TorchRuntime
    from yolopose.weights import load_network

    network, checkpoint = load_network(path)
    return TorchRuntime(network, device, half, checkpoint.metadata)


def need_torch(what: str) -> None:
    """Makes sure that torch is there before a file that needs it is opened.

    Raises:
        DependencyError: it is not; the text holds the line that installs it.
    """
    if find_spec("torch") is None:
        raise DependencyError(
            f"{what} needs torch, which is not installed. Install it with: pip install torch safetensors matplotlib "
            "(for a CPU alone, add --index-url https://download.pytorch.org/whl/cpu for torch: it is far smaller)."
        )
