"""Non-finite losses and gradients: skip the batch, and roll back when they persist."""

from __future__ import annotations

from collections import Counter
from typing import Any, cast

import torch
from torch import Tensor

from yolopose.base.errors import TrainError
from yolopose.base.log import LOGGER
from yolopose.train.scalars import AsyncScalars
from yolopose.train.state import TrainState

MAX_CONSECUTIVE = 3
"""Consecutive non-finite batches after which the weights count as diverged."""
MAX_ROLLBACKS = 3
"""Rollbacks before a run ends with an error; each halves the learning rates."""


class Diverged(Exception):
    """The weights have diverged; the message states where."""


class NanGuard:
    """Count non-finite values and restore the state of the epoch's start when the weights diverge.

    Args:
        state: what is watched.
    """

    def __init__(self, state: TrainState) -> None:
        self._state = state
        self._scalars = AsyncScalars(state.device)
        self._consecutive: Counter[str] = Counter()
        self._saved_state: dict[str, Any] = {}
        self._saved_ema: dict[str, Any] = {}
        self._saved_losses = torch.zeros(())

    def snapshot(self, losses: Tensor) -> None:
        """Copy the state to host memory for a later `rollback`.

        Args:
            losses: loss sums of the epoch so far.
        """
        self._saved_state = _to_host(self._state.state_dict())
        self._saved_ema = _to_host(self._state.ema.model.state_dict())
        self._saved_losses = losses.clone()

    def record(self, what: str, finite: bool | Tensor, where: str) -> None:
        """Count whether a value was finite; values of a GPU are counted some batches later.

        Args:
            what: `loss` or `gradient`.
            finite: whether it was.
            where: epoch and batch, for messages.

        Raises:
            Diverged: several consecutive ones were not.
        """
        if isinstance(finite, Tensor):
            self._scalars.put(finite, lambda values: self._count(what, bool(values[0]), where))
        else:
            self._count(what, finite, where)

    def _count(self, what: str, finite: bool, where: str) -> None:
        if finite:
            self._consecutive[what] = 0
            return
        self._consecutive[what] += 1
        if self._consecutive[what] >= MAX_CONSECUTIVE:
            raise Diverged(f"The {what} is not finite {MAX_CONSECUTIVE} times in a row ({where})")
        skipped = "batch" if what == "loss" else "step"
        LOGGER.warning(f"The {what} of {where} is not finite; the {skipped} is skipped.")

    def check_weights(self, where: str) -> None:
        """Check the weights at the end of an epoch, before they are validated and saved.

        Raises:
            Diverged: a weight is not finite, or several consecutive losses or gradients were not.
        """
        self._scalars.flush()
        if not all(bool(torch.isfinite(value).all()) for value in self._state.model.parameters()):
            raise Diverged(f"Weights are not finite ({where})")

    def rollback(self, reason: Diverged) -> Tensor:
        """Restore the snapshot and halve the learning rates.

        Returns:
            Loss sums at the snapshot.

        Raises:
            TrainError: the run was rolled back `MAX_ROLLBACKS` times already.
        """
        state = self._state
        lr_scale = state.lr_scale / 2
        if lr_scale < 0.5**MAX_ROLLBACKS:
            raise TrainError(
                f"{reason}, after {MAX_ROLLBACKS} rollbacks that each halved the learning rate: training diverges. "
                f"Lower lr0 (now {state.optimizer.config.lr:g}) or set amp=False, and check labels and images."
            )
        # load_state_dict expects the averaged weights in the network
        state.model.load_state_dict(self._saved_ema)
        state.load_state_dict(_to_host(self._saved_state))
        state.scale_lr(lr_scale)
        self._consecutive.clear()
        self._scalars.clear()
        LOGGER.warning(
            f"{reason}. Restored the state from the snapshot; training continues with the learning rates "
            f"times {lr_scale:g}."
        )
        return self._saved_losses.clone()


def _to_host(value: Any) -> Any:
    """Copy a nested state, with its tensors copied to host memory."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        items = cast("dict[str, Any]", value)
        return {key: _to_host(item) for key, item in items.items()}
    if isinstance(value, list):
        return [_to_host(item) for item in cast("list[Any]", value)]
    return value
