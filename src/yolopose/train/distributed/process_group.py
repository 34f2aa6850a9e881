"""Collective operations of a distributed training, and the overlap of gradient reduction with the backward pass."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from yolopose.base.cpu import available_cpus
from yolopose.train.distributed.heartbeat import Heartbeat
from yolopose.train.process import is_out_of_memory

_BUCKET_BYTES = 4 * 2**20  # small, so that even the gradients of the n networks fill several buckets


class ProcessGroup:
    """The processes of a training, as seen from one of them. `ProcessGroup()` is a single process.

    Unless stated otherwise, all processes call a method at the same point of the run, and it blocks until they have.

    Args:
        rank: index of this process; rank 0 is the main process, which validates, writes and logs.
        size: number of processes.
        local_size: number of processes on this machine.
        heartbeat: detects lost processes; without it the others are waited for without limit.

    Attributes:
        rank, size, local_size: as given.
    """

    def __init__(self, rank: int = 0, size: int = 1, local_size: int = 1, heartbeat: Heartbeat | None = None) -> None:
        self.rank = rank
        self.size = size
        self.local_size = local_size
        self._heartbeat = heartbeat

    @property
    def is_main(self) -> bool:
        """Whether this is the main process."""
        return self.rank == 0

    @property
    def max_workers(self) -> int:
        """Processes that may make samples for this one, as its share of the CPUs of this machine."""
        return max(available_cpus() // self.local_size, 1)

    def all_reduce(self, values: Tensor) -> Tensor:
        """Sum a tensor in place over all processes, on its device, and return it."""
        self._run(lambda: dist.all_reduce(values))
        return values

    def all_reduce_async(self, values: Tensor) -> Callable[[], object]:
        """Start to sum a tensor in place; return a function that blocks until it is done."""
        work = self._run(lambda: dist.all_reduce(values, async_op=True))
        return lambda: self._run(work.wait)

    def all_reduce_scalars(self, *values: float) -> list[float]:
        """Return values summed over all processes, without synchronizing a GPU."""
        if self.size == 1:
            return list(values)
        return self.all_reduce(torch.tensor(values, dtype=torch.float64)).tolist()

    def broadcast_scalars(self, *values: float) -> list[float]:
        """Return the values of rank 0."""
        if self.size == 1:
            return list(values)
        tensor = torch.tensor(values, dtype=torch.float64)
        self._run(lambda: dist.broadcast(tensor, 0))
        return tensor.tolist()

    def broadcast_object(self, value: object = None) -> Any:
        """Return the object of rank 0: tensors and plain values in lists and dicts, with the tensors on the CPU.

        It is read with `weights_only`, so nothing is unpickled (unlike `dist.broadcast_object_list`).
        """
        if self.size == 1:
            return value
        if self.is_main:
            buffer = io.BytesIO()
            torch.save(value, buffer)
            content = torch.frombuffer(bytearray(buffer.getvalue()), dtype=torch.uint8)
            self.broadcast_scalars(len(content))
            self._run(lambda: dist.broadcast(content, 0))
            return value
        received = torch.empty(int(self.broadcast_scalars(0)[0]), dtype=torch.uint8)
        self._run(lambda: dist.broadcast(received, 0))
        return torch.load(io.BytesIO(received.numpy().tobytes()), map_location="cpu", weights_only=True)

    def all_reduce_gradients(self, model: nn.Module) -> bool:
        """Sum the gradients over all processes and average the statistics of norms in training mode.

        Returns:
            Whether any process has gradients; otherwise nothing is changed.
        """
        has_gradients = any(parameter.grad is not None for parameter in model.parameters())
        [ranks_with_gradients] = self.all_reduce_scalars(float(has_gradients))
        if not ranks_with_gradients or self.size == 1:
            return ranks_with_gradients > 0
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        gradients = _gradients(parameters)
        flat = self.all_reduce(_flatten(gradients))
        _unflatten(flat, gradients)
        self.average_norm_statistics(model)
        return True

    @torch.no_grad()
    def average_norm_statistics(self, model: nn.Module) -> None:
        """Average the running statistics of norms in training mode over all processes."""
        modules = (module for module in model.modules() if module.training)
        buffers = [
            buffer for module in modules for buffer in module.buffers(recurse=False) if buffer.is_floating_point()
        ]
        if buffers and self.size > 1:
            _unflatten(self.all_reduce(_flatten(buffers)).div_(self.size), buffers)

    def check(self) -> None:
        """Raise `RankLost` if another process is lost; this method does not wait for the others."""
        if self._heartbeat:
            self._heartbeat.check()

    def _run(self, operation: Callable[[], Any]) -> Any:
        """Run a collective operation; a connection error becomes `RankLost` with the reason."""
        if self.size == 1:
            return None
        if self._heartbeat is None:
            return operation()
        try:
            with self._heartbeat.waiting():
                return operation()
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            raise self._heartbeat.explain(error) from error


class GradientReducer:
    """Sum gradients over all processes in buckets, while the backward pass still computes the others.

    `DistributedDataParallel` does the same for processes that all run forward and backward with equally many images and
    average; here a process may have no image of a batch, losses are sums over the whole batch, and a batch with a
    non-finite loss has no backward pass.

    Args:
        model: the network, on its device; frozen parameters are excluded.
        group: the processes.
    """

    def __init__(self, model: nn.Module, group: ProcessGroup) -> None:
        self._group = group
        self._model = model
        self.active = False
        # Backward reaches the parameters roughly in reverse order of their registration.
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad][::-1]
        self._buckets = list(_buckets(parameters))
        self._missing: list[int] = []  # gradients that each bucket waits for
        self._started: list[tuple[Tensor, Callable[[], object]]] = []
        for index, bucket in enumerate(self._buckets):
            for parameter in bucket:
                parameter.register_post_accumulate_grad_hook(self._hook(index))

    def start(self) -> None:
        """Reduce the gradients of the next backward pass; all processes call it, also those without a backward pass."""
        self.active = True
        self._missing = [len(bucket) for bucket in self._buckets]
        self._started = []

    @torch.no_grad()
    def finish(self) -> None:
        """Reduce the remaining buckets, wait for all of them, and average the statistics of norms."""
        while len(self._started) < len(self._buckets):
            self._start_next()
        for bucket, (flat, wait) in zip(self._buckets, self._started, strict=True):
            wait()
            _unflatten(flat, _gradients(bucket))
        self._started = []
        self.active = False
        self._group.average_norm_statistics(self._model)

    def _hook(self, index: int) -> Callable[[Tensor], None]:
        def on_gradient(parameter: Tensor) -> None:
            if not self.active:
                return
            self._missing[index] -= 1
            # Collectives must start in the same order in every process, so a bucket waits for those before it.
            while len(self._started) < len(self._buckets) and not self._missing[len(self._started)]:
                self._start_next()

        return on_gradient

    @torch.no_grad()
    def _start_next(self) -> None:
        flat = _flatten(_gradients(self._buckets[len(self._started)]))
        self._started.append((flat, self._group.all_reduce_async(flat)))


def _buckets(parameters: Iterable[nn.Parameter]) -> Iterator[list[nn.Parameter]]:
    """Yield groups of consecutive parameters of one type, of about `_BUCKET_BYTES` each."""
    bucket: list[nn.Parameter] = []
    size = 0
    for parameter in parameters:
        if bucket and (size >= _BUCKET_BYTES or parameter.dtype != bucket[0].dtype):
            yield bucket
            bucket, size = [], 0
        bucket.append(parameter)
        size += parameter.numel() * parameter.element_size()
    if bucket:
        yield bucket


def _gradients(parameters: Iterable[nn.Parameter]) -> list[Tensor]:
    """Return the gradients, creating zeros where a process has none."""
    gradients: list[Tensor] = []
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        gradients.append(parameter.grad)
    return gradients


def _flatten(tensors: list[Tensor]) -> Tensor:
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


def _unflatten(flat: Tensor, tensors: list[Tensor]) -> None:
    """Copy the parts of a flat tensor back into the tensors that it was made from."""
    parts = flat.split([tensor.numel() for tensor in tensors])
    for tensor, part in zip(tensors, parts, strict=True):
        tensor.copy_(part.view(tensor.shape))
