"""Choose and open the runtime (inference engine) of a `YOLO` object."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from yolopose.base.errors import UsageError
from yolopose.base.log import LOGGER, warn_once
from yolopose.config import PredictOptions, ValOptions
from yolopose.formats import format_for_path, open_runtime
from yolopose.formats.metadata import UnknownNetworkError, calibration_of
from yolopose.schema import ModelMetadata

if TYPE_CHECKING:
    from yolopose.nn import PoseModel
    from yolopose.runtime import Runtime


@dataclass(frozen=True, slots=True)
class RuntimeConfig:
    """The options of a call that decide on the runtime.

    Attributes:
        device: names of the devices, joined by commas; empty for the best one.
        half: compute in 16 bits where the device supports it.
        name: `auto`, `openvino`, `onnx`, `torch`, or None for the runtime of the file.
        compile: whether, or in which mode, torch compiles the network.
        end2end: whether to use the NMS-free output of the network; None leaves that to an exported file.
        uncertainty: whether to output σ of each keypoint.
        detector: model that finds the boxes for a top-down network; empty for none.
    """

    device: str = ""
    half: bool = False
    name: str | None = None
    compile: bool | str = False
    end2end: bool | None = None
    uncertainty: bool = False
    detector: str = ""


class RuntimeCache:
    """The open runtimes of a `YOLO` object by configuration; pickling and copying it yields an empty one."""

    def __init__(self) -> None:
        self._runtimes: dict[str, Runtime] = {}
        self._pid = os.getpid()

    def get(self, key: str, open_runtime: Callable[[], Runtime]) -> Runtime:
        """Return the runtime of this key; it is opened at the first call, and again in a forked process."""
        if self._pid != os.getpid():
            # never freed: the destructor of an engine may wait for threads that only the parent has
            _of_parent.append(self._runtimes)
            self._runtimes = {
                name: runtime
                for name, runtime in self._runtimes.items()
                if getattr(runtime, "survives_fork", False) and runtime.device == "cpu"
            }
            self._pid = os.getpid()
        if key not in self._runtimes:
            self._runtimes[key] = open_runtime()
        return self._runtimes[key]

    def clear(self) -> None:
        """Forget all runtimes."""
        self._runtimes.clear()

    def __reduce__(self) -> tuple[type[RuntimeCache], tuple[()]]:
        return RuntimeCache, ()


_of_parent: list[dict[str, Runtime]] = []


def runtime_config(options: PredictOptions | ValOptions, network: PoseModel | None) -> RuntimeConfig:
    """Return the runtime configuration that the options ask for.

    Args:
        options: options of the call.
        network: the torch network, or None for an exported file.
    """
    from yolopose.config import parse_devices  # loads the settings of all modes

    end2end = options.end2end
    if end2end is None and options.nms is False and network is not None:
        end2end = network.supports_end2end  # heads without an NMS-free branch ignore nms=False
    is_predict = isinstance(options, PredictOptions)
    return RuntimeConfig(
        device=",".join(parse_devices(options.device)),
        half=options.half,
        name=options.runtime,
        compile=options.compile if is_predict else False,
        end2end=end2end,
        uncertainty=options.uncertainty if is_predict else False,
        detector=options.detector or "",
    )


def open_exported(file: Path, config: RuntimeConfig) -> Runtime:
    """Open an exported file, of yolopose or of another package.

    Raises:
        UsageError: the file has another runtime or output than requested, or the device is not available.
        WeightsError: the file is damaged, or its layout is not known.
    """
    try:
        return _open_own(file, config)
    except UnknownNetworkError:
        from yolopose.model.foreign_models import open_foreign_file

        return open_foreign_file(file, config)


def _open_own(file: Path, config: RuntimeConfig) -> Runtime:
    """Open a file that yolopose or the reference package has exported."""
    own = format_for_path(file).info.name
    if config.name not in (None, "auto", own):
        raise UsageError(
            f"runtime={config.name} cannot run {file}, which needs {own}: omit runtime=, or open the .pt that it was "
            "exported from."
        )
    _warn_compile(config)
    runtime = open_runtime(file, device=config.device, half=config.half)
    for name, value in (("end2end", config.end2end), ("uncertainty", config.uncertainty or None)):
        if value is not None and value != getattr(runtime.metadata, name):
            raise UsageError(
                f"{name}={value} is not available in {file}, which was exported without it: omit {name}, or export "
                f"again with {name}={value}."
            )
    _refuse_detector(config, str(file))
    return runtime


def runtime_for_network(network: PoseModel, metadata: ModelMetadata, config: RuntimeConfig, untrained: str) -> Runtime:
    """Make the runtime of a torch network.

    Args:
        network: the network.
        metadata: its metadata.
        config: the requested configuration.
        untrained: name of a network with random weights, for a warning; empty for a trained one.

    Raises:
        UsageError: the device is not available.
        DependencyError: the requested runtime is not installed.
    """
    if untrained:
        LOGGER.warning(
            f"{untrained} is a new network with random weights and will find nothing: train it, or open trained "
            "weights (such as yolo11n-pose.pt)."
        )
    _refuse_detector(config, metadata.name or "this network")
    end2end = bool(config.end2end)
    scale = calibration_of(metadata, end2end)
    metadata = replace(metadata, end2end=end2end, uncertainty=config.uncertainty, calibration=scale)
    if config.name in (None, "torch"):
        from yolopose.formats.pytorch import TorchRuntime

        return TorchRuntime(network, config.device, config.half, metadata, config.compile)
    from yolopose.formats.auto_runtime import create_runtime

    _warn_compile(config)
    return create_runtime(network, metadata, config.name, config.device, config.half)


def _refuse_detector(config: RuntimeConfig, name: str) -> None:
    if config.detector:
        raise UsageError(
            f"detector={config.detector} is for top-down networks, such as rtmpose-m; {name} finds the instances "
            "itself: omit detector=."
        )


def _warn_compile(config: RuntimeConfig) -> None:
    if config.compile:
        warn_once(f"compile={config.compile} is ignored: it applies only to networks that torch runs.")
