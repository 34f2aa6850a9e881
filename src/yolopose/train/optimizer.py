"""The optimizer: selection, parameter groups, weight decay, and frozen layers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.optim import SGD, Adam, Adamax, AdamW, NAdam, Optimizer, RAdam, RMSprop

from yolopose.base.errors import UsageError, WeightsError, did_you_mean
from yolopose.config import TrainSettings
from yolopose.nn import PoseHead, PoseModel
from yolopose.nn.conv import DFL
from yolopose.train.fused_step import FusedSGD, has_fused_kernel, make_adamw
from yolopose.train.musgd import MuSGD

WEIGHT, NORM, BIAS = "weight", "norm", "bias"
"""Roles of the parameter groups, in this order."""

CLASS_GAIN = 3.0
"""Factor on the learning rate of the class branches with MuSGD."""

_LONG_RUN = 10_000  # iterations above which `auto` selects SGD
_BETA2 = 0.999
_ADAM_KINDS: dict[str, type[Optimizer]] = {
    "Adam": Adam,
    "AdamW": AdamW,
    "NAdam": NAdam,
    "RAdam": RAdam,
    "Adamax": Adamax,
}
_NAMES = ("auto", "SGD", "MuSGD", *_ADAM_KINDS, "RMSProp")
_NORMS = (nn.BatchNorm2d, nn.SyncBatchNorm, nn.GroupNorm, nn.LayerNorm)
_FUSED_NAMES = ("SGD", "MuSGD", "Adam", "AdamW")  # torch has fused kernels for these


@dataclass(frozen=True)
class OptimizerConfig:
    """An optimizer and its hyperparameters.

    Attributes:
        name: as the option `optimizer` spells it, never `auto`.
        lr: learning rate after warm-up, before the schedule lowers it.
        momentum: momentum after warm-up, or β₁ of the Adam kinds.
        warmup_bias_lr: learning rate of the biases at the first batch.
    """

    name: str
    lr: float
    momentum: float
    warmup_bias_lr: float


@dataclass(frozen=True)
class OptimizerHandle:
    """A torch optimizer and the hyperparameters it was made from.

    Attributes:
        torch: the optimizer; each of its groups has a key `role`: `weight`, `norm` or `bias`, and `gain` where its
            learning rate is a multiple of the scheduled one.
        config: its hyperparameters.
        weight_decay: decay of the weights, scaled to the batch.
    """

    torch: Optimizer
    config: OptimizerConfig
    weight_decay: float

    def __str__(self) -> str:
        counts = ", ".join(f"{len(group['params'])} {group['role']}" for group in self.torch.param_groups)
        config = self.config
        return f"{config.name}(lr={config.lr:g}, momentum={config.momentum:g}, decay={self.weight_decay:g}): {counts}"

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs: `name`, and torch's `state` and `param_groups`."""
        return {"name": self.config.name, **self.torch.state_dict()}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Restore the running averages of an interrupted run; rates, decay and kernels remain those of this run.

        Raises:
            WeightsError: the state belongs to another optimizer or network.
        """
        own = self.torch.state_dict()["param_groups"]
        if saved.get("name") != self.config.name:
            raise _mismatch_error(f"it is of optimizer={saved.get('name')}, and this run uses {self.config.name}")
        if [len(group["params"]) for group in saved["param_groups"]] != [len(group["params"]) for group in own]:
            raise _mismatch_error("it is of a network with another number of parameters")
        parameters = [parameter for group in self.torch.param_groups for parameter in group["params"]]
        state: dict[int, dict[str, Any]] = {}
        for index, averages in saved["state"].items():
            if not _same_shapes(averages, parameters[index]):
                raise _mismatch_error(f"it is of a network with other shapes (parameter {index})")
            state[index] = {name: _in_layout_of(parameters[index], value) for name, value in averages.items()}
        # With this run's own groups, a state saved on one device continues with the kernels that suit another.
        self.torch.load_state_dict({"state": state, "param_groups": own})


def make_optimizer(
    model: nn.Module, settings: TrainSettings, *, images: int, nc: int, further: Sequence[nn.Parameter] = ()
) -> OptimizerHandle:
    """Build the optimizer of a run; the network must be on its device already.

    The groups hold all parameters, frozen ones included: a parameter without a gradient is not updated.

    Args:
        model: the network.
        settings: `batch` must be a number of images.
        images: training images of an epoch.
        nc: number of classes.
        further: weights that are trained with the network and do not belong to it.

    Raises:
        UsageError: the optimizer is unknown, or a hyperparameter does not fit it.
    """
    config = choose_optimizer(settings, images=images, nc=nc)
    batch = resolved_batch(settings)
    # The gradients of `nominal_accumulation` batches are summed, so the decay is scaled to the images of a step.
    decay = settings.weight_decay * batch * nominal_accumulation(batch, settings.nbs) / settings.nbs
    groups = parameter_groups(
        model, decay, learning_rate_gains(model, config, settings.lr_backbone, settings.lr_keypoints)
    )
    groups[0]["params"] += further  # the first group holds weights
    return OptimizerHandle(_build(config, groups), config, decay)


def choose_optimizer(settings: TrainSettings, *, images: int, nc: int) -> OptimizerConfig:
    """Resolve `optimizer`; `auto` depends on the length of the run and sets lr, momentum and bias warm-up itself.

    Args:
        settings: `batch` must be a number of images.
        images: training images of an epoch.
        nc: number of classes.

    Raises:
        UsageError: the optimizer is unknown, or `momentum` is 1 or more.
    """
    name = settings.optimizer
    if name not in _NAMES:
        raise UsageError(
            f"optimizer={name!r} is unknown: it is one of {', '.join(_NAMES)}.{did_you_mean(name, _NAMES)}"
        )
    if name == "auto":
        iterations = math.ceil(images / max(resolved_batch(settings), settings.nbs)) * settings.epochs
        if iterations > _LONG_RUN:
            return OptimizerConfig("SGD", 0.01, 0.9, 0.0)
        return OptimizerConfig("AdamW", round(0.002 * 5 / (4 + nc), 6), 0.9, 0.0)
    if not 0 <= settings.momentum < 1:
        raise UsageError(
            f"momentum={settings.momentum} gives new gradients no weight: it must be at least 0 and below 1."
        )
    return OptimizerConfig(name, settings.lr0, settings.momentum, settings.warmup_bias_lr)


def parameter_groups(
    model: nn.Module, weight_decay: float, gains: Mapping[int, float] | None = None
) -> list[dict[str, Any]]:
    """Return three groups for each gain: weights (with decay), norm weights and biases (without).

    Parameters that are never trained, such as the fixed DFL bins, are in the weight group.

    Args:
        model: the network.
        weight_decay: of the weights.
        gains: factor on the learning rate by `id` of a parameter, where it is not 1.
    """
    gains = gains or {}
    members: dict[tuple[float, str], list[nn.Parameter]] = {}
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            role = BIAS if name == "bias" else NORM if isinstance(module, _NORMS) else WEIGHT
            members.setdefault((gains.get(id(parameter), 1.0), role), []).append(parameter)
    others = sorted({gain for gain, _ in members} - {1.0})
    return [
        {"params": members.get((gain, role), []), "role": role, "weight_decay": weight_decay if role == WEIGHT else 0.0}
        | ({"gain": gain} if gain != 1 else {})
        for gain in (1.0, *others)
        for role in (WEIGHT, NORM, BIAS)
    ]


def learning_rate_gains(
    model: nn.Module, config: OptimizerConfig, lr_backbone: float = 1.0, lr_keypoints: float = 1.0
) -> dict[int, float]:
    """Return the factors on the learning rate, by `id` of the parameter, where they are not 1.

    Args:
        model: the network.
        config: the optimizer; with MuSGD the class branches learn faster.
        lr_backbone: factor of the backbone; its square root is that of the layers between backbone and head.
        lr_keypoints: factor of the layers that output keypoints.
    """
    gains: dict[int, float] = {}
    if lr_backbone != 1 and isinstance(model, PoseModel):
        backbone = len(model.yaml["backbone"])
        for index, layer in enumerate(list(model.model)[:-1]):
            gain = lr_backbone if index < backbone else math.sqrt(lr_backbone)
            gains |= {id(parameter): gain for parameter in layer.parameters()}
    if lr_keypoints != 1 and isinstance(model, PoseModel):
        layers = [layer for _, layer in model.head.keypoint_layers()]
        gains |= {id(parameter): lr_keypoints for layer in layers for parameter in layer.parameters()}
    if config.name == "MuSGD":
        gains |= {id(parameter): CLASS_GAIN for parameter in class_parameters(model)}
    return gains


def class_parameters(model: nn.Module) -> list[nn.Parameter]:
    """Return the parameters of the class branches of a network's heads."""
    heads = [module for module in model.modules() if isinstance(module, PoseHead)]
    branches = [getattr(head, name, None) for head in heads for name in ("cv3", "one2one_cv3")]
    return [parameter for branch in branches if branch is not None for parameter in branch.parameters()]


