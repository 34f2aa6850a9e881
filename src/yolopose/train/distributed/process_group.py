"""What the processes of a training do together: sums over all of them, and words of the one that leads."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from yolopose.base.cpu import available_cpus
from yolopose.train.distributed.heartbeat import Heartbeat
from yolopose.train.process import is_out_of_memory


class ProcessGroup:
    """The processes of a training, seen from one of them. `ProcessGroup()` is a single process.

    Each method is called by all of them at the same point of the run, and waits for the others.

    Args:
        rank: number of this process, from 0; rank 0 leads: it measures, writes and speaks.
        size: how many there are.
        local: how many of them are on this machine.
        pulse: tells of a process that is lost; without it others are waited for as long as it takes.

    Attributes:
        rank, size, local: as given.
    """

    def __init__(self, rank: int = 0, size: int = 1, local: int = 1, heartbeat: Heartbeat | None = None) -> None:
        self.rank, self.size, self.local, self._pulse = rank, size, local, heartbeat

    @property
    def leads(self) -> bool:
        """Whether this is the process that measures, writes and speaks."""
        return self.rank == 0

    @property
    def workers(self) -> int:
        """Processes that may make batches for this one, so that all on this machine find room."""
        return max(available_cpus() // self.local, 1)

    def sum(self, values: Tensor) -> Tensor:
        """Sum a tensor in place over all processes, on its device; returns it."""
        self._together(lambda: dist.all_reduce(values))
        return values

    def total(self, *numbers: float) -> list[float]:
        """Return numbers summed over all processes; no GPU is waited for."""
        return list(numbers) if self.size == 1 else self.sum(torch.tensor(numbers, dtype=torch.float64)).tolist()

    def told(self, *numbers: float) -> list[float]:
        """Return the numbers of rank 0."""
        if self.size == 1:
            return list(numbers)
        values = torch.tensor(numbers, dtype=torch.float64)
        self._together(lambda: dist.broadcast(values, 0))
        return values.tolist()

    def tell(self, value: object) -> None:
        """Send tensors and plain values in lists and dicts to the others, who `hear` it."""
        if self.size == 1:
            return
        buffer = io.BytesIO()
        torch.save(value, buffer)
        content = torch.frombuffer(bytearray(buffer.getvalue()), dtype=torch.uint8)
        self.told(len(content))
        self._together(lambda: dist.broadcast(content, 0))

    def hear(self) -> Any:
        """Return what rank 0 tells; its tensors are on the CPU."""
        content = torch.empty(int(self.told(0)[0]), dtype=torch.uint8)
        self._together(lambda: dist.broadcast(content, 0))
        return torch.load(io.BytesIO(content.numpy().tobytes()), map_location="cpu", weights_only=True)

    def gather(self, model: nn.Module) -> bool:
        """Sum the gradients of all processes, and averages the statistics of norms that are in training mode.

        Returns:
            Whether any process has gradients; where none has, nothing is done.
        """
        learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
        [found] = self.total(float(any(parameter.grad is not None for parameter in learned)))
        if not found or self.size == 1:
            return found > 0
        with torch.no_grad():
            for parameter in learned:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
            self._flat([parameter.grad for parameter in learned if parameter.grad is not None], 1)
            self._flat(list(_statistics(model)), self.size)
        return True

    def check(self) -> None:
        """Look whether all are still there; the one method that does not wait for the others.

        Raises:
            RankLost: one is not.
        """
        if self._pulse:
            self._pulse.check()

    def _flat(self, tensors: list[Tensor], divisor: int) -> None:
        """Sum tensors over all processes in one go."""
        if not tensors:
            return
        flat = self.sum(torch.cat([one.reshape(-1) for one in tensors])).div_(divisor)
        pieces = flat.split([one.numel() for one in tensors])
        for one, piece in zip(tensors, pieces, strict=True):
            one.copy_(piece.view(one.shape))

    def _together(self, work: Callable[[], object]) -> None:
        if self.size == 1:
            return
        if self._pulse is None:
            work()
            return
        try:
            with self._pulse.waiting():
                work()
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            raise self._pulse.lost(error) from error


def _statistics(model: nn.Module) -> Iterator[Tensor]:
    for module in model.modules():
        if module.training:
            yield from (one for one in module.buffers(recurse=False) if one.is_floating_point())
