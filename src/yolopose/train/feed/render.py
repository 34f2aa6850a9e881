"""Rendering of one image onto a canvas with OpenCV; each visible pixel is interpolated once."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from yolopose.geometry import Transform2D
from yolopose.train.feed.augment import Image, Size, Window

Rectangle = npt.NDArray[np.float64]  # x1, y1, x2, y2
_MARGIN = 4  # source pixels around the visible part that interpolation may read
_SEAM = 1 / 64  # pixels by which rotated tiles are enlarged, so that rounding leaves no gap between two of them


@dataclass(frozen=True, slots=True, eq=False)
class Patch:
    """The part of an image that is visible on a canvas.

    Attributes:
        source: (h, w, C) uint8, the pixels of the image that are needed, averaged down where the transform shrinks.
        target: left, top, right, bottom of the canvas pixels that it may cover; exactly those for axis-aligned
            transforms.
        from_source: from pixels of `source` to pixels of the canvas.
        part: the part of the image to render, in its pixels.
        from_image: from pixels of the image to pixels of the canvas.
    """

    source: Image
    target: Window
    from_source: Transform2D
    part: Rectangle
    from_image: Transform2D

    @property
    def part_of_source(self) -> Rectangle:
        """`part` in pixels of `source`, enlarged by the seam of rotated tiles."""
        seam = 0.0 if self.from_image.axis_aligned else _SEAM
        part = self.part + np.array([-seam, -seam, seam, seam])
        return (self.from_source.inverse() @ self.from_image).boxes(part)


def cut_patch(size: Size, image: Image, transform: Transform2D, clip: Rectangle) -> Patch | None:
    """Return what of an image is visible on a canvas, or None.

    Args:
        size: (height, width) of the canvas.
        image: (h, w, C) uint8.
        transform: from image pixels to canvas pixels, continuous coordinates.
        clip: part of the image to render, in its pixels; may exceed it.
    """
    height, width = image.shape[:2]
    part = _intersection(np.array([0, 0, width, height], dtype=np.float64), clip)
    target = _target(size, transform, part)
    if target is None:
        return None
    visible = transform.inverse().boxes(np.array(target, dtype=np.float64))
    # NaN: a corner of the target lies behind the viewer of a perspective
    needed = _intersection(part, visible) if np.isfinite(visible).all() else part
    if _is_empty(needed):
        return None
    source, to_image = _prefilter(image, transform, needed)
    return Patch(source, target, transform @ to_image, part, transform)


def blit(canvas: Image, patch: Patch) -> None:
    """Render a patch onto its canvas, in place; canvas pixels whose center it does not cover keep their values.

    Args:
        canvas: (H, W, C) uint8; may be a view.
        patch: made for a canvas of this size.
    """
    left, top, right, bottom = patch.target
    size = (right - left, bottom - top)
    shift = Transform2D.translate(-left, -top)
    window = canvas[top:bottom, left:right]
    # OpenCV warps four channels to the same values as three, in less than half the time
    is_color = patch.source.shape[2] == 3
    source = np.asarray(cv2.cvtColor(patch.source, cv2.COLOR_BGR2BGRA), np.uint8) if is_color else patch.source
    warped = _warp(source, shift @ patch.from_source, size, cv2.INTER_LINEAR, cv2.BORDER_REPLICATE)
    if patch.from_image.axis_aligned:
        if is_color:
            cv2.cvtColor(warped, cv2.COLOR_BGRA2BGR, dst=window)
        else:
            window[:] = warped.reshape(window.shape)  # OpenCV omits the axis of a single channel
        return
    mask = _mask(patch.part, shift @ patch.from_image, size)
    cv2.copyTo(np.asarray(cv2.cvtColor(warped, cv2.COLOR_BGRA2BGR)) if is_color else warped, mask, window)


def _target(canvas: Size, transform: Transform2D, part: Rectangle) -> Window | None:
    """Return the smallest window around the canvas pixels whose centers the part may cover, or None."""
    height, width = canvas
    if _is_empty(part):
        return None
    hull = transform.boxes(part)
    if not np.isfinite(hull).all():
        return 0, 0, width, height
    # the edges of rotated parts are rounded by the warp: one pixel of tolerance
    tolerance = 0.0 if transform.axis_aligned else 1.0
    hull = np.clip(hull + np.array([-1, -1, 1, 1]) * tolerance, -1, [width + 1, height + 1] * 2)
    left, top, right, bottom = (math.ceil(value - 0.5) for value in hull)
    window = max(left, 0), max(top, 0), min(right, width), min(bottom, height)
    return None if window[2] <= window[0] or window[3] <= window[1] else window


def _prefilter(image: Image, transform: Transform2D, part: Rectangle) -> tuple[Image, Transform2D]:
    """Cut out the needed pixels and average them down by an integer factor where the transform shrinks by 2 or more.

    A bilinear warp reads four pixels for each of the canvas, so at such scales it would skip pixels and alias.

    Returns:
        The pixels, and the transform from them to image pixels.
    """
    x, y = (part[:2] + part[2:]) / 2
    factor = math.floor(1 / max(transform.max_scale_at(x, y), 1e-6) + 1e-9)
    margin = _MARGIN * max(factor, 1)
    height, width = image.shape[:2]
    left = max(math.floor(part[0]) - margin, 0)
    top = max(math.floor(part[1]) - margin, 0)
    right = min(math.ceil(part[2]) + margin, width)
    bottom = min(math.ceil(part[3]) + margin, height)
    if factor < 2:
        return image[top:bottom, left:right], Transform2D.translate(left, top)
    # complete blocks of factor × factor pixels, which OpenCV averages many times faster than incomplete ones
    right = min(right + (left - right) % factor, width)
    bottom = min(bottom + (top - bottom) % factor, height)
    source = image[top:bottom, left:right]
    missing_rows = (top - bottom) % factor
    missing_columns = (left - right) % factor
    if missing_rows or missing_columns:
        source = np.asarray(cv2.copyMakeBorder(source, 0, missing_rows, 0, missing_columns, cv2.BORDER_REPLICATE))
    size = source.shape[1] // factor, source.shape[0] // factor
    source = np.asarray(cv2.resize(source, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    source = source.reshape(*source.shape[:2], image.shape[2])
    return source, Transform2D.translate(left, top) @ Transform2D.scale(factor)


def _warp(
    image: Image, transform: Transform2D, size: tuple[int, int], interpolation: int, border: int
) -> npt.NDArray[Any]:
    matrix = transform.pixel_matrix()
    if transform.matrix[2, 0] == 0 and transform.matrix[2, 1] == 0:
        return cv2.warpAffine(image, matrix[:2], size, flags=interpolation, borderMode=border)
    return cv2.warpPerspective(image, matrix, size, flags=interpolation, borderMode=border)


def _mask(part: Rectangle, transform: Transform2D, size: tuple[int, int]) -> npt.NDArray[Any]:
    """Return 1 where the center of a canvas pixel lies in the part of the image."""
    left, top = part[:2] - _SEAM
    width, height = part[2:] - part[:2] + 2 * _SEAM
    ones = np.ones((math.ceil(height), math.ceil(width)), dtype=np.uint8)
    stretch = Transform2D.scale(width / ones.shape[1], height / ones.shape[0])
    # nearest: a pixel is set if its center falls into 0…width, 0…height of the image of ones
    to_canvas = transform @ Transform2D.translate(left, top) @ stretch
    return _warp(ones, to_canvas, size, cv2.INTER_NEAREST, cv2.BORDER_CONSTANT)


def _is_empty(rectangle: Rectangle) -> bool:
    return bool(rectangle[2] <= rectangle[0] or rectangle[3] <= rectangle[1])


def _intersection(first: Rectangle, second: Rectangle) -> Rectangle:
    return np.concatenate((np.maximum(first[:2], second[:2]), np.minimum(first[2:], second[2:])))
