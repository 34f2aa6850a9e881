"""Arrays of results: `HostArray`, a numpy array with common tensor methods, and functions for all kinds of arrays.

Results of the torch engine hold `torch.Tensor`, all others `HostArray`; a plain `numpy.ndarray` is supported, too. To
run without torch, this module uses only operations that all three have.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from yolopose.base.errors import UsageError

Array = Any
"""numpy.ndarray, HostArray or torch.Tensor, for functions that take any of them."""


class ResultArray(Protocol):
    """An array of results, for type checkers and editors: a `torch.Tensor`, or a `HostArray` without torch.

    The members that both have are declared; any other one is `Any`, since it depends on the engine.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """Size of each axis."""
        ...

    @property
    def ndim(self) -> int:
        """Number of axes."""
        ...

    @property
    def dtype(self) -> Any:
        """Type of the elements."""
        ...

    def __len__(self) -> int: ...
    def __getitem__(self, index: Any, /) -> Any: ...
    def __setitem__(self, index: Any, value: Any, /) -> None: ...
    def __iter__(self) -> Iterator[Any]: ...
    def __array__(self) -> npt.NDArray[Any]: ...
    def __getattr__(self, name: str, /) -> Any: ...
    def cpu(self) -> ResultArray:
        """Return the array in host memory."""
        ...

    def numpy(self) -> npt.NDArray[Any]:
        """Return a numpy.ndarray."""
        ...

    def detach(self) -> ResultArray:
        """Return it without gradient."""
        ...

    def clone(self) -> ResultArray:
        """Return a copy."""
        ...

    def to(self, *args: Any, **kwargs: Any) -> ResultArray:
        """Return it on another device or as another type."""
        ...

    def int(self) -> ResultArray:
        """Return int32 values."""
        ...

    def float(self) -> ResultArray:
        """Return float32 values."""
        ...

    def tolist(self) -> Any:
        """Return nested lists."""
        ...

    def item(self) -> Any:
        """Return the only element."""
        ...

    def numel(self) -> Any:
        """Return the number of elements."""
        ...

    def __add__(self, other: Any, /) -> Any: ...
    def __sub__(self, other: Any, /) -> Any: ...
    def __rsub__(self, other: Any, /) -> Any: ...
    def __mul__(self, other: Any, /) -> Any: ...
    def __truediv__(self, other: Any, /) -> Any: ...
    def __gt__(self, other: Any, /) -> Any: ...
    def __ge__(self, other: Any, /) -> Any: ...
    def __lt__(self, other: Any, /) -> Any: ...
    def __le__(self, other: Any, /) -> Any: ...


class HostArray(np.ndarray[Any, np.dtype[Any]]):
    """A numpy array in host memory with `cpu() numpy() to() detach() clone() int() float() numel()`.

    `result.boxes.xyxy.cpu().numpy()` works the same for every engine. Slices and single elements are `HostArray`, too
    (an element is 0-dimensional, as with tensors).
    """

    def __new__(cls, values: Any) -> HostArray:
        """View `values` (anything that numpy can convert) as a HostArray; an array is not copied."""
        return np.asarray(values).view(cls)

    def __getitem__(self, key: Any) -> Any:
        item = super().__getitem__(key)
        return HostArray(item) if isinstance(item, np.generic) else item

    def __hash__(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Hash a single element like its value: libraries use it as a key, `names[cls]`."""
        if self.ndim:
            raise TypeError("unhashable type: 'HostArray'")
        return hash(self.item())

    def numel(self) -> int:
        """Return the number of elements."""
        return self.size

    def cpu(self) -> HostArray:
        """Return self: the values are in host memory."""
        return self

    def numpy(self) -> npt.NDArray[Any]:
        """Return the same memory as a plain numpy.ndarray."""
        return self.view(np.ndarray)

    def detach(self) -> HostArray:
        """Return self: the array has no gradient."""
        return self

    def clone(self) -> HostArray:
        """Return a copy."""
        return self.copy()

    def to(self, *targets: Any, **keywords: Any) -> HostArray:
        """Convert to another dtype, or to the device `"cpu"` (no-op); same arguments as `torch.Tensor.to`.

        Raises:
            UsageError: the device is not the CPU.
        """
        result = self
        for target in (*targets, keywords.get("device"), keywords.get("dtype")):
            if target is not None and not isinstance(target, bool):
                result = _convert(result, target)
        return result

    def cuda(self, *_: Any, **__: Any) -> HostArray:
        """Raise an error: without torch, arrays cannot be copied to a GPU.

        Raises:
            UsageError: always.
        """
        raise _device_error("cuda")

    def astype(self, *args: Any, **kwargs: Any) -> npt.NDArray[Any]:
        """Return a plain numpy.ndarray: callers of `astype` expect one, and pass its elements to OpenCV."""
        return self.view(np.ndarray).astype(*args, **kwargs)

    def int(self) -> HostArray:
        """Return int32 values, rounded toward zero."""
        return HostArray(self.astype(np.int32))

    def float(self) -> HostArray:
        """Return float32 values."""
        return HostArray(self.astype(np.float32))


def _convert(array: HostArray, target: Any) -> HostArray:
    if isinstance(target, (type, np.dtype)):
        return HostArray(array.astype(target))
    text = str(target)
    if text.split(":")[0] == "cpu":
        return array
    try:
        return HostArray(array.astype(np.dtype(text.removeprefix("torch."))))
    except TypeError as fault:
        raise _device_error(text) from fault


def _device_error(device: str) -> UsageError:
    return UsageError(
        f"This result cannot move to {device!r}: its engine runs without torch, so its arrays are in host memory. "
        "Remove the call, or convert the array to a tensor: `torch.from_numpy(array.numpy()).to(device)`."
    )


def to_numpy(array: Array) -> npt.NDArray[Any]:
    """Convert any array to a plain numpy.ndarray in host memory, without a copy if possible."""
    if hasattr(array, "detach"):
        array = array.detach().cpu().numpy()
    return np.asarray(array)


def move_array(array: Array, *args: Any, **kwargs: Any) -> Array:
    """Call `array.to(…)`; a plain numpy.ndarray follows the rules of `HostArray.to`."""
    if hasattr(array, "to"):
        return array.to(*args, **kwargs)
    return HostArray(array).to(*args, **kwargs).numpy()


def copy_array(array: Array) -> Array:
    """Return a copy of the same kind."""
    return array.clone() if hasattr(array, "clone") else array.copy()


def to_float(values: Any) -> Array:
    """Convert to a floating-point array of the same kind; lists become float32 numpy arrays."""
    if not hasattr(values, "shape"):
        return np.asarray(values, dtype=np.float32)
    if hasattr(values, "is_floating_point"):
        return values if values.is_floating_point() else values.float()
    if values.dtype.kind == "f":
        return values
    return values.float() if isinstance(values, HostArray) else values.astype(np.float32)