@dataclass(frozen=True)
class FrozenLayers:
    """Layers that training leaves unchanged.

    Attributes:
        layers: indices, ascending.
        norms: batch norms of these layers.
    """

    layers: tuple[int, ...]
    norms: tuple[nn.Module, ...]

    def set_norms_to_eval(self) -> None:
        """Keep the statistics of frozen batch norms fixed; call it after every `model.train()`.

        Only the norms leave training mode: a head returns different outputs there.
        """
        for norm in self.norms:
            norm.eval()


def freeze_layers(model: PoseModel, freeze: int | Sequence[int] | None) -> FrozenLayers:
    """Set `requires_grad` of every parameter: False in frozen layers and the fixed DFL bins, True elsewhere.

    Args:
        model: the network; layer n holds the parameters `model.n.…`.
        freeze: the first n layers, or a list of layer indices; None, 0 or an empty list freezes none.

    Raises:
        UsageError: a layer does not exist, or no parameter would be trained.
    """
    count = len(model.model)
    layers = range(freeze) if isinstance(freeze, int) else sorted(set(freeze or ()))
    if isinstance(freeze, int) and not 0 <= freeze <= count:
        raise UsageError(f"freeze={freeze} is not a valid number of layers: the network has {count}.")
    unknown = [index for index in layers if not 0 <= index < count]
    if unknown:
        raise UsageError(f"freeze={freeze}: layer {unknown[0]} does not exist; the network has layers 0…{count - 1}.")
    model.requires_grad_(True)
    norms: list[nn.Module] = []
    for index in layers:
        layer = model.model[index].requires_grad_(False)
        norms += [module for module in layer.modules() if isinstance(module, nn.BatchNorm2d | nn.SyncBatchNorm)]
    for module in model.modules():
        if isinstance(module, DFL):
            module.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise UsageError(f"freeze={freeze} leaves no layer to train: freeze fewer than all {count} layers.")
    return FrozenLayers(tuple(layers), tuple(norms))


