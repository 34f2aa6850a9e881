"""Layers that training leaves as they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from yolopose.base.errors import UsageError
from yolopose.nn import PoseModel
from yolopose.nn.conv import DFL


@dataclass(frozen=True)
class FrozenLayers:
    """What `freeze_layers` froze.

    Attributes:
        layers: indices of the frozen layers, ascending.
        norms: their batch norms.
    """

    layers: tuple[int, ...]
    norms: tuple[nn.Module, ...]

    def hold(self) -> None:
        """Keep the statistics of frozen batch norms still; call it after every `model.train()`.

        A frozen layer must give what it gave in the weights it came from, and moving statistics would change that.
        Only the norms leave training mode: a head gives other outputs there.
        """
        for norm in self.norms:
            norm.eval()


def freeze_layers(model: PoseModel, freeze: int | Sequence[int] | None) -> FrozenLayers:
    """Log for every parameter whether it is trained: all but those of frozen layers and the fixed bins of boxes.

    Earlier choices are forgotten, so a network can be frozen otherwise in its next training.

    Args:
        model: the network; layer n holds the parameters `model.n.…`.
        freeze: the first n layers, or a list of layer indices; None, 0 or an empty list freezes none.

    Raises:
        UsageError: there is no such layer, or nothing would be left to train.
    """
    count = len(model.model)
    layers = range(freeze) if isinstance(freeze, int) else sorted(set(freeze or ()))
    if isinstance(freeze, int) and not 0 <= freeze <= count:
        raise UsageError(f"freeze={freeze} is not a number of layers: the network has {count}.")
    wrong = [index for index in layers if not 0 <= index < count]
    if wrong:
        raise UsageError(f"freeze={freeze}: there is no layer {wrong[0]}; the network has layers 0…{count - 1}.")
    model.requires_grad_(True)
    norms: list[nn.Module] = []
    for index in layers:
        layer = model.model[index].requires_grad_(False)
        norms += [module for module in layer.modules() if isinstance(module, nn.BatchNorm2d | nn.SyncBatchNorm)]
    for module in model.modules():
        if isinstance(module, DFL):
            module.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise UsageError(f"freeze={freeze} leaves nothing to train: freeze fewer than all {count} layers.")
    return FrozenLayers(tuple(layers), tuple(norms))
