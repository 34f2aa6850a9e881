"""The average of the network over the steps of training: what is validated and saved."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from yolopose.base.errors import WeightsError
from yolopose.nn import PoseModel

DECAY = 0.9999
TAU = 2000.0


class EMA:
    """Exponential moving average of a network's floating-point state, parameters and buffers alike.

    The tensors of both networks are paired once, so make it after the network has moved to its device and has its
    weights, and from the network itself, not from what `compile` or distribution wraps around it. Whole numbers
    (batch counters) are not averaged; nothing reads them.

    Args:
        source: the network in training; its state is the start of the average.

    Attributes:
        model: the average, in evaluation mode, without gradients. Do not fuse it.
        updates: updates so far.
    """

    def __init__(self, source: PoseModel) -> None:
        self.model = copy.deepcopy(source).eval().requires_grad_(False)
        self.updates = 0
        self._mine, self._live = _floats(self.model), _floats(source)

    @property
    def decay(self) -> float:
        """Weight of the old average in the last update: grows from 0 to `DECAY`, so that the start is forgotten."""
        return DECAY * (1 - math.exp(-self.updates / TAU))

    def update(self) -> None:
        """Move the average towards the network; call it after each step of the optimizer."""
        self.updates += 1
        get_ema_multi_avg_fn(self.decay)(self._mine, self._live, None)

    def state_dict(self) -> dict[str, Any]:
        """Return `updates` and the average's `model` state; the tensors are the live ones, not copies."""
        return {"updates": self.updates, "model": self.model.state_dict()}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Go on from `state_dict()` of an interrupted run.

        Raises:
            WeightsError: the state is of another network.
        """
        try:
            self.model.load_state_dict(saved["model"])
        except RuntimeError as error:
            raise WeightsError(
                "The averaged weights in the checkpoint are not of this network, so the run cannot go on from them: "
                f"resume with the checkpoint's own arguments. {error}"
            ) from error
        self.updates = int(saved["updates"])


def _floats(model: nn.Module) -> list[Any]:
    """The floating-point tensors of a network's state themselves, in the order of its state_dict."""
    return [tensor for tensor in model.state_dict(keep_vars=True).values() if tensor.is_floating_point()]
