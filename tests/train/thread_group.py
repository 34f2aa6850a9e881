"""A process group of threads, for tests of distributed training without processes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from yolopose.train.distributed import ProcessGroup


class Table:
    """Exchanges values between the threads."""

    def __init__(self, size: int) -> None:
        self.barrier = threading.Barrier(size, timeout=60)
        self.laid: list[Any] = [None] * size

    def exchange(self, rank: int, value: Any) -> list[Any]:
        """Return what all have laid down, by rank."""
        self.laid[rank] = value
        self.barrier.wait()
        found = list(self.laid)
        self.barrier.wait()
        return found


class ThreadGroup(ProcessGroup):
    """Process group of one thread."""

    def __init__(self, rank: int, size: int, table: Table) -> None:
        super().__init__(rank, size, size)
        self._table = table

    def all_reduce(self, values: Tensor) -> Tensor:
        return values.copy_(torch.stack(self._table.exchange(self.rank, values.clone())).sum(0))

    def all_reduce_async(self, values: Tensor) -> Callable[[], object]:
        self.all_reduce(values)
        return lambda: None

    def broadcast_scalars(self, *values: float) -> list[float]:
        return list(map(float, self._table.exchange(self.rank, values)[0]))

    def broadcast_object(self, value: object = None) -> Any:
        return self._table.exchange(self.rank, value)[0]


def run_ranks(work: Callable[[ProcessGroup], Any], size: int = 2) -> list[Any]:
    """Call a function in a thread for each rank; returns what they gave, or raises what rank 0, or another, raised."""
    table = Table(size)
    given: list[Any] = [None] * size
    raised: list[BaseException | None] = [None] * size

    def one(rank: int) -> None:
        try:
            given[rank] = work(ThreadGroup(rank, size, table))
        except BaseException as error:
            raised[rank] = error
            table.barrier.abort()

    threads = [threading.Thread(target=one, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    errors = [error for error in raised if error is not None]
    for error in sorted(errors, key=lambda one: isinstance(one, threading.BrokenBarrierError)):
        raise error
    return given
