"""Weights files to networks and back, and copying weights from one network to another."""

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
from yolopose.nn.conv import BN_EPS
from yolopose.schema import ConfidenceScale
from yolopose.weights.checkpoint import Checkpoint
from yolopose.weights.errors import printable
from yolopose.weights.files import read_checkpoint

_STATE_LAYER = "cv4_state."  # present only with three states of visibility
_BATCH_COUNTER = ".num_batches_tracked"  # no output depends on it


@dataclass(frozen=True, slots=True)
class TransferReport:
    """What `load_matching` copied.

    Attributes:
        copied: number of the network's tensors that were copied from the state.
        total: number of the network's tensors.
        missing: names the state does not have.
        mismatched: names with another shape in the state.
        adapted: what was changed in a copied tensor, for the log; empty if nothing was.
    """

    copied: int
    total: int
    missing: tuple[str, ...]
    mismatched: tuple[str, ...]
    adapted: str = ""

    def summary(self, source: object, rest: str) -> str:
        """Return a sentence for the log, without a full stop.

        Args:
            source: where the state is from.
            rest: what the other tensors do: `start fresh`.
        """
        reasons = ((self.mismatched, "of other shape"), (self.missing, "absent"))
        others = ", ".join(f"{len(names)} {reason}" for names, reason in reasons if names)
        note = f" ({others}: these {rest})" if others else ""
        adapted = f"; {self.adapted}" if self.adapted else ""
        return f"Copied {self.copied} of {self.total} tensors from {source}{note}{adapted}"


