"""`Boxes` and `Keypoints`: the instances of one image as arrays with one row per instance."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, overload

from yolopose.base.errors import UsageError, did_you_mean
from yolopose.results.arrays import Array, ResultArray, copy_array, move_array, to_float, to_numpy

if TYPE_CHECKING:
    from typing_extensions import Self


class InstanceArray:
    """An array with one row per instance; indexing returns an object of the same class and kind of array.

    Attributes:
        data: the array, rows first.
        orig_shape: (height, width) of the image, pixels.
    """

    def __init__(self, data: Any, orig_shape: tuple[int, int]) -> None:
        self.data: ResultArray = to_float(data)
        self.orig_shape = int(orig_shape[0]), int(orig_shape[1])

    def _apply(self, function: Callable[[Array], Array]) -> Self:
        """Apply a function to all arrays and return a new object."""
        return type(self)(function(self.data), self.orig_shape)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of `data`."""
        return tuple(self.data.shape)

    def __len__(self) -> int:
        return int(self.data.shape[0])

    def __getitem__(self, index: Any) -> Self:
        return self._apply(lambda array: array[index])

    def __iter__(self) -> Iterator[Self]:
        return (self[index] for index in range(len(self)))

    def __repr__(self) -> str:
        kind = type(self.data).__name__
        return f"{type(self).__name__}(shape={self.shape}, orig_shape={self.orig_shape}, {kind})\n{self.data}"

    def cpu(self) -> Self:
        """Return a copy with arrays in host memory."""
        return self._apply(lambda array: array.cpu() if hasattr(array, "cpu") else array)

    def numpy(self) -> Self:
        """Return a copy with plain numpy arrays."""
        return self._apply(to_numpy)

    def cuda(self) -> Self:
        """Return a copy with arrays on the GPU.

        Raises:
            UsageError: the arrays are not torch tensors.
        """
        return self._apply(lambda array: move_array(array, "cuda"))

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """Return a copy with another dtype or device, as `torch.Tensor.to`.

        Raises:
            UsageError: a device other than the CPU is given, and the arrays are not torch tensors.
        """
        return self._apply(lambda array: move_array(array, *args, **kwargs))


class Boxes(InstanceArray):
    """N boxes with score and class, and track ids if tracking is on.

    Attributes:
        data: (N, 6) x1, y1, x2, y2, confidence, class; or (N, 7) with the track id before the confidence.
            Corners are pixels of the image, confidence is 0…1. A single row of shape (6,) or (7,) is accepted, too.
        orig_shape: (height, width) of the image, pixels.

    Raises:
        UsageError: `data` has another shape.

    Examples:
        >>> import numpy as np
        >>> from yolopose import Boxes
        >>> boxes = Boxes(np.array([[10.0, 20.0, 110.0, 220.0, 0.9, 0.0]]), orig_shape=(240, 320))
        >>> boxes.xywh.tolist(), boxes.conf.tolist()
        ([[60.0, 120.0, 100.0, 200.0]], [0.9])
        >>> boxes.is_track
        False
    """

    def __init__(self, data: Any, orig_shape: tuple[int, int]) -> None:
        data = to_float(data)
        if len(data.shape) == 1:
            data = data[None]
        if len(data.shape) != 2 or data.shape[1] not in (6, 7):
            raise UsageError(
                f"Boxes need an array of shape (N, 6) (x1, y1, x2, y2, confidence, class) or (N, 7) (track id before "
                f"the confidence), got shape {tuple(data.shape)}. For no boxes pass an empty array of shape (0, 6)."
            )
        super().__init__(data, orig_shape)

    @property
    def is_track(self) -> bool:
        """Whether the boxes have track ids."""
        return self.data.shape[1] == 7

    @property
    def id(self) -> ResultArray | None:
        """(N,) track ids, or None without tracking."""
        return self.data[:, 4] if self.is_track else None

    @property
    def conf(self) -> ResultArray:
        """(N,) confidence, 0…1."""
        return self.data[:, -2]

    @property
    def cls(self) -> ResultArray:
        """(N,) class indices, floating-point."""
        return self.data[:, -1]

    @property
    def xyxy(self) -> ResultArray:
        """(N, 4) left, top, right, bottom, pixels."""
        return self.data[:, :4]

    @property
    def xywh(self) -> ResultArray:
        """(N, 4) center x, center y, width, height, pixels."""
        corners = self.xyxy
        result = copy_array(corners)
        result[:, :2] = (corners[:, :2] + corners[:, 2:]) / 2
        result[:, 2:] = corners[:, 2:] - corners[:, :2]
        return result

    @property
    def xyxyn(self) -> ResultArray:
        """(N, 4) corners divided by width and height of the image, 0…1."""
        return self._normalize(copy_array(self.xyxy))

    @property
    def xywhn(self) -> ResultArray:
        """(N, 4) center and size divided by width and height of the image, 0…1."""
        return self._normalize(self.xywh)

    def _normalize(self, values: Array) -> ResultArray:
        height, width = self.orig_shape
        values[:, 0::2] /= width
        values[:, 1::2] /= height
        return values


