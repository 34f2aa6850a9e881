"""Images into network input: scaled, padded, RGB planes, written straight into the batch."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from yolopose.geometry import Letterbox
from yolopose.geometry.letterbox import PAD_VALUE

UInt8 = npt.NDArray[np.uint8]


def letterbox_batch(images: Sequence[UInt8], fits: Sequence[Letterbox]) -> UInt8:
    """Letterbox images that share an input size.

    Args:
        images: (H, W, 3) uint8 BGR each.
        fits: where each lies in the input; all with the same `out`.

    Returns:
        (B, 3, height, width) uint8 RGB.
    """
    batch = np.empty((len(images), 3, *fits[0].out), dtype=np.uint8)
    for planes, image, fit in zip(batch, images, fits, strict=True):
        letterbox_into(planes, image, fit)
    return batch


def letterbox_into(planes: UInt8, image: UInt8, fit: Letterbox) -> None:
    """Write one image into its place in a batch.

    Args:
        planes: (3, height, width) uint8 to fill, of size `fit.out`.
        image: (H, W, 3) uint8 BGR, of size `fit.source` or decoded at a smaller scale.
        fit: where it lies.
    """
    height, width = fit.inner
    bottom, right = fit.top + height, fit.left + width
    planes[:, : fit.top] = PAD_VALUE
    planes[:, bottom:] = PAD_VALUE
    planes[:, fit.top : bottom, : fit.left] = PAD_VALUE
    planes[:, fit.top : bottom, right:] = PAD_VALUE
    if fit.inner != image.shape[:2]:
        image = np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR), dtype=np.uint8)
    red, green, blue = planes[:, fit.top : bottom, fit.left : right]
    # split writes into the given planes; four times faster than a transposed copy in numpy
    cv2.split(image, [blue, green, red])
