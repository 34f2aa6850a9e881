"""Letterbox: scale an image to fit a network input, center and pad it, and map coordinates back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from yolopose.geometry.boxes import FloatArray, clip_boxes, clip_points

PAD_VALUE = 114


@dataclass(frozen=True, slots=True)
class Letterbox:
    """Placement of an image in a padded input; sizes are (height, width) in pixels.

    Attributes:
        source: size of the image.
        inner: size of the resized image inside the input.
        top: rows of padding above it.
        left: columns of padding left of it.
        out: size of the input.
    """

    source: tuple[int, int]
    inner: tuple[int, int]
    top: int
    left: int
    out: tuple[int, int]

    @classmethod
    def fit(
        cls,
        source: tuple[int, int],
        target: tuple[int, int],
        *,
        auto: bool = False,
        scaleup: bool = True,
        stride: int = 32,
    ) -> Letterbox:
        """Fit an image into an input size.

        Args:
            source: (height, width) of the image.
            target: (height, width) to fit into.
            auto: pad only to the next multiple of `stride` (the minimum rectangle) instead of to `target`.
            scaleup: whether to enlarge small images.
            stride: multiple for `auto`.
        """
        ratio = min(target[0] / source[0], target[1] / source[1])
        if not scaleup:
            ratio = min(ratio, 1.0)
        # round half to even, as the reference does
        inner = max(1, round(source[0] * ratio)), max(1, round(source[1] * ratio))
        padding = [target[0] - inner[0], target[1] - inner[1]]
        if auto:
            padding = [value % stride for value in padding]
        # ± 0.1 puts the odd pixel at the bottom and the right
        top, left = (round(value / 2 - 0.1) for value in padding)
        bottom, right = (round(value / 2 + 0.1) for value in padding)
        return cls(source, inner, top, left, (inner[0] + top + bottom, inner[1] + left + right))

    @property
    def gain(self) -> tuple[float, float]:
        """Actual scale (x, y) after rounding: inner size over source size."""
        return self.inner[1] / self.source[1], self.inner[0] / self.source[0]

    def boxes_to_source(self, boxes: FloatArray) -> FloatArray:
        """Map (N, 4) corner boxes from input pixels to image pixels, clipped to the image."""
        shift = np.array([self.left, self.top] * 2, dtype=boxes.dtype)
        scale = np.array(self.gain * 2, dtype=boxes.dtype)
        return clip_boxes((boxes - shift) / scale, *self.source)

    def lengths_to_source(self, lengths: FloatArray) -> FloatArray:
        """Map (..., 2) lengths along x and y from input pixels to image pixels."""
        return lengths / np.array(self.gain, dtype=lengths.dtype)

    def points_to_source(self, points: FloatArray) -> FloatArray:
        """Map (..., D) points (x, y first) from input pixels to image pixels, clipped to the image."""
        result = points.copy()
        result[..., :2] -= np.array([self.left, self.top], dtype=points.dtype)
        result[..., :2] /= np.array(self.gain, dtype=points.dtype)
        return clip_points(result, *self.source)
