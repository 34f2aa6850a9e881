"""Arrays of any type and range as uint8 images: (H, W, 3) BGR, or the channels that a network reads."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from yolopose.base.errors import SourceError
from yolopose.base.log import warn_once

# Interpolation (bicubic, Lanczos) leaves the range of its input by about a quarter at sharp edges.
_OVERSHOOT = 0.25
# An image in 0…255 without a value above 2 is black in any case; one below 16 is possible, but rare.
_MAX_UNIT = 2.0
_MAX_DARK = 16.0
# Sum of the negative values to that of the positive ones, from which an image counts as normalized.
_MAX_NEGATIVE_SHARE = 0.05
_MAX_16_BIT = 65535.0
_RANGES = "Pass uint8, float 0…1 or 0…255, or uint16 0…65535"


def to_bgr(array: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Convert an array to a BGR image.

    Args:
        array: (H, W), (H, W, 1), (H, W, 3) BGR or (H, W, 4) BGRA; bool, uint8, uint16 (0…65535, or 0…255 without a
            larger value), another integer type (0…255, or 0…65535 with larger values), or float (0…1, 0…255 or
            0…65535 by its largest value). Values that leave the range slightly, as after bicubic resizing, are clipped;
            floats that are normalized to mean 0 are stretched to 0…255, with a warning.

    Returns:
        (H, W, 3) uint8; the array itself if it has this form. Alpha is dropped.

    Raises:
        SourceError: another shape or type, no pixels, values that are not finite, or values outside these ranges.
    """
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)) or not array.size:
        raise SourceError(
            f"An array of shape {array.shape} is not an image: give (height, width), or (height, width, channels) "
            "with 1, 3 (BGR) or 4 (BGRA) channels."
        )
    color = array[:, :, :3] if array.ndim == 3 else array  # the range of alpha says nothing about that of the colors
    pixels = _to_uint8(color)
    if pixels.ndim == 2 or pixels.shape[2] == 1:
        return np.repeat(pixels.reshape(*pixels.shape[:2], 1), 3, axis=2)
    return np.ascontiguousarray(pixels)


def to_image(array: npt.NDArray[Any], channels: int) -> npt.NDArray[np.uint8]:
    """Convert an array to an image for a network that reads `channels`, without losing any of them.

    Args:
        array: as for `to_bgr`, or (H, W, channels).
        channels: channels of the network.

    Returns:
        (H, W, channels) uint8 if the array has so many and they are neither 1 nor 3; else (H, W, 3) BGR.

    Raises:
        SourceError: as `to_bgr`.
    """
    if channels in (1, 3) or array.ndim != 3 or array.shape[2] != channels or not array.size:
        if channels not in (1, 3, 4):
            raise SourceError(
                f"An array of shape {array.shape} is not an image for this network: give (height, width, {channels})."
            )
        return to_bgr(array)
    if channels != 4 or array.dtype == np.uint8:
        return np.ascontiguousarray(_to_uint8(array))
    # the range of the fourth channel says nothing about that of the others
    return np.dstack((_to_uint8(array[:, :, :3]), _to_uint8(array[:, :, 3:])))


def match_channels(image: npt.NDArray[np.uint8], channels: int) -> npt.NDArray[np.uint8]:
    """Return an image with the channels that a network reads.

    Args:
        image: (H, W, 3) BGR, (H, W, 4) BGRA, or (H, W, channels).
        channels: 1 converts color to gray, 3 drops alpha, 4 adds an opaque alpha channel.

    Returns:
        (H, W, channels); the image itself if it has so many.

    Raises:
        SourceError: the network reads another number of channels than 1, 3 or 4, and the image has not as many.
    """
    height, width, count = image.shape
    if count == channels:
        return image
    if channels not in (1, 3, 4) or count not in (3, 4):
        raise SourceError(
            f"The image has {count} channels, but this network reads {channels}: give arrays of shape (height, width, "
            f"{channels})."
        )
    if channels == 1:
        code = cv2.COLOR_BGR2GRAY if count == 3 else cv2.COLOR_BGRA2GRAY
    else:
        code = cv2.COLOR_BGRA2BGR if channels == 3 else cv2.COLOR_BGR2BGRA
    return np.asarray(cv2.cvtColor(image, code), dtype=np.uint8).reshape(height, width, channels)