class Visibility(InstanceArray):
    """Probabilities of the three states of K keypoints of N instances.

    Attributes:
        data: (N, K, 3) probabilities 0…1 that a keypoint is absent, hidden, or visible; their sum is 1.
        orig_shape: (height, width) of the image, pixels.

    Examples:
        >>> import numpy as np
        >>> from yolopose.results import Visibility
        >>> visibility = Visibility(np.array([[[0.1, 0.2, 0.7], [0.2, 0.5, 0.3]]]), orig_shape=(240, 320))
        >>> visibility.states.tolist(), visibility.names[1]
        ([[2, 1]], 'hidden')
    """

    names = ("absent", "hidden", "visible")

    @property
    def probs(self) -> ResultArray:
        """(N, K, 3) the probabilities."""
        return self.data

    @property
    def states(self) -> ResultArray:
        """(N, K) the most probable states: 0 absent, 1 hidden, 2 visible, as v in labels."""
        return self.data.argmax(-1)


class Keypoints(InstanceArray):
    """K keypoints of N instances. `keypoints[0]` is an instance, `keypoints["left_wrist"]` a keypoint of all.

    Attributes:
        data: (N, K, D) x, y in pixels of the image and, with D = 3, confidence 0…1. A single instance of shape (K, D)
            is accepted, too.
        orig_shape: (height, width) of the image, pixels.
        names: K names of the keypoints, or None if unknown.
        sigma: (N, K, 2) standard deviation of each keypoint in x and y, pixels of the image; None unless predicted with
            `uncertainty=True`.
        mask: (N, K) bool, which keypoints the class of each instance has; the others are 0. None if all classes have
            all keypoints.

    Raises:
        UsageError: `data`, `sigma` or `visible` has another shape, or `names` another length.

    Examples:
        >>> import numpy as np
        >>> from yolopose import Keypoints
        >>> points = np.array([[[160.0, 60.0, 0.9], [80.0, 120.0, 0.4]]])  # one instance
        >>> keypoints = Keypoints(points, orig_shape=(240, 320), names=("nose", "tail"))
        >>> keypoints["tail"].tolist()
        [[80.0, 120.0, 0.4]]
        >>> keypoints.xyn.tolist()
        [[[0.5, 0.25], [0.25, 0.5]]]
    """

    def __init__(
        self,
        data: Any,
        orig_shape: tuple[int, int],
        names: tuple[str, ...] | None = None,
        sigma: Any = None,
        visible: Any = None,
        mask: Any = None,
    ) -> None:
        data = to_float(data)
        if len(data.shape) == 2:
            data = data[None]
        if len(data.shape) != 3 or data.shape[2] not in (2, 3):
            raise UsageError(
                f"Keypoints need an array of shape (N, K, 2) (x, y) or (N, K, 3) (x, y, confidence), got shape "
                f"{tuple(data.shape)}. For no instances pass an empty array of shape (0, K, D)."
            )
        if names is not None and len(names) != data.shape[1]:
            raise UsageError(
                f"Got {len(names)} keypoint names for {data.shape[1]} keypoints; the numbers must be equal."
            )
        super().__init__(data, orig_shape)
        self.names = names
        sigma = None if sigma is None else to_float(sigma)
        if sigma is not None and len(sigma.shape) == 2:
            sigma = sigma[None]
        if sigma is not None and tuple(sigma.shape) != (*self.shape[:2], 2):
            raise UsageError(f"Keypoints of shape {self.shape} need σ of shape (N, K, 2), got {tuple(sigma.shape)}.")
        self.sigma: ResultArray | None = sigma
        visible = None if visible is None else to_float(visible)
        if visible is not None and len(visible.shape) == 1:
            visible = visible[None]
        if visible is not None and (tuple(visible.shape) != self.shape[:2] or self.shape[2] != 3):
            raise UsageError(
                f"Keypoints of shape {self.shape} need D = 3 and probabilities `visible` of shape (N, K), got "
                f"{tuple(visible.shape)}."
            )
        self._visible: ResultArray | None = visible
        self.mask: ResultArray | None = mask if mask is None or len(mask.shape) == 2 else mask[None]

    def _apply(self, function: Callable[[Array], Array]) -> Self:
        sigma, visible, mask = (
            None if array is None else function(array) for array in (self.sigma, self._visible, self.mask)
        )
        return type(self)(function(self.data), self.orig_shape, self.names, sigma, visible, mask)

    def with_data(self, data: Any) -> Self:
        """Return keypoints with other positions or confidences; (N, K, D), everything else as it is."""
        return type(self)(data, self.orig_shape, self.names, self.sigma, self._visible, self.mask)

    @property
    def visibility(self) -> Visibility | None:
        """States of the keypoints with their probabilities; None unless the network was trained with `visibility=3`."""
        if self._visible is None:
            return None
        probs = copy_array(self.data)
        probs[..., 0] = 1 - self.data[..., 2]
        probs[..., 1] = (self.data[..., 2] - self._visible).clip(0, 1)
        probs[..., 2] = self._visible
        return Visibility(probs, self.orig_shape)

    @property
    def visible(self) -> ResultArray | None:
        """(N, K) probability that each keypoint is visible, at most `conf`; None with two states."""
        return self._visible

    @overload
    def __getitem__(self, index: str) -> ResultArray: ...  # pyright: ignore[reportOverlappingOverload]
    @overload
    def __getitem__(self, index: Any) -> Self: ...
    def __getitem__(self, index: Any) -> Self | ResultArray:
        """Select instances by index, slice or mask, or a keypoint of all instances by name as an (N, D) array.

        Raises:
            UsageError: unknown keypoint name.
        """
        return self.data[:, self._column(index)] if isinstance(index, str) else super().__getitem__(index)

    def _column(self, name: str) -> int:
        if self.names is None:
            raise UsageError(
                f"The keypoint {name!r} cannot be looked up, because keypoint names are unknown: the network has none "
                "(they come from `kpt_names` of the data set), or they differ between the classes in the image. Select "
                "one instance, `result[0].keypoints[…]`, or use the index of the keypoint, `keypoints.data[:, 9]`."
            )
        if name not in self.names:
            raise UsageError(
                f"Unknown keypoint {name!r}.{did_you_mean(name, self.names)} Keypoints: {', '.join(self.names)}."
            )
        return self.names.index(name)

    @property
    def xy(self) -> ResultArray:
        """(N, K, 2) x, y, pixels."""
        return self.data[..., :2]

    @property
    def xyn(self) -> ResultArray:
        """(N, K, 2) x, y divided by width and height of the image, 0…1."""
        height, width = self.orig_shape
        result = copy_array(self.xy)
        result[..., 0] /= width
        result[..., 1] /= height
        return result

    @property
    def has_visible(self) -> bool:
        """Whether the keypoints have a confidence (D = 3)."""
        return self.data.shape[2] == 3

    @property
    def conf(self) -> ResultArray | None:
        """(N, K) confidence that each keypoint is labeled (hidden or visible), 0…1; None if D = 2."""
        return self.data[..., 2] if self.has_visible else None
