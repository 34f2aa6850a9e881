"""Losses and gradients that are no numbers: left out, and where they go on, back to a good state at half the rate."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from yolopose.base.errors import TrainError
from yolopose.base.log import LOGGER
from yolopose.train.scalars import AsyncScalars
from yolopose.train.state import TrainState

IN_A_ROW = 3
"""Batches without a number after which the weights are taken to have run away."""
RETURNS = 3
"""Times that a run goes back before it ends with an error."""


class Diverged(Exception):
    """The weights are no good any more; the text says where it was seen."""


class NanGuard:
    """Watches over a learner, and takes it back where its weights run away.

    Args:
        learner: what is watched.
    """

    def __init__(self, learner: TrainState) -> None:
        self._learner = learner
        self._later = AsyncScalars(learner.device)
        self._bad: Counter[str] = Counter()
        self._state: dict[str, Any] = {}
        self._average: dict[str, Any] = {}
        self._sum = torch.zeros(())

    def keep(self, losses: Tensor) -> None:
        """Keep the state of this moment in the host's memory, to go back to.

        Args:
            losses: sums of the epoch so far.
        """
        self._state = _copied(self._learner.state_dict())
        self._average = _copied(self._learner.ema.model.state_dict())
        self._sum = losses.clone()

    def note(self, what: str, fine: bool | Tensor, where: str) -> None:
        """Note whether a batch gave numbers; of a GPU that is known some batches later.

        Args:
            what: `loss` or `gradient`.
            fine: it is a number.
            where: words for the batch.

        Raises:
            RanAway: several in a row were none.
        """
        if isinstance(fine, Tensor):
            self._later.put(fine, lambda told: self._count(what, bool(told[0]), where))
        else:
            self._count(what, fine, where)

    def _count(self, what: str, fine: bool, where: str) -> None:
        if fine:
            self._bad[what] = 0
            return
        self._bad[what] += 1
        if self._bad[what] >= IN_A_ROW:
            raise Diverged(f"The {what} is no number {IN_A_ROW} times in a row ({where})")
        left_out = "the batch is left out" if what == "loss" else "the step is left out"
        LOGGER.warning(f"The {what} of {where} is no number; {left_out}.")

    def check(self, where: str) -> None:
        """Look through the weights at the end of an epoch, before they are measured and saved.

        Raises:
            RanAway: one is no number, or several losses or gradients in a row were none.
        """
        self._later.flush()
        if not all(bool(torch.isfinite(value).all()) for value in self._learner.model.parameters()):
            raise Diverged(f"Weights are no numbers any more ({where})")

    def go_back(self, why: Diverged) -> Tensor:
        """Go back to the state that was kept, at half the learning rate.

        Returns:
            Sums of the losses at that moment.

        Raises:
            TrainError: that was done several times already.
        """
        learner = self._learner
        rate = learner.rate / 2
        if rate < 0.5**RETURNS:
            raise TrainError(
                f"{why}, after {RETURNS} returns to the last good state at half the rate each: the weights run away "
                f"whatever the rate. Train with a lower lr0 (now {learner.optimizer.choice.lr:g}) or amp=False, and "
                "look at the labels and images."
            )
        learner.model.load_state_dict(self._average)
        learner.load_state_dict(_copied(self._state))
        learner.slow_down(rate)
        self._bad.clear()
        self._later.clear()
        LOGGER.warning(
            f"{why}: back to the last good state, the beginning of this epoch, and on from there at half the learning "
            f"rate ({rate:g} of what the options say)."
        )
        return self._sum.clone()


def _copied(value: Any) -> Any:
    """A state with its tensors copied to the host."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, Mapping):
        return {key: _copied(one) for key, one in value.items()}  # pyright: ignore[reportUnknownVariableType]
    return [_copied(one) for one in value] if isinstance(value, list) else value  # pyright: ignore[reportUnknownVariableType]