def planes_to_bgr(planes: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return the color image of a network input, to draw on.

    Args:
        planes: (C, H, W): gray, RGB, or B, G, R and others.

    Returns:
        (H, W, 3) BGR, contiguous.
    """
    count = len(planes)
    bgr = planes[::-1] if count == 3 else planes[:3] if count > 3 else planes[[0, 0, 0]]
    return np.ascontiguousarray(bgr.transpose(1, 2, 0))


def seems_normalized(low: float, high: float, share: float) -> bool:
    """Return whether values are centered around 0, with more negative ones than interpolation leaves.

    Args:
        low: smallest value.
        high: largest value.
        share: sum of the negative values to that of the positive ones.
    """
    # values of a normalized image may be larger than 2, but never as large as those of 0…255
    scale = 1.0 if high <= _MAX_DARK else 255.0 if high <= 255 * (1 + _OVERSHOOT) else _MAX_16_BIT
    return low < -_OVERSHOOT * scale or (low < -0.02 * scale and share > _MAX_NEGATIVE_SHARE)


def negative_share(values: npt.NDArray[Any]) -> float:
    """Return the sum of the negative values to that of the positive ones."""
    negative = -float(np.minimum(values, 0).sum(dtype=np.float64))
    positive = float(np.maximum(values, 0).sum(dtype=np.float64))
    return negative / positive if positive > 0 else float(negative > 0)


def _to_uint8(array: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    kind = array.dtype.kind
    if array.dtype == np.uint8:
        return array
    if kind == "b":
        return array.astype(np.uint8) * 255
    if kind not in "fiu":
        raise SourceError(f"Image arrays of type {array.dtype} are not supported; use uint8 (0…255) or float (0…1).")
    with np.errstate(all="ignore"):  # the error state of the caller must not decide whether an image can be read
        low, high = float(array.min()), float(array.max())
        if not (np.isfinite(low) and np.isfinite(high)):
            raise SourceError("The image array contains NaN or infinite values; replace them before prediction.")
        if low < 0 and seems_normalized(low, high, negative_share(array)):
            return _stretch(array, low, high)
        return _scale(array, _find_scale(array, high))


def _stretch(array: npt.NDArray[Any], low: float, high: float) -> npt.NDArray[np.uint8]:
    """Return an image that is normalized to mean 0 or to -1…1, from its smallest value (black) to its largest (white).

    Raises:
        SourceError: the values are integers, which nobody normalizes.
    """
    values = f"The image array has values from {low:.4g} to {high:.4g}"
    if array.dtype.kind != "f":
        raise SourceError(f"{values}, which is not an image range. {_RANGES}.")
    warn_once(
        f"{values}: it seems to be normalized (mean 0, or -1…1). Its smallest value is read as black and its largest "
        f"as white; to get the original brightness, pass the image before normalization. {_RANGES}."
    )
    scaled = (array.astype(np.float32) - low) * (255 / (high - low))
    return np.clip(np.rint(scaled), 0, 255).astype(np.uint8)


def _find_scale(array: npt.NDArray[Any], high: float) -> float:
    """Return the value of white: 1, 255 or 65535."""
    is_float = array.dtype.kind == "f"
    if is_float and high <= _MAX_UNIT:
        scale = 1.0
    elif high <= 255 * (1 + (_OVERSHOOT if array.dtype != np.uint16 else 0)):
        scale = 255.0
    elif high <= _MAX_16_BIT * (1 + _OVERSHOOT):
        scale = _MAX_16_BIT
    else:
        raise SourceError(f"The image array has values up to {high:.6g}, which is not an image range. {_RANGES}.")
    if is_float and scale == 255 and high <= _MAX_DARK:
        warn_once(
            f"A float image with values up to {high:.4g} is read as 0…255 and is nearly black. If its values are those "
            "of 0…1 with highlights above 1, clip or scale them before prediction."
        )
    if scale == _MAX_16_BIT and high < _MAX_16_BIT / _MAX_DARK:
        warn_once(
            f"A 16-bit image with values up to {high:.6g} is read as 0…65535 and is nearly black. If its values have "
            "10 or 12 bits, scale them before prediction."
        )
    return scale


def _scale(array: npt.NDArray[Any], scale: float) -> npt.NDArray[np.uint8]:
    if array.dtype == np.uint16 and scale == _MAX_16_BIT:
        return (array >> 8).astype(np.uint8)
    if scale == 255:
        return np.clip(np.rint(array), 0, 255).astype(np.uint8)
    values = array.astype(np.float32)
    if scale == _MAX_16_BIT:
        return np.clip(values / 256, 0, 255).astype(np.uint8)  # rounded down, as the shift of uint16
    return np.clip(np.rint(values * 255), 0, 255).astype(np.uint8)
