"""Arrays of results: `HostArray`, numpy with a tensor's everyday methods, and duck-typed help for all kinds.

Results of the torch engine hold `torch.Tensor`, all others `HostArray`; a plain `numpy.ndarray` goes as
well. Nothing here imports torch: only operations are used that all three have.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from yolopose.base.errors import UsageError

Array = Any
"""numpy.ndarray, HostArray or torch.Tensor."""


class HostArray(np.ndarray[Any, np.dtype[Any]]):
    """A numpy array in host memory that also answers `cpu() numpy() to() detach() clone() int() float() numel()`.

    So `result.boxes.xyxy.cpu().numpy()` runs the same whichever engine made the result. Slices and
    single elements stay `HostArray` (an element is a 0-dimensional one, as with tensors).
    """

    def __new__(cls, values: Any) -> HostArray:
        """Views `values` (anything that numpy reads) as a HostArray; an array is not copied."""
        return np.asarray(values).view(cls)

    def __getitem__(self, key: Any) -> Any:
        item = super().__getitem__(key)
        return HostArray(item) if isinstance(item, np.generic) else item

    def __hash__(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """A single element is as good a key as its number: `names[cls]`, which libraries write."""
        if self.ndim:
            raise TypeError("unhashable type: 'HostArray'")
        return hash(self.item())

    def numel(self) -> int:
        """Return the number of elements."""
        return self.size

    def cpu(self) -> HostArray:
        """Return itself: the values are in host memory."""
        return self

    def numpy(self) -> npt.NDArray[Any]:
        """Return the same memory as a plain numpy.ndarray."""
        return self.view(np.ndarray)

    def detach(self) -> HostArray:
        """Return itself: there is no gradient."""
        return self

    def clone(self) -> HostArray:
        """Return a copy."""
        return self.copy()

    def to(self, *targets: Any, **named: Any) -> HostArray:
        """Move to `"cpu"` (itself) or to another type of number; takes what `torch.Tensor.to` takes.

        Raises:
            UsageError: another device than the CPU is named.
        """
        result = self
        for target in (*targets, named.get("device"), named.get("dtype")):
            if target is not None and not isinstance(target, bool):
                result = _converted(result, target)
        return result

    def cuda(self, *_: Any, **__: Any) -> HostArray:
        """Explain why there is no GPU copy.

        Raises:
            UsageError: always.
        """
        raise _no_device("cuda")

    def astype(self, *args: Any, **kwargs: Any) -> npt.NDArray[Any]:
        """Return a plain numpy.ndarray: who calls this takes the array for one, and passes its elements to OpenCV."""
        return self.view(np.ndarray).astype(*args, **kwargs)

    def int(self) -> HostArray:
        """Return int32 values, rounded towards zero."""
        return HostArray(self.astype(np.int32))

    def float(self) -> HostArray:
        """Return float32 values."""
        return HostArray(self.astype(np.float32))


def _converted(array: HostArray, target: Any) -> HostArray:
    if isinstance(target, (type, np.dtype)):
        return HostArray(array.astype(target))
    text = str(target)
    if text.split(":")[0] == "cpu":
        return array
    try:
        return HostArray(array.astype(np.dtype(text.removeprefix("torch."))))
    except TypeError as fault:
        raise _no_device(text) from fault


def _no_device(device: str) -> UsageError:
    return UsageError(
        f"This result cannot move to {device!r}: it was made without torch, so its arrays are numpy in host memory. "
        "Leave the call out, or make a tensor of it: `torch.from_numpy(array.numpy()).to(device)`."
    )


def host(array: Array) -> npt.NDArray[Any]:
    """Return any array as a plain numpy.ndarray in host memory, copied only when it must be."""
    if hasattr(array, "detach"):
        array = array.detach().cpu().numpy()
    return np.asarray(array)


def moved(array: Array, *args: Any, **kwargs: Any) -> Array:
    """`array.to(…)` for every kind; a plain numpy.ndarray follows the rules of `HostArray.to`."""
    if hasattr(array, "to"):
        return array.to(*args, **kwargs)
    return HostArray(array).to(*args, **kwargs).numpy()


def copied(array: Array) -> Array:
    """Return a copy of the same kind."""
    return array.clone() if hasattr(array, "clone") else array.copy()


def as_float(values: Any) -> Array:
    """Return `values` as a floating-point array of its own kind; lists become float32 numpy arrays."""
    if not hasattr(values, "shape"):
        return np.asarray(values, dtype=np.float32)
    if hasattr(values, "is_floating_point"):
        return values if values.is_floating_point() else values.float()
    if values.dtype.kind == "f":
        return values
    return values.float() if isinstance(values, HostArray) else values.astype(np.float32)
