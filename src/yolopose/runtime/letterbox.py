"""Letterboxed network input: images are resized and padded straight into a batch of RGB planes."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from yolopose.geometry import Letterbox
from yolopose.geometry.letterbox import PAD_VALUE

UInt8 = npt.NDArray[np.uint8]


def letterbox_batch(images: Sequence[UInt8], letterboxes: Sequence[Letterbox]) -> UInt8:
    """Letterbox images that share an input size.

    Args:
        images: (H, W, 3) uint8 BGR each.
        letterboxes: position of each image in the input; all with the same `out`.

    Returns:
        (B, 3, height, width) uint8 RGB.
    """
    batch = np.empty((len(images), 3, *letterboxes[0].out), dtype=np.uint8)
    for planes, image, letterbox in zip(batch, images, letterboxes, strict=True):
        letterbox_into(planes, image, letterbox)
    return batch


def letterbox_into(planes: UInt8, image: UInt8, letterbox: Letterbox) -> None:
    """Write one letterboxed image into its slot of a batch.

    Args:
        planes: (3, height, width) uint8 output of size `letterbox.out`.
        image: (H, W, 3) uint8 BGR, of size `letterbox.source` or decoded at a smaller scale.
        letterbox: position of the image.
    """
    height, width = letterbox.inner
    top, left = letterbox.top, letterbox.left
    bottom, right = top + height, left + width
    planes[:, :top] = PAD_VALUE
    planes[:, bottom:] = PAD_VALUE
    planes[:, top:bottom, :left] = PAD_VALUE
    planes[:, top:bottom, right:] = PAD_VALUE
    if letterbox.inner != image.shape[:2]:
        image = np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR), dtype=np.uint8)
    red, green, blue = planes[:, top:bottom, left:right]
    # cv2.split writes into the planes of the batch, four times faster than a transposed copy in numpy.
    cv2.split(image, [blue, green, red])
