"""From a weights file to a network and back, and moving weights from one network to another."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from yolopose._version import __version__
from yolopose.base.errors import ModelError, WeightsError
from yolopose.nn import PoseModel, build_network
from yolopose.weights.checkpoint import Checkpoint
from yolopose.weights.errors import shown
from yolopose.weights.files import read_checkpoint

_BATCH_NORM_EPS = 1e-3
_COUNTER = ".num_batches_tracked"  # counts batches; nothing depends on it


@dataclass(frozen=True, slots=True)
class TransferReport:
    """What `load_matching` moved.

    Attributes:
        copied: entries of the network that took their values from the state.
        total: entries of the network.
        missing: entries of the network that the state does not have.
        mismatched: entries that both have, with other shapes.
    """

    copied: int
    total: int
    missing: tuple[str, ...]
    mismatched: tuple[str, ...]

    def summary(self, source: object, rest: str) -> str:
        """Return a sentence, without its stop; a head for other classes or keypoints is why entries stay behind.

        Args:
            source: where the state is from.
            rest: what those that did not move do: `start fresh`.
        """
        kinds = ((self.mismatched, "of other shape"), (self.missing, "absent"))
        others = ", ".join(f"{len(names)} {why}" for names, why in kinds if names)
        return f"Moved {self.copied} of {self.total} entries from {source}{f' ({others}: these {rest})' * bool(others)}"


def load_network(path: str | Path) -> tuple[PoseModel, Checkpoint]:
    """Read a weights file and builds its network with its weights, on the CPU, in float32 and evaluation mode.

    Args:
        path: our .pt or .safetensors, or a public checkpoint.

    Returns:
        The network and the checkpoint, whose state shares the network's memory.

    Raises:
        NotFoundError: there is no such file.
        WeightsError: the file cannot be read, holds no pose network, or its weights do not fit its architecture.
        ModelError: its architecture cannot be built here.
    """
    checkpoint = read_checkpoint(path)
    if not checkpoint.model_yaml:
        raise WeightsError(
            f"{path} holds tensors by name but does not say their architecture, so it is no model by itself. Build one "
            f'and move them in: `YOLO("yolo11n-pose.yaml").load("{path}")`.'
        )
    if checkpoint.metadata is None:
        raise WeightsError(
            f"{path} holds a network without keypoints, for another task than poses. Its backbone can start a pose "
            f'network: `YOLO("yolo11n-pose.yaml").load("{path}")`.'
        )
    try:
        with torch.device("meta"):  # takes no memory: a file cannot ask for more than it brings
            model = build_network(checkpoint.model_yaml, spec=checkpoint.metadata.spec)
    except ModelError as error:
        raise ModelError(f"The network in {path} cannot be built. {error}") from error
    _fill(model, checkpoint.state, str(path))
    return model.eval(), checkpoint


def make_checkpoint(
    model: PoseModel,
    *,
    args: Mapping[str, Any] | None = None,
    metrics: Mapping[str, Any] | None = None,
    epoch: int = -1,
    date: str | None = None,
    license: str = "",
    extra: Mapping[str, Any] | None = None,
) -> Checkpoint:
    """Make a checkpoint of a network; its tensors are copies on the CPU.

    Args:
        model: the network.
        args: training arguments, plain values; `imgsz` among them is the record's input size.
        metrics: validation metrics.
        epoch: last finished epoch from 0, -1 for a finished training.
        date: ISO 8601; None takes the time now.
        license: license of the weights.
        extra: training state to go on from: plain values and tensors.

    Raises:
        ModelError: a branch of the network was left away for inference.
    """
    if not model.has_all_branches:
        raise ModelError(
            f"{model.name} was reduced to one branch for inference (fuse()), and a file of it could neither be trained "
            "nor opened. Open the weights again, and save them before fuse()."
        )
    args = dict(args or {})
    imgsz = args.get("imgsz", 640)
    height, width = (imgsz, imgsz) if isinstance(imgsz, int) else imgsz
    metadata = replace(
        model.default_metadata(), imgsz=(int(height), int(width)), license=license, version=__version__, args=args
    )
    return Checkpoint(
        state={name: value.detach().to("cpu", copy=True) for name, value in model.state_dict().items()},
        model_yaml=dict(model.yaml),
        metadata=metadata,
        train_args=args,
        metrics=dict(metrics or {}),
        epoch=epoch,
        date=date if date is not None else datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        version=__version__,
        license=license,
        extra=dict(extra or {}),
    )


@torch.no_grad()
def load_matching(model: PoseModel, state: Mapping[str, Tensor]) -> TransferReport:
    """Copy into a network what a state has under the same name and shape; the rest stays as it is.

    Args:
        model: the network, on any device.
        state: tensors by name, such as `Checkpoint.state`.
    """
    own = model.state_dict()
    state = _unfused(state, own)
    missing = tuple(name for name in own if name not in state)
    mismatched = tuple(name for name in own if name in state and state[name].shape != own[name].shape)
    left = {*missing, *mismatched}
    for name, value in own.items():
        if name not in left:
            value.copy_(state[name])
    return TransferReport(len(own) - len(left), len(own), missing, mismatched)


def _fill(model: PoseModel, state: Mapping[str, Tensor], path: str) -> None:
    """Return a network without memory the tensors of a state, all of them.

    Raises:
        WeightsError: some are missing, too many, or of other shapes.
    """
    own = model.state_dict()
    state = dict(_unfused(state, own))
    for name, value in own.items():
        if name.endswith(_COUNTER):
            state.setdefault(name, torch.zeros(value.shape, dtype=value.dtype))
    faults = [
        *(f"{name} is missing" for name in own if name not in state),
        *(
            f"{name} is {tuple(state[name].shape)}, not {tuple(value.shape)}"
            for name, value in own.items()
            if name in state and state[name].shape != value.shape
        ),
        *(f"{shown(name)} is not part of it" for name in state if name not in own),
    ]
    if faults:
        more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise WeightsError(
            f"The weights in {path} do not fit the architecture that it names ({model.name or 'unnamed'}): "
            f"{'; '.join(faults[:3])}{more}."
        )
    whole = {name: state[name].to(value.dtype).contiguous() for name, value in own.items()}
    model.load_state_dict(whole, strict=True, assign=True)


def _unfused(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Put a batch norm that changes nothing but adds the bias where a file has it folded into its convolution."""
    found = dict(state)
    for name in state:
        block = name.removesuffix(".conv.bias")
        if block == name or name in own or f"{block}.bn.weight" not in own or f"{block}.bn.weight" in state:
            continue
        bias = found.pop(name)
        ones = torch.ones_like(bias)
        found |= {
            f"{block}.bn.weight": ones,
            f"{block}.bn.bias": bias,
            f"{block}.bn.running_mean": torch.zeros_like(bias),
            f"{block}.bn.running_var": ones * (1 - _BATCH_NORM_EPS),
        }
    return found
