"""Any kind of image as the one kind that is drawn on: (H, W, 3) uint8 BGR."""

from __future__ import annotations

import textwrap
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from yolopose.base.errors import UsageError
from yolopose.results.arrays import host

Image = npt.NDArray[np.uint8]


def as_bgr(image: Any) -> Image:
    """Return an image as contiguous (H, W, 3) uint8 BGR; the same memory when it is that already.

    Args:
        image: (H, W), (H, W, 1), (H, W, 3) BGR or (H, W, 4) BGRA; uint8, uint16, bool, or floating point 0…1.

    Raises:
        UsageError: it has another shape.
    """
    img = host(image)
    if img.ndim == 2:
        img = img[..., None]
    if img.ndim != 3 or img.shape[2] not in (1, 3, 4):
        raise UsageError(
            f"An image to draw on must be (H, W), (H, W, 1), (H, W, 3) BGR or (H, W, 4) BGRA; got {host(image).shape}."
        )
    img = _as_bytes(img[..., :3])
    if img.shape[2] == 1:
        img = np.repeat(img, 3, axis=2)
    return np.ascontiguousarray(img)


def _as_bytes(img: npt.NDArray[Any]) -> Image:
    if img.dtype == np.uint8:
        return img
    if img.dtype == np.uint16:
        return (img >> 8).astype(np.uint8)
    scale = 255.0 if img.dtype.kind in "fb" else 1.0
    return np.clip(np.nan_to_num(img.astype(np.float32)) * scale + 0.5, 0, 255).astype(np.uint8)


def notice(text: str) -> Image:
    """Return a gray image that shows a text, for an image that could not be read."""
    width, line = 640, 22
    lines = textwrap.wrap(text, 66)
    img = np.full((max(120, line * (len(lines) + 2)), width, 3), 114, np.uint8)
    for number, words in enumerate(lines, start=1):
        origin = (12, 10 + line * number)
        cv2.putText(img, words, origin, cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 255), 1, cv2.LINE_AA)
    return img