def load_network(path: str | Path) -> tuple[PoseModel, Checkpoint]:
    """Read a weights file and build its network on the CPU, in float32 and evaluation mode.

    Args:
        path: our .pt or .safetensors, or a public checkpoint.

    Returns:
        The network and the checkpoint, whose state shares memory with the network.

    Raises:
        NotFoundError: the file does not exist.
        WeightsError: the file cannot be read, contains no pose network, or its weights do not fit its architecture.
        ModelError: its architecture is not supported.
    """
    checkpoint = read_checkpoint(path)
    if not checkpoint.model_yaml:
        raise WeightsError(
            f"{path} is a state_dict without an architecture, so it is not a model. Build one from a YAML and load the "
            f'weights into it: `YOLO("yolo11n-pose.yaml").load("{path}")`.'
        )
    if checkpoint.metadata is None:
        raise WeightsError(
            f"{path} contains a network without keypoints, for another task than poses. Its backbone can start a pose "
            f'network: `YOLO("yolo11n-pose.yaml").load("{path}")`.'
        )
    try:
        # built without memory: a small file cannot make us allocate a large network before its weights are checked
        with torch.device("meta"):
            model = build_network(checkpoint.model_yaml, spec=checkpoint.metadata.spec)
    except ModelError as error:
        raise ModelError(f"The network in {path} cannot be built. {error}") from error
    _assign_state(model, checkpoint.state, str(path))
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
    calibration: ConfidenceScale | None = None,
) -> Checkpoint:
    """Make a checkpoint of a network; its tensors are copies on the CPU.

    Args:
        model: the network.
        args: training arguments, plain values; `imgsz` among them becomes the input size of the metadata.
        metrics: validation metrics.
        epoch: last finished epoch from 0; -1 for a finished training.
        date: ISO 8601; None is now.
        license: license of the weights.
        extra: training state to resume from: plain values and tensors.
        calibration: of the confidences, which inference applies; the weights are those before it.

    Raises:
        ModelError: the network was pruned to one branch.
    """
    if not model.has_all_branches:
        raise ModelError(
            f"{model.name} was pruned to one branch by fuse(); a file of it could be neither trained nor opened. Load "
            "the weights again, and save them before fuse()."
        )
    args = dict(args or {})
    imgsz = args.get("imgsz", 640)
    height, width = (imgsz, imgsz) if isinstance(imgsz, int) else imgsz
    metadata = replace(
        model.default_metadata(),
        imgsz=(int(height), int(width)),
        license=license,
        version=__version__,
        args=args,
        calibration=calibration,
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
    """Copy the tensors that match by name and shape into a network; the others keep their values.

    The first convolution is converted if the state is that of a network for gray images and this one is for color, or
    vice versa: the output for the same scene is then the same.

    Two and three states of visibility differ by the layers `cv4_state` only: boxes, scores, positions and confidences
    of the keypoints stay the same in both directions. A network with three states starts with hidden and visible
    equally probable; one with two states ignores what distinguishes them.

    Args:
        model: the network, changed in place.
        state: tensors by the names of the network's `state_dict`.
    """
    own = model.state_dict()
    state = _unfuse(state, own)
    adapted = _describe_states(state, own)
    for name in (name for name in own if name.startswith("model.0.") and name in state):
        kernel = _convert_kernel(state[name], own[name].shape)
        if kernel is not None:
            note = f"the first convolution was converted from {state[name].shape[1]} to {kernel.shape[1]} channels"
            adapted = "; ".join(filter(None, (adapted, note)))
            state = {**state, name: kernel}
    missing = tuple(name for name in own if name not in state)
    mismatched = tuple(name for name in own if name in state and state[name].shape != own[name].shape)
    skipped = {*missing, *mismatched}
    for name, value in own.items():
        if name not in skipped:
            value.copy_(state[name])
    return TransferReport(len(own) - len(skipped), len(own), missing, mismatched, adapted)


def _describe_states(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> str:
    """Return what changes between two and three states of visibility, for the log; empty if nothing does."""
    given, wanted = (any(_STATE_LAYER in name for name in names) for names in (state, own))
    if given == wanted or not any(".cv4" in name for name in state):
        return ""
    if wanted:
        return "two states of visibility became three, with hidden and visible equally probable at first"
    return "three states of visibility became two: labeled (hidden or visible) or not"


def _convert_kernel(kernel: Tensor, shape: torch.Size) -> Tensor | None:
    """Return a kernel on images of 1 (gray), 3 (R, G, B) or 4 (B, G, R, A) channels for as many as `shape` has.

    Gray images have three equal channels, so their kernel is the sum of those of the channels; alpha is ignored.

    Returns:
        (out, channels, height, width); None if the shapes differ in more than such channels, or do not differ.
    """
    if kernel.ndim != 4 or kernel.shape == shape or kernel.shape[:1] + kernel.shape[2:] != shape[:1] + shape[2:]:
        return None
    count = int(kernel.shape[1])
    channels = int(shape[1])
    if count not in (1, 3, 4) or channels not in (1, 3, 4):
        return None
    rgb = kernel.expand(-1, 3, -1, -1) / 3 if count == 1 else kernel if count == 3 else kernel[:, :3].flip(1)
    if channels == 1:
        return rgb.sum(1, keepdim=True)
    return rgb if channels == 3 else torch.cat((rgb.flip(1), torch.zeros_like(rgb[:, :1])), 1)


def _assign_state(model: PoseModel, state: Mapping[str, Tensor], path: str) -> None:
    """Make a network on the "meta" device use the tensors of a state.

    Raises:
        WeightsError: some are missing, unexpected, or of other shapes.
    """
    own = model.state_dict()
    state = dict(_unfuse(state, own))
    for name, value in own.items():
        if name.endswith(_BATCH_COUNTER):
            state.setdefault(name, torch.zeros(value.shape, dtype=value.dtype))
    problems = [
        *(f"{name} is missing" for name in own if name not in state),
        *(
            f"{name} is {tuple(state[name].shape)}, not {tuple(value.shape)}"
            for name, value in own.items()
            if name in state and state[name].shape != value.shape
        ),
        *(f"{printable(name)} is not part of it" for name in state if name not in own),
    ]
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise WeightsError(
            f"The weights in {path} do not fit the architecture in the file ({model.name or 'unnamed'}): "
            f"{'; '.join(problems[:3])}{more}."
        )
    tensors = {name: state[name].to(value.dtype).contiguous() for name, value in own.items()}
    model.load_state_dict(tensors, strict=True, assign=True)


def _unfuse(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Replace the bias of a convolution with a folded batch norm by a batch norm that only adds it."""
    unfused = dict(state)
    for name in state:
        block = name.removesuffix(".conv.bias")
        if block == name or name in own or f"{block}.bn.weight" not in own or f"{block}.bn.weight" in state:
            continue
        bias = unfused.pop(name)
        ones = torch.ones_like(bias)
        unfused |= {
            f"{block}.bn.weight": ones,
            f"{block}.bn.bias": bias,
            f"{block}.bn.running_mean": torch.zeros_like(bias),
            f"{block}.bn.running_var": ones * (1 - BN_EPS),  # variance + eps = 1, so the scale is 1
        }
    return unfused
