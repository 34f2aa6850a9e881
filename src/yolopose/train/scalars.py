"""Scalars of a device: asynchronous copies to the host, and the running means of the losses."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from yolopose.criterion import LossTerms
from yolopose.train.process import is_async

TRANSFER_SIZE = 16
"""Values that are copied to the host in one transfer."""

Callback = Callable[[list[float]], None]


@dataclass(frozen=True, slots=True, eq=False)
class _Transfer:
    """A copy in progress: host tensor, event that marks its end (None on the CPU), and (length, callback) of each."""

    values: Tensor
    done: torch.cuda.Event | None
    callbacks: list[tuple[int, Callback]]

    def deliver(self) -> None:
        """Wait for the copy and call each callback with its part of the values."""
        if self.done is not None:
            self.done.synchronize()
        values = self.values.tolist()
        start = 0
        for length, callback in self.callbacks:
            callback(values[start : start + length])
            start += length


class AsyncScalars:
    """Pass device scalars to callbacks, in order, without making the host wait for the device.

    On the CPU each value is available at once and delivered at once.

    Args:
        device: where the values are computed.
    """

    def __init__(self, device: torch.device) -> None:
        self._async = is_async(device)
        self._on_gpu = device.type == "cuda"
        self._pending: list[tuple[Tensor, Callback]] = []
        self._transfers: deque[_Transfer] = deque()

    def put(self, values: Tensor, callback: Callback) -> None:
        """Queue values; `callback` receives them now or in a later call, and may raise."""
        if not self._async:
            callback(values.flatten().tolist())
            return
        self._pending.append((values.detach().flatten().float(), callback))
        if len(self._pending) >= TRANSFER_SIZE:
            # The previous transfer has finished long ago. Its time is counted in calls, not seconds: every process of
            # a group must see a value at the same batch.
            self._deliver()
            self._transfer()

    def flush(self) -> None:
        """Wait for all queued values and deliver them."""
        if self._pending:
            self._transfer()
        self._deliver()

    def clear(self) -> None:
        """Drop all values that have not been delivered."""
        self._pending.clear()
        self._transfers.clear()

    def _deliver(self) -> None:
        while self._transfers:
            self._transfers.popleft().deliver()

    def _transfer(self) -> None:
        pending, self._pending = self._pending, []
        values = torch.cat([tensor for tensor, _ in pending])
        callbacks = [(len(tensor), callback) for tensor, callback in pending]
        done = None
        if self._on_gpu:
            pinned = torch.empty(len(values), pin_memory=True)
            values = pinned.copy_(values, non_blocking=True)
            done = torch.cuda.Event()
            done.record()
        self._transfers.append(_Transfer(values, done, callbacks))


class LossMeter:
    """Running means of the loss terms of an epoch.

    Args:
        terms: names of the terms.
        device: where they are computed.

    Attributes:
        names: `box_loss`, ….
        sum: (T,) sums, on the device.
        mean: (T,) means over the batches, on the device.
        displayed: means by name on the host; on a GPU they lag some batches behind.
    """

    def __init__(self, terms: Sequence[str], device: torch.device) -> None:
        self.names = tuple(f"{term}_loss" for term in terms)
        self.sum = torch.zeros(len(terms), device=device)
        self.mean = torch.zeros(len(terms))
        self.displayed = self.to_dict()
        self._scalars = AsyncScalars(device)

    def start_epoch(self) -> None:
        """Set the sums to 0; `mean` remains that of the last epoch until the first batch is added."""
        self.sum.zero_()

    def add(self, terms: LossTerms, batches: int, *, last: bool) -> None:
        """Add the losses of a batch; a value that is not finite counts as 0.

        Args:
            terms: its losses.
            batches: batches of the epoch so far, this one included.
            last: whether it is the last batch of the epoch: pending values are waited for.
        """
        self.sum += terms.values.nan_to_num(0.0, 0.0, 0.0)
        self.mean = self.sum / batches
        self._scalars.put(self.mean, self._display)
        if last:
            self._scalars.flush()

    def to_dict(self) -> dict[str, float]:
        """Return the means by name; on a GPU this waits for the device."""
        return dict(zip(self.names, self.mean.tolist(), strict=True))

    def _display(self, means: list[float]) -> None:
        self.displayed = dict(zip(self.names, means, strict=True))
