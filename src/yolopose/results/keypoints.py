"""Keypoints of one image."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from yolopose.base.errors import UsageError, did_you_mean
from yolopose.results.arrays import Array, as_float, copied
from yolopose.results.rows import Rows

if TYPE_CHECKING:
    from typing_extensions import Self


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