def nominal_accumulation(batch: int, nbs: int) -> int:
    """Return the number of batches that make up the nominal batch `nbs`, at least 1."""
    return max(round(nbs / batch), 1)


def resolved_batch(settings: TrainSettings) -> int:
    """Return `batch` as a number of images.

    Raises:
        UsageError: it is still a request (-1, a share of the memory).
    """
    batch = settings.batch
    if batch < 1 or int(batch) != batch:
        raise UsageError(f"batch={batch} is not a number of images: it must be an integer of at least 1.")
    return int(batch)


def _build(config: OptimizerConfig, groups: list[dict[str, Any]]) -> Optimizer:
    """Build the torch optimizer; without a fused kernel torch selects its multi-tensor implementation."""
    fused = config.name in _FUSED_NAMES and has_fused_kernel(groups)
    extra: dict[str, Any] = {"fused": True} if fused else {}
    if config.name == "AdamW":
        return make_adamw(groups, config.lr, (config.momentum, _BETA2))
    if config.name == "SGD" and fused and config.momentum > 0:
        return _with_zero_momentum(FusedSGD(groups, config.lr, config.momentum))
    if config.name == "SGD":
        nesterov = config.momentum > 0  # torch rejects it without momentum
        return SGD(groups, lr=config.lr, momentum=config.momentum, nesterov=nesterov, **extra)
    if config.name == "MuSGD":
        sgd = MuSGD(groups, config.lr, config.momentum, fused)
        return _with_zero_momentum(sgd) if fused and config.momentum > 0 else sgd
    if config.name == "RMSProp":
        return RMSprop(groups, lr=config.lr, momentum=config.momentum)
    kind: Any = _ADAM_KINDS[config.name]
    return kind(groups, lr=config.lr, betas=(config.momentum, _BETA2), **extra)


def _with_zero_momentum(optimizer: SGD) -> SGD:
    """Create zero momentum buffers before the first step; the updates are the same.

    The fused kernel allocates them uninitialized and leaves them so when an overflow skips its first step.
    """
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter, requires_grad=False)
    return optimizer


def _same_shapes(averages: Mapping[str, Any], parameter: nn.Parameter) -> bool:
    """Return whether each running average is a scalar or has the parameter's shape."""
    return all(
        value.ndim == 0 or value.shape == parameter.shape
        for value in averages.values()
        if isinstance(value, torch.Tensor)
    )


def _in_layout_of(parameter: nn.Parameter, value: Any) -> Any:
    """Copy a running average into the memory format of its parameter, which fused kernels assume."""
    if not isinstance(value, torch.Tensor) or value.ndim == 0:
        return value
    return torch.empty_like(parameter, dtype=value.dtype, requires_grad=False).copy_(value)


def _mismatch_error(reason: str) -> WeightsError:
    return WeightsError(
        f"The optimizer state in the checkpoint does not fit: {reason}. Resume with the checkpoint's own arguments, or "
        "begin a new run from its weights (model=last.pt without resume)."
    )
