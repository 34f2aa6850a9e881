"""Dataclasses of tensors, and their transfer between processes and devices as one block of bytes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, Generic, NamedTuple, TypeVar, cast

import torch
from torch import Tensor
from torch.utils.data import get_worker_info

_ALIGNMENT = 16  # bytes
Data = TypeVar("Data", bound="TensorData")
Part = TypeVar("Part", bound="TensorData")


class TensorData:
    """Base of dataclasses that hold tensors, other such dataclasses, or tuples of these."""

    __slots__ = ()

    def map_tensors(self: Data, function: Callable[[Tensor], Any]) -> Data:
        """Return a copy with a function applied to every tensor, or slot of a packed tensor."""
        changes: dict[str, Any] = {}
        for field in fields(cast("Any", self)):
            value = getattr(self, field.name)
            if isinstance(value, Tensor | _Slot):
                changes[field.name] = function(cast("Tensor", value))
            elif isinstance(value, TensorData):
                changes[field.name] = value.map_tensors(function)
            elif isinstance(value, tuple):
                items = cast("tuple[Any, ...]", value)
                changes[field.name] = tuple(
                    item.map_tensors(function) if isinstance(item, TensorData) else item for item in items
                )
        return replace(cast("Any", self), **changes)

    def pin_memory(self: Data) -> Data:
        """Return a copy in page-locked memory."""
        return self.map_tensors(Tensor.pin_memory)


class _Slot(NamedTuple):
    """Where a packed tensor is in the block."""

    offset: int
    dtype: torch.dtype
    shape: torch.Size

    @property
    def nbytes(self) -> int:
        return self.shape.numel() * self.dtype.itemsize


@dataclass(frozen=True, slots=True, eq=False)
class Packed(Generic[Data]):
    """Tensors in one block of memory.

    A worker process passes each storage on as a file that the main process maps, and each copy to a GPU is a call of
    its driver, so one block takes a tenth of the time of a dozen small tensors.

    Attributes:
        layout: the data with slots instead of tensors.
        block: (bytes,) uint8.
    """

    layout: Data
    block: Tensor

    def unpack(self) -> Data:
        """Return the data; its tensors are views of the block."""
        return self.unpack_part(self.layout)

    def unpack_part(self, part: Part) -> Part:
        """Return a part of `layout` with its tensors."""

        def view(slot: Any) -> Tensor:
            return self.block[slot.offset : slot.offset + slot.nbytes].view(slot.dtype).view(slot.shape)

        return part.map_tensors(view)

    def pin_memory(self) -> Packed[Data]:
        """Return a copy in page-locked memory."""
        return replace(self, block=self.block.pin_memory())

    def to(self, device: torch.device) -> Packed[Data]:
        """Return the data on a device; the host does not wait for copies from page-locked memory to a GPU."""
        return replace(self, block=self.block.to(device, non_blocking=device.type != "cpu"))


def pack(data: Data) -> Packed[Data]:
    """Copy the tensors of a dataclass into one block, which is shared memory in a worker process of a data loader.

    Tensors on the "meta" device get room in the block, but no content.
    """
    tensors: list[tuple[Tensor, _Slot]] = []
    end = 0

    def add(tensor: Tensor) -> _Slot:
        nonlocal end
        slot = _Slot(end, tensor.dtype, tensor.shape)
        end += -(-slot.nbytes // _ALIGNMENT) * _ALIGNMENT
        tensors.append((tensor, slot))
        return slot

    layout = data.map_tensors(add)
    block = _shared_bytes(end)
    for tensor, slot in tensors:
        if not tensor.is_meta:
            target = block[slot.offset : slot.offset + slot.nbytes].view(slot.dtype)
            target.view(slot.shape).copy_(tensor)
    return Packed(layout, block)


def _shared_bytes(size: int) -> Tensor:
    """Return (size,) uint8; in a worker process in shared memory, as torch's own collation does, which saves a copy."""
    if get_worker_info() is None:
        return torch.empty(size, dtype=torch.uint8)
    shared = torch.UntypedStorage._new_shared(size)  # pyright: ignore[reportPrivateUsage]
    return torch.empty(0, dtype=torch.uint8).set_(shared)  # pyright: ignore[reportArgumentType]
