"""`Boxes` and `Keypoints`: the instances of one image as arrays with one row per instance."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from yolopose.base.errors import UsageError, did_you_mean
from yolopose.results.arrays import Array, as_float, copied, host, moved

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


class Boxes(Rows):
    """N boxes with score and class, and the track they belong to where tracking is on.

    Attributes:
        data: (N, 6) x1, y1, x2, y2, confidence, class; or (N, 7) with the track id before the confidence.
            Corners are pixels of the image, confidence is 0…1. One row of shape (6,) or (7,) goes as well.
        orig_shape: (height, width) of the image, pixels.

    Raises:
        UsageError: `data` has another shape.
    """

    def __init__(self, data: Any, orig_shape: tuple[int, int]) -> None:
        data = as_float(data)
        if len(data.shape) == 1:
            data = data[None]
        if len(data.shape) != 2 or data.shape[1] not in (6, 7):
            raise UsageError(
                f"Boxes need an array of shape (N, 6) (x1, y1, x2, y2, confidence, class) or (N, 7) (track id before "
                f"the confidence), got shape {tuple(data.shape)}. For no boxes give an empty array of shape (0, 6)."
            )
        super().__init__(data, orig_shape)

    @property
    def is_track(self) -> bool:
        """Whether the boxes carry track ids."""
        return self.data.shape[1] == 7

    @property
    def id(self) -> Array | None:
        """(N,) track ids, or None without tracking."""
        return self.data[:, 4] if self.is_track else None

    @property
    def conf(self) -> Array:
        """(N,) confidence, 0…1."""
        return self.data[:, -2]

    @property
    def cls(self) -> Array:
        """(N,) class indices, as floating-point numbers."""
        return self.data[:, -1]

    @property
    def xyxy(self) -> Array:
        """(N, 4) left, top, right, bottom, pixels."""
        return self.data[:, :4]

    @property
    def xywh(self) -> Array:
        """(N, 4) center x, center y, width, height, pixels."""
        corners = self.xyxy
        result = copied(corners)
        result[:, :2] = (corners[:, :2] + corners[:, 2:]) / 2
        result[:, 2:] = corners[:, 2:] - corners[:, :2]
        return result

    @property
    def xyxyn(self) -> Array:
        """(N, 4) corners as shares of the image's width and height, 0…1."""
        return self._share(copied(self.xyxy))

    @property
    def xywhn(self) -> Array:
        """(N, 4) center and size as shares of the image's width and height, 0…1."""
        return self._share(self.xywh)

    def _share(self, values: Array) -> Array:
        height, width = self.orig_shape
        values[:, 0::2] /= width
        values[:, 1::2] /= height
        return values


class Keypoints(Rows):
    """K keypoints of N instances. `keypoints[0]` is an instance, `keypoints["left_wrist"]` a point of all.

    Attributes:
        data: (N, K, D) x, y in pixels of the image and, with D = 3, confidence 0…1.
            One instance of shape (K, D) goes as well.
        orig_shape: (height, width) of the image, pixels.
        names: K names of the points, or None when they are not known.
        sigma: (N, K, 2) how far off a point may be in x and y, pixels of the image: σ as the network tells it; None
            unless `predict(…, uncertainty=True)` asked for it.

    Raises:
        UsageError: `data` or `sigma` has another shape, or `names` another length.
    """

    def __init__(
        self, data: Any, orig_shape: tuple[int, int], names: tuple[str, ...] | None = None, sigma: Any = None
    ) -> None:
        data = as_float(data)
        if len(data.shape) == 2:
            data = data[None]
        if len(data.shape) != 3 or data.shape[2] not in (2, 3):
            raise UsageError(
                f"Keypoints need an array of shape (N, K, 2) (x, y) or (N, K, 3) (x, y, confidence), got shape "
                f"{tuple(data.shape)}. For no instances give an empty array of shape (0, K, D)."
            )
        if names is not None and len(names) != data.shape[1]:
            raise UsageError(f"{len(names)} keypoint names were given for {data.shape[1]} keypoints; make them agree.")
        super().__init__(data, orig_shape)
        self.names = names
        sigma = None if sigma is None else as_float(sigma)
        if sigma is not None and len(sigma.shape) == 2:
            sigma = sigma[None]
        if sigma is not None and tuple(sigma.shape) != (*self.shape[:2], 2):
            raise UsageError(f"Keypoints of shape {self.shape} need σ of shape (N, K, 2), got {tuple(sigma.shape)}.")
        self.sigma: Array | None = sigma

    def _with(self, change: Callable[[Array], Array]) -> Self:
        sigma = None if self.sigma is None else change(self.sigma)
        return type(self)(change(self.data), self.orig_shape, self.names, sigma)

    def __getitem__(self, index: Any) -> Any:
        """Instances by number, slice or mask as `Keypoints`; a point of all instances by name as (N, D) array.

        Raises:
            UsageError: there is no keypoint of that name.
        """
        return self.data[:, self._column(index)] if isinstance(index, str) else super().__getitem__(index)

    def _column(self, name: str) -> int:
        if self.names is None:
            raise UsageError(
                f"The names of the keypoints are not known here, so {name!r} cannot be found: the network brings none "
                "(they come from `kpt_names` of the data set), or they differ between the classes in the image. Take "
                "one instance, `result[0].keypoints[…]`, or the point's number, `keypoints.data[:, 9]`."
            )
        if name not in self.names:
            raise UsageError(
                f"There is no keypoint {name!r}.{did_you_mean(name, self.names)} There are: {', '.join(self.names)}."
            )
        return self.names.index(name)

    @property
    def xy(self) -> Array:
        """(N, K, 2) x, y, pixels."""
        return self.data[..., :2]

    @property
    def xyn(self) -> Array:
        """(N, K, 2) x, y as shares of the image's width and height, 0…1."""
        height, width = self.orig_shape
        result = copied(self.xy)
        result[..., 0] /= width
        result[..., 1] /= height
        return result

    @property
    def has_visible(self) -> bool:
        """Whether the points carry a confidence (D = 3)."""
        return self.data.shape[2] == 3

    @property
    def conf(self) -> Array | None:
        """(N, K) confidence that each point is visible, 0…1; None when D = 2."""
        return self.data[..., 2] if self.has_visible else None
