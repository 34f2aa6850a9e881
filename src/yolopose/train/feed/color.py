"""Color changes of a training image."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]


def hsv_tables(hue: float, saturation: float, value: float) -> Image:
    """Return the (1, 256, 3) uint8 tables old → new for the channels H, S, V.

    Args:
        hue: shift as a share of the full circle, −1…1.
        saturation: relative gain; 0.2 makes 20 % more. A saturation of 0 stays 0, so gray stays gray.
        value: relative gain.
    """
    old = np.arange(256)
    tables = np.empty((1, 256, 3), dtype=np.uint8)
    tables[0, :, 0] = ((old + hue * 180) % 180).astype(np.uint8)  # OpenCV's hue of bytes runs 0…179
    tables[0, :, 1] = np.clip(old * (1 + saturation), 0, 255).astype(np.uint8)
    tables[0, :, 2] = np.clip(old * (1 + value), 0, 255).astype(np.uint8)
    return tables


def change_hsv(image: Image, hue: float, saturation: float, value: float) -> None:
    """Change hue, saturation and value of a BGR image in place; see `hsv_tables`."""
    hsv: Any = cv2.cvtColor(image, cv2.COLOR_BGR2HSV)
    tables = hsv_tables(hue, saturation, value)
    # one channel at a time: OpenCV takes twice as long to look up three together
    channels = [cv2.LUT(channel, tables[..., number]) for number, channel in enumerate(cv2.split(hsv))]
    cv2.cvtColor(cv2.merge(channels, hsv), cv2.COLOR_HSV2BGR, dst=image)
