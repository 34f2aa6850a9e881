"""What boxes and keypoints share: an array with one row per instance, and the size of the image."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from yolopose.results.arrays import Array, as_float, host, moved

if TYPE_CHECKING:
    from typing_extensions import Self


class Rows:
    """One row per instance; indexing gives an object of the same class, whose arrays keep their kind.

    Attributes:
        data: the array, rows first.
        orig_shape: (height, width) of the image, pixels.
    """

    def __init__(self, data: Any, orig_shape: tuple[int, int]) -> None:
        self.data: Array = as_float(data)
        self.orig_shape = int(orig_shape[0]), int(orig_shape[1])

    def _with(self, change: Callable[[Array], Array]) -> Self:
        """The same object with its arrays changed."""
        return type(self)(change(self.data), self.orig_shape)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shapes of `data`."""
        return tuple(self.data.shape)

    def __len__(self) -> int:
        return int(self.data.shape[0])

    def __getitem__(self, index: Any) -> Self:
        return self._with(lambda array: array[index])

    def __iter__(self) -> Iterator[Self]:
        return (self[index] for index in range(len(self)))

    def __repr__(self) -> str:
        kind = type(self.data).__name__
        return f"{type(self).__name__}(shape={self.shape}, orig_shape={self.orig_shape}, {kind})\n{self.data}"

    def cpu(self) -> Self:
        """Return it with the array in host memory."""
        return self._with(lambda array: array.cpu() if hasattr(array, "cpu") else array)

    def numpy(self) -> Self:
        """Return it with a plain numpy.ndarray."""
        return self._with(host)

    def cuda(self) -> Self:
        """Return it with the array on the GPU.

        Raises:
            UsageError: the array is no torch.Tensor.
        """
        return self._with(lambda array: moved(array, "cuda"))

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """Return it with `data.to(…)`: another device or type of number.

        Raises:
            UsageError: the array is no torch.Tensor, and a device other than the CPU is named.
        """
        return self._with(lambda array: moved(array, *args, **kwargs))
