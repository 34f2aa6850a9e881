"""The optimizer: which one, its three parameter groups, and how much the weights decay."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.optim import SGD, Adam, Adamax, AdamW, NAdam, Optimizer, RAdam, RMSprop

from yolopose.base.errors import UsageError, WeightsError, did_you_mean
from yolopose.config import TrainOptions
from yolopose.nn import PoseHead
from yolopose.train.musgd import MuSGD

WEIGHT, NORM, BIAS = "weight", "norm", "bias"
"""Roles of the parameter groups, in their order."""

CLASS_GAIN = 3.0
"""How much faster the class branches learn with MuSGD."""

_LONG_RUN = 10_000  # iterations above which `auto` takes SGD
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
# torch has one-kernel updates for these; on the CPU too they are three to seven times faster than the plain ones
_FUSED_NAMES = ("SGD", "MuSGD", "Adam", "AdamW")
_FUSED_DEVICES = ("cpu", "cuda")


@dataclass(frozen=True)
class OptimizerConfig:
    """An optimizer by its numbers.

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
    """A torch optimizer and the numbers it was made from.

    Attributes:
        torch: the optimizer; each of its groups has a key `role`: `weight`, `norm` or `bias`, and `gain` where it
            learns faster than the rates say.
        choice: which one it is.
        weight_decay: decay of the weights, scaled to the batch.
    """

    torch: Optimizer
    choice: OptimizerConfig
    weight_decay: float

    def __str__(self) -> str:
        counts = ", ".join(f"{len(group['params'])} {group['role']}" for group in self.torch.param_groups)
        choice = self.choice
        return f"{choice.name}(lr={choice.lr:g}, momentum={choice.momentum:g}, decay={self.weight_decay:g}): {counts}"

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs: `name`, and torch's `state` and `param_groups`."""
        return {"name": self.choice.name, **self.torch.state_dict()}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Take over the running averages of an interrupted run; rates, decay and kernels stay this run's own.

        Raises:
            WeightsError: the state is of another optimizer or network.
        """
        own = self.torch.state_dict()["param_groups"]
        if saved.get("name") != self.choice.name:
            raise _misfit(f"of optimizer={saved.get('name')}, and this run uses {self.choice.name}")
        if [len(group["params"]) for group in saved["param_groups"]] != [len(group["params"]) for group in own]:
            raise _misfit("of a network with another number of parameters")
        parameters = [parameter for group in self.torch.param_groups for parameter in group["params"]]
        state: dict[int, dict[str, Any]] = {}
        for index, averages in saved["state"].items():
            if not _fits(averages, parameters[index]):
                raise _misfit(f"of a network with other shapes (parameter {index})")
            state[index] = {name: _laid_out_as(parameters[index], value) for name, value in averages.items()}
        # with our own groups a state saved on one device goes on with the kernels that suit another
        self.torch.load_state_dict({"state": state, "param_groups": own})


def make_optimizer(model: nn.Module, options: TrainOptions, *, images: int, nc: int) -> OptimizerHandle:
    """Make the optimizer of a run; the network must be on its device already.

    All parameters are in the groups, also those that `freeze` holds: what has no gradient is not changed.

    Args:
        model: the network.
        options: `batch` must be settled to a whole number.
        images: training images of an epoch.
        nc: number of classes.

    Raises:
        UsageError: there is no such optimizer, or a number does not go with it.
    """
    choice = choose(options, images=images, nc=nc)
    batch = settled_batch(options)
    decay = options.weight_decay * batch * nominal_accumulation(batch, options.nbs) / options.nbs
    groups = parameter_groups(model, decay, class_parameters(model) if choice.name == "MuSGD" else ())
    return OptimizerHandle(_make(choice, groups), choice, decay)


def choose(options: TrainOptions, *, images: int, nc: int) -> OptimizerConfig:
    """Settle `optimizer`; `auto` goes by the length of the run and sets lr, momentum and bias warm-up itself.

    Args:
        options: `batch` must be settled to a whole number.
        images: training images of an epoch.
        nc: number of classes.

    Raises:
        UsageError: there is no such optimizer, or `momentum` is 1 or more.
    """
    name = options.optimizer
    if name not in _NAMES:
        raise UsageError(
            f"optimizer={name!r} is unknown: it is one of {', '.join(_NAMES)}.{did_you_mean(name, _NAMES)}"
        )
    if name == "auto":
        iterations = math.ceil(images / max(settled_batch(options), options.nbs)) * options.epochs
        if iterations > _LONG_RUN:
            return OptimizerConfig("SGD", 0.01, 0.9, 0.0)
        return OptimizerConfig("AdamW", round(0.002 * 5 / (4 + nc), 6), 0.9, 0.0)
    if not 0 <= options.momentum < 1:
        raise UsageError(
            f"momentum={options.momentum} leaves no room for new gradients: it must be 0 or more, below 1."
        )
    return OptimizerConfig(name, options.lr0, options.momentum, options.warmup_bias_lr)


def parameter_groups(
    model: nn.Module, weight_decay: float, faster: Iterable[nn.Parameter] = ()
) -> list[dict[str, Any]]:
    """Sort all parameters into three groups: weights (which decay), norm weights and biases (which do not).

    Weights that are never trained, as the fixed bins of the boxes, count with the weights.

    Args:
        model: the network.
        weight_decay: of the weights.
        faster: parameters that learn at a higher rate; they make three more groups, whose key `gain` says how much.
    """
    quick = {id(parameter) for parameter in faster}
    members: dict[tuple[bool, str], list[nn.Parameter]] = {}
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            role = BIAS if name == "bias" else NORM if isinstance(module, _NORMS) else WEIGHT
            members.setdefault((id(parameter) in quick, role), []).append(parameter)
    return [
        {"params": members.get((fast, role), []), "role": role, "weight_decay": weight_decay if role == WEIGHT else 0.0}
        | ({"gain": CLASS_GAIN} if fast else {})
        for fast in ((False, True) if quick else (False,))
        for role in (WEIGHT, NORM, BIAS)
    ]


def class_parameters(model: nn.Module) -> list[nn.Parameter]:
    """Return the parameters of a network's class branches."""
    branches = [getattr(module, name, None) for module in model.modules() for name in ("cv3", "one2one_cv3")
                if isinstance(module, PoseHead)]  # fmt: skip
    return [parameter for branch in branches if branch is not None for parameter in branch.parameters()]


