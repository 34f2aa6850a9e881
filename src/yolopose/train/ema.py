"""Exponential moving average of the network, which is validated and saved."""

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

    The tensors of both networks are paired once: create it after the network has its weights and is on its device, from
    the network itself and not from a compiled wrapper. Integer buffers (batch counters) are not averaged.

    Args:
        source: the network in training, whose state is the initial average.
        decay: weight of the old average after many updates.
        tau: updates after which the weight is 63 % of `decay`.

    Attributes:
        model: the average, in evaluation mode, without gradients. Do not fuse it.
        updates: number of updates.
    """

    def __init__(self, source: PoseModel, decay: float = DECAY, tau: float = TAU) -> None:
        self.model = copy.deepcopy(source).eval().requires_grad_(False)
        self.updates = 0
        self._final_decay = decay
        self._tau = tau
        self._averaged = _float_tensors(self.model)
        self._source = _float_tensors(source)

    @property
    def decay(self) -> float:
        """Weight of the old average in the last update: rises from 0, so that the initial state fades."""
        return self._final_decay * (1 - math.exp(-self.updates / self._tau))

    def update(self) -> None:
        """Add the current weights to the average; call it after each optimizer step."""
        self.updates += 1
        get_ema_multi_avg_fn(self.decay)(self._averaged, self._source, None)

    def state_dict(self) -> dict[str, Any]:
        """Return `updates` and the average's `model` state; the tensors are the live ones, not copies."""
        return {"updates": self.updates, "model": self.model.state_dict()}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Restore `state_dict()` of an interrupted run.

        Raises:
            WeightsError: the state belongs to another network.
        """
        try:
            self.model.load_state_dict(saved["model"])
        except RuntimeError as error:
            raise WeightsError(
                "The averaged weights in the checkpoint belong to another network, so the run cannot be resumed: use "
                f"the checkpoint's own arguments. {error}"
            ) from error
        self.updates = int(saved["updates"])


def _float_tensors(model: nn.Module) -> list[Any]:
    """Return the floating-point tensors of a network's state, not copies, in the order of its state_dict."""
    return [tensor for tensor in model.state_dict(keep_vars=True).values() if tensor.is_floating_point()]
