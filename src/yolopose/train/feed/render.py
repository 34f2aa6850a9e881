"""Laying an image onto a canvas through one map: each visible pixel is interpolated once."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from yolopose.geometry import Transform2D

Image = npt.NDArray[np.uint8]
Rectangle = npt.NDArray[np.float64]  # x1, y1, x2, y2
_MARGIN = 4  # source pixels kept around what is seen, for interpolation
_SEAM = 1 / 64  # a turned tile is drawn that much larger, so that rounding leaves no gap between two tiles


@dataclass(frozen=True, slots=True, eq=False)
class Patch:
    """An image on its way to a canvas.

    Attributes:
        source: (h, w, 3) uint8, the pixels of the image that are needed, averaged down where the map shrinks.
        target: left, top, right, bottom of the canvas pixels it may cover; exactly those, where the map keeps
            rectangles upright.
        from_source: pixels of `source` to pixels of the canvas.
        part: the part of the image to draw, in its pixels.
        from_image: pixels of the image to pixels of the canvas.
    """

    source: Image
    target: tuple[int, int, int, int]
    from_source: Transform2D
    part: Rectangle
    from_image: Transform2D

    @property
    def part_of_source(self) -> Rectangle:
        """`part` in pixels of the source, the seam of turned images counted in."""
        seam = 0.0 if self.from_image.axis_aligned else _SEAM
        part = self.part + np.array([-seam, -seam, seam, seam])
        return (self.from_source.inverse() @ self.from_image).boxes(part)


def draw(canvas: Image, image: Image, place: Transform2D, clip: Rectangle | None = None) -> None:
    """Draw an image onto a canvas; canvas pixels whose center it does not cover stay as they are.

    Args:
        canvas: (H, W, 3) uint8, changed in place; may be a view.
        image: (h, w, 3) uint8.
        place: image pixels to canvas pixels, continuous coordinates.
        clip: part of the image to draw, in its pixels; all of it when left out.
    """
    patch = cut_patch((canvas.shape[0], canvas.shape[1]), image, place, clip)
    if patch is not None:
        lay(canvas, patch)


def cut_patch(size: tuple[int, int], image: Image, place: Transform2D, clip: Rectangle | None = None) -> Patch | None:
    """Find what an image shows on a canvas; None where that is nothing.

    Where the map shrinks by 2 or more, the seen part is first averaged down by a whole factor, since a bilinear warp
    alone would skip pixels.

    Args:
        size: (height, width) of the canvas.
        image: (h, w, 3) uint8.
        place: image pixels to canvas pixels, continuous coordinates.
        clip: part of the image to draw, in its pixels; all of it when left out.
    """
    height, width = image.shape[:2]
    part = np.array([0, 0, width, height], dtype=np.float64)
    if clip is not None:
        part = _common(part, clip)
    target = _covered(size, place, part)
    if target is None:
        return None
    needed = _needed(place, part, target)
    if _empty(needed):
        return None
    source, to_image = _prefiltered(image, place, needed)
    return Patch(source, target, place @ to_image, part, place)


def lay(canvas: Image, patch: Patch) -> None:
    """Lay a patch onto its canvas, in place."""
    left, top, right, bottom = patch.target
    size, shift = (right - left, bottom - top), Transform2D.translate(-left, -top)
    # the same values with four channels as with three, in less than half the time
    four = np.asarray(cv2.cvtColor(patch.source, cv2.COLOR_BGR2BGRA), dtype=np.uint8)
    drawn = _warp(four, shift @ patch.from_source, size, cv2.INTER_LINEAR, cv2.BORDER_REPLICATE)
    window = canvas[top:bottom, left:right]
    if patch.from_image.axis_aligned:
        cv2.cvtColor(drawn, cv2.COLOR_BGRA2BGR, dst=window)
        return
    mask = _mask(patch.part, shift @ patch.from_image, size)
    cv2.copyTo(np.asarray(cv2.cvtColor(drawn, cv2.COLOR_BGRA2BGR)), mask, window)


def _covered(canvas: tuple[int, int], place: Transform2D, part: Rectangle) -> tuple[int, int, int, int] | None:
    """Canvas pixels (left, top, right, bottom) around those whose centers the part may cover; None when there are none.

    For axis-aligned maps it is exactly those pixels.
    """
    height, width = canvas
    if _empty(part):
        return None
    hull = place.boxes(part)
    if not np.isfinite(hull).all():
        return 0, 0, width, height
    spread = 0.0 if place.axis_aligned else 1.0
    hull = np.clip(hull + np.array([-1, -1, 1, 1]) * spread, -1, [width + 1, height + 1] * 2)
    left, top, right, bottom = (math.ceil(value - 0.5) for value in hull)
    left, top, right, bottom = max(left, 0), max(top, 0), min(right, width), min(bottom, height)
    return (left, top, right, bottom) if right > left and bottom > top else None


def _needed(place: Transform2D, part: Rectangle, target: tuple[int, int, int, int]) -> Rectangle:
    """The part of the image that the target shows."""
    seen = place.inverse().boxes(np.array(target, dtype=np.float64))
    return _common(part, seen) if np.isfinite(seen).all() else part


def _prefiltered(image: Image, place: Transform2D, part: Rectangle) -> tuple[Image, Transform2D]:
    """The needed pixels, averaged down where the map shrinks; and the map from them back to image pixels."""
    x, y = (part[:2] + part[2:]) / 2
    factor = math.floor(1 / max(place.max_scale_at(x, y), 1e-6) + 1e-9)
    margin = _MARGIN * max(factor, 1)
    height, width = image.shape[:2]
    left, top = max(math.floor(part[0]) - margin, 0), max(math.floor(part[1]) - margin, 0)
    right, bottom = min(math.ceil(part[2]) + margin, width), min(math.ceil(part[3]) + margin, height)
    if factor < 2:
        return image[top:bottom, left:right], Transform2D.translate(left, top)
    # whole blocks of factor × factor pixels, which OpenCV averages many times as fast; at the edge it goes on beyond it
    right, bottom = min(right + (left - right) % factor, width), min(bottom + (top - bottom) % factor, height)
    source, down, along = image[top:bottom, left:right], (top - bottom) % factor, (left - right) % factor
    if down or along:
        source = cv2.copyMakeBorder(source, 0, down, 0, along, cv2.BORDER_REPLICATE)
    size = source.shape[1] // factor, source.shape[0] // factor
    source = np.asarray(cv2.resize(source, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    return source, Transform2D.translate(left, top) @ Transform2D.scale(factor)


def _warp(image: Image, local: Transform2D, size: tuple[int, int], how: int, border: int) -> npt.NDArray[Any]:
    matrix = local.pixel_matrix()
    if local.matrix[2, 0] == 0 and local.matrix[2, 1] == 0:
        return cv2.warpAffine(image, matrix[:2], size, flags=how, borderMode=border)
    return cv2.warpPerspective(image, matrix, size, flags=how, borderMode=border)


def _mask(part: Rectangle, place: Transform2D, size: tuple[int, int]) -> npt.NDArray[Any]:
    """1 where a canvas pixel's center comes from inside the part."""
    left, top = part[:2] - _SEAM
    width, height = part[2:] - part[:2] + 2 * _SEAM
    ones = np.ones((math.ceil(height), math.ceil(width)), dtype=np.uint8)
    stretch = Transform2D.scale(width / ones.shape[1], height / ones.shape[0])
    # nearest: a pixel is filled when its center falls into 0…width, 0…height of the image of ones
    return _warp(ones, place @ Transform2D.translate(left, top) @ stretch, size, cv2.INTER_NEAREST, cv2.BORDER_CONSTANT)


def _empty(part: Rectangle) -> bool:
    return bool(part[2] <= part[0] or part[3] <= part[1])


def _common(first: Rectangle, second: Rectangle) -> Rectangle:
    return np.concatenate((np.maximum(first[:2], second[:2]), np.minimum(first[2:], second[2:])))
