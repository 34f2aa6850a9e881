"""Boxes of one image."""

from __future__ import annotations

from typing import Any

from yolopose.base.errors import UsageError
from yolopose.results.arrays import Array, as_float, copied
from yolopose.results.rows import Rows


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