def nominal_accumulation(batch: int, nbs: int) -> int:
    """Return how many batches make up the nominal batch `nbs`, at least 1."""
    return max(round(nbs / batch), 1)


def settled_batch(options: TrainOptions) -> int:
    """Return `batch` as a number of images.

    Raises:
        UsageError: it is still a wish (-1, a share of the memory).
    """
    batch = options.batch
    if batch < 1 or int(batch) != batch:
        raise UsageError(f"batch={batch} is not a number of images: give a whole number, 1 or more.")
    return int(batch)


def _make(choice: OptimizerConfig, groups: list[dict[str, Any]]) -> Optimizer:
    """Build the torch optimizer; where no fused kernel is taken, torch itself picks the multi-tensor form."""
    devices = {parameter.device.type for group in groups for parameter in group["params"]}
    fused = choice.name in _FUSED_NAMES and devices <= set(_FUSED_DEVICES)
    extra: dict[str, Any] = {"fused": True} if fused else {}
    if choice.name == "SGD":
        nesterov = choice.momentum > 0  # torch refuses it without momentum
        made = SGD(groups, lr=choice.lr, momentum=choice.momentum, nesterov=nesterov, **extra)
        return _with_momentum(made) if fused and nesterov else made
    if choice.name == "MuSGD":
        made = MuSGD(groups, choice.lr, choice.momentum, fused)
        return _with_momentum(made) if fused and choice.momentum > 0 else made
    if choice.name == "RMSProp":
        return RMSprop(groups, lr=choice.lr, momentum=choice.momentum)
    kind: Any = _ADAM_KINDS[choice.name]
    return kind(groups, lr=choice.lr, betas=(choice.momentum, _BETA2), **extra)


def _with_momentum(optimizer: SGD) -> SGD:
    """Return an optimizer its momentum, zero, before its first step, which changes no number.

    The fused kernel would take memory as it comes, and leave it so where the first step is left out for an overflow.
    """
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter, requires_grad=False)
    return optimizer


def _fits(averages: Mapping[str, Any], parameter: nn.Parameter) -> bool:
    """Whether each running average is a single number or of the parameter's shape."""
    return all(
        value.ndim == 0 or value.shape == parameter.shape
        for value in averages.values()
        if isinstance(value, torch.Tensor)
    )


def _laid_out_as(parameter: nn.Parameter, value: Any) -> Any:
    """A running average in the memory order of its parameter: fused kernels go through both side by side."""
    if not isinstance(value, torch.Tensor) or value.ndim == 0:
        return value
    return torch.empty_like(parameter, dtype=value.dtype, requires_grad=False).copy_(value)


def _misfit(reason: str) -> WeightsError:
    return WeightsError(
        f"The optimizer state in the checkpoint does not fit: it is {reason}. Resume with the checkpoint's own "
        "arguments, or begin a new run from its weights (model=last.pt without resume)."
    )
