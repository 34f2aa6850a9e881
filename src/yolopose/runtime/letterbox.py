"""Letterboxed network input: images are resized and padded straight into a batch of RGB planes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from yolopose.data.images import letterbox_into
from yolopose.geometry import Letterbox

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
