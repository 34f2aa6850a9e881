"""Numbers of a device that are read once they have arrived: the host runs ahead, and waiting would cost both.

On the CPU there is nothing to wait for, and each number is used at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

EVERY = 16
"""Numbers that travel together."""

Use = Callable[[list[float]], None]


def is_async(device: torch.device) -> bool:
    """Whether the host gives a device its work and goes on, so that reading a number would make it wait."""
    return device.type == "cuda"


@dataclass(frozen=True, slots=True, eq=False)
class _Journey:
    """Numbers on their way: the host's memory, what says that they are there, and what each is for."""

    numbers: Tensor
    arrived: Any  # a torch.cuda.Event; None where nothing is waited for
    uses: list[tuple[int, Use]]


class AsyncScalars:
    """Hands numbers of a device to functions, in order, when they can be read without waiting.

    Args:
        device: where the numbers are made.
    """

    def __init__(self, device: torch.device) -> None:
        self._ahead, self._on_gpu = is_async(device), device.type == "cuda"
        self._waiting: list[tuple[Tensor, Use]] = []
        self._sent: deque[_Journey] = deque()

    def put(self, numbers: Tensor, use: Use) -> None:
        """Note numbers; `use` is called with them now or in a later call. It may raise."""
        if not self._ahead:
            use(numbers.flatten().tolist())
            return
        self._waiting.append((numbers.detach().flatten().float(), use))
        if len(self._waiting) >= EVERY:
            # those sent EVERY numbers ago are long there; looking by the clock would let processes of a team part ways
            self._arrive()
            self._send()

    def flush(self) -> None:
        """Wait for all numbers, and uses them."""
        if self._waiting:
            self._send()
        self._arrive()

    def clear(self) -> None:
        """Forget all numbers that have not been used."""
        self._waiting.clear()
        self._sent.clear()

    def _arrive(self) -> None:
        while self._sent:
            journey = self._sent.popleft()
            if journey.arrived is not None:
                journey.arrived.synchronize()
            self._use(journey)

    def _send(self) -> None:
        waiting, self._waiting = self._waiting, []
        together = torch.cat([numbers for numbers, _ in waiting])
        uses = [(len(numbers), use) for numbers, use in waiting]
        if not self._on_gpu:
            self._sent.append(_Journey(together, None, uses))
            return
        there = torch.empty(len(together), pin_memory=True)
        there.copy_(together, non_blocking=True)
        arrived = torch.cuda.Event()
        arrived.record()
        self._sent.append(_Journey(there, arrived, uses))

    @staticmethod
    def _use(journey: _Journey) -> None:
        values, start = journey.numbers.tolist(), 0
        for count, use in journey.uses:
            use(values[start : start + count])
            start += count
