"""What the losses of an epoch come to so far."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from yolopose.criterion import LossTerms
from yolopose.train.scalars import AsyncScalars


class LossMeter:
    """Sums the losses of the batches of an epoch.

    Args:
        terms: names of the terms.
        device: where they are computed.

    Attributes:
        names: `box_loss`, ….
        sum: (T,) sums, on the device.
        mean: (T,) means over the batches, on the device.
        shown: the means by name, as plain numbers; on a GPU they come some batches later.
    """

    def __init__(self, terms: Sequence[str], device: torch.device) -> None:
        self.names = tuple(f"{term}_loss" for term in terms)
        self.sum, self.mean = torch.zeros(len(terms), device=device), torch.zeros(len(terms))
        self.shown = self.named()
        self._later = AsyncScalars(device)

    def add(self, terms: LossTerms, batches: int, *, last: bool) -> None:
        """Add a batch; what is no number counts as 0.

        Args:
            terms: its losses.
            batches: how many the epoch has had with it.
            last: whether none follows, so that what is on its way is waited for.
        """
        self.sum += terms.stack().nan_to_num(0.0, 0.0, 0.0)
        self.mean = self.sum / batches
        self._later.put(self.mean, self._show)
        if last:
            self._later.flush()

    def named(self) -> dict[str, float]:
        """Return the means by name; on a GPU this waits for the device."""
        return dict(zip(self.names, self.mean.tolist(), strict=True))

    def _show(self, means: list[float]) -> None:
        self.shown = dict(zip(self.names, means, strict=True))
