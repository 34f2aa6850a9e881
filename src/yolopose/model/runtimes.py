"""Which engine computes for a `YOLO` object."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yolopose.base.errors import UsageError
from yolopose.base.log import LOGGER, warn_once
from yolopose.config import PredictOptions, ValOptions
from yolopose.formats import format_for_path, open_runtime
from yolopose.schema import ModelMetadata

if TYPE_CHECKING:
    from yolopose.nn import PoseModel
    from yolopose.runtime import Runtime


@dataclass(frozen=True, slots=True)
class RuntimeConfig:
    """What of an engine a call may choose.

    Attributes:
        device: where to compute.
        half: whether in 16 bits, where the device gains from that.
        name: `auto`, `openvino`, `onnx`, `torch`, or None for the engine that the file is for.
        compile: whether torch compiles the network, and how.
        end2end: whether the network's own finished detections are taken; None leaves that to an exported file.
        uncertainty: whether σ of each point is told.
    """

    device: Any = None
    half: bool = False
    name: str | None = None
    compile: bool | str = False
    end2end: bool | None = None
    uncertainty: bool = False


def runtime_config(options: PredictOptions | ValOptions, network: PoseModel | None) -> RuntimeConfig:
    """Return what options say of the engine.

    Args:
        options: those of a call.
        network: what torch holds, or None for an exported file.
    """
    end2end = options.end2end
    if end2end is None and options.nms is False and network is not None:
        end2end = network.supports_end2end  # no older head minds nms=False
    compile, uncertainty = (
        (options.compile, options.uncertainty) if isinstance(options, PredictOptions) else (False, False)
    )
    return RuntimeConfig(options.device, options.half, options.runtime, compile, end2end, uncertainty)


def open_exported(file: Path, choice: RuntimeConfig) -> Runtime:
    """Open the engine of an exported file.

    Raises:
        UsageError: another engine is asked for, or the device is not here.
    """
    own = format_for_path(file).name
    if choice.name not in (None, "auto", own):
        raise UsageError(
            f"runtime={choice.name} does not run {file}, which is for {own}: leave runtime= out, or give the .pt that "
            "it was made from."
        )
    _leave_aside(choice)
    runtime = open_runtime(file, device=choice.device, half=choice.half)
    for wish, given in ((choice.end2end, "end2end"), (choice.uncertainty or None, "uncertainty")):
        if wish is not None and wish != getattr(runtime.metadata, given):
            raise UsageError(
                f"{given}={wish} is not what {file} gives: it was exported otherwise. Leave {given} out, or export it "
                f"again with {given}={wish}."
            )
    return runtime


def runtime_for_network(
    network: PoseModel, metadata: ModelMetadata | None, choice: RuntimeConfig, fresh: str
) -> Runtime:
    """Make the engine of a network that torch holds.

    Args:
        network: the network.
        metadata: the record that came with its weights, or None.
        choice: what is asked for.
        fresh: name of the network when it has learned nothing yet, else an empty text.

    Raises:
        UsageError: the device is not here.
        DependencyError: the engine that was named is not installed.
    """
    if fresh:
        LOGGER.warning(
            f"{fresh} is a new network that has learned nothing, so nothing will be found: train it, or open trained "
            "weights (such as yolo11n-pose.pt)."
        )
    known = metadata or network.default_metadata()
    known = replace(known, end2end=bool(choice.end2end), uncertainty=choice.uncertainty)
    if choice.name in (None, "torch"):
        from yolopose.formats.pytorch import TorchRuntime

        return TorchRuntime(network, choice.device, choice.half, known, choice.compile)
    from yolopose.formats.auto_runtime import create_runtime

    _leave_aside(choice)
    return create_runtime(network, known, choice.name, choice.device, choice.half)


def _leave_aside(choice: RuntimeConfig) -> None:
    if choice.compile:
        warn_once(f"compile={choice.compile} is left aside: it is for networks that torch runs.")
