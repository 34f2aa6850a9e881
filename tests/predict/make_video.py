"""Small videos with known content."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

STEP = 6


def make(path: Path, code: str = "mp4v", count: int = 40, size: tuple[int, int] = (48, 64), fps: float = 25) -> Path:
    """A video whose frame i (from 0) is gray of shade 6 · i, with noise in a corner so that frames take room."""
    noise = np.random.default_rng(0)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*code), fps, size[::-1])
    for index in range(count):
        image = np.full((*size, 3), index * STEP, np.uint8)
        image[:16, -16:] = noise.integers(0, 255, (16, 16, 3))
        writer.write(image)
    writer.release()
    return path
