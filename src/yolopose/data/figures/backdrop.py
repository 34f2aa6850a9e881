"""What stands behind and before the figures, and what a camera does to an image."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from yolopose.data.figures.paint import Color, Image

Share = npt.NDArray[np.float32]


def background(rng: np.random.Generator, shape: tuple[int, int]) -> Image:
    """Draw what is behind: a gradient, noise of several grains, stripes or blocks, and clutter.

    Args:
        rng: of everything in it.
        shape: height and width, pixels.

    Returns:
        (H, W, 3) BGR.
    """
    share = (_slope, _clouds, _stripes, _blocks)[rng.integers(4)](rng, shape)
    first, second = np.array(_tone(rng)), np.array(_tone(rng))
    table = first + (second - first) * np.linspace(0, 1, 256)[:, None]
    canvas = table.astype(np.uint8)[(share * 255).astype(np.uint8)]
    for _ in range(int(rng.integers(0, 12))):
        _clutter(rng, canvas)
    return canvas


def thing(rng: np.random.Generator, shape: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """(H, W) where something in front stands: a post, a box or a bush.

    Args:
        rng: of its kind and place.
        shape: height and width, pixels.
    """
    height, width = shape
    mask = np.zeros(shape, dtype=np.uint8)
    kind = rng.integers(3)
    x, y = rng.uniform(0, width), rng.uniform(0.3, 1.0) * height
    if kind == 0:
        half = rng.uniform(0.01, 0.04) * width
        cv2.rectangle(mask, (int(x - half), 0), (int(x + half), height), 1, -1)
    elif kind == 1:
        half_w, half_h = rng.uniform(0.05, 0.18, 2) * (width, height)
        cv2.rectangle(mask, (int(x - half_w), int(y - half_h)), (int(x + half_w), int(y + half_h)), 1, -1)
    else:
        for _ in range(6):
            dx, dy, radius = *rng.normal(0, 0.05 * width, 2), rng.uniform(0.02, 0.08) * width
            cv2.circle(mask, (int(x + dx), int(y + dy)), int(radius), 1, -1)
    return mask > 0


def speckled(rng: np.random.Generator, count: int) -> Image:
    """(count, 3) pixels of one rough color, BGR."""
    return np.clip(np.array(_tone(rng)) + rng.normal(0, 8, (count, 1)), 0, 255).astype(np.uint8)


def photographed(rng: np.random.Generator, canvas: Image) -> Image:
    """Add what a camera does: a little blur, light and grain.

    Args:
        rng: of how much.
        canvas: (H, W, 3) BGR.
    """
    if rng.random() < 0.3:
        canvas = np.asarray(cv2.GaussianBlur(canvas, (0, 0), float(rng.uniform(0.3, 0.9))), dtype=np.uint8)
    light = np.clip(np.arange(256) * rng.uniform(0.7, 1.2), 0, 255).astype(np.uint8)
    canvas = light[canvas]
    if rng.random() < 0.7:
        grain = rng.standard_normal(canvas.shape[:2], dtype=np.float32) * np.float32(rng.uniform(1, 9))
        canvas = np.asarray(cv2.add(canvas, cv2.merge([grain] * 3), dtype=cv2.CV_8U), dtype=np.uint8)
    return canvas


def _slope(rng: np.random.Generator, shape: tuple[int, int]) -> Share:
    return np.clip(_ramp(rng, shape) + np.float32(0.5), 0, 1)


def _clouds(rng: np.random.Generator, shape: tuple[int, int]) -> Share:
    share = np.zeros(shape, dtype=np.float32)
    for cells in (3, 7, 20, 60):
        grain = rng.random((cells, cells), dtype=np.float32) * np.float32(cells**-0.5)
        share += cv2.resize(grain, shape[::-1], interpolation=cv2.INTER_CUBIC)
    share -= share.min()
    return share / max(float(share.max()), 1e-6)


def _stripes(rng: np.random.Generator, shape: tuple[int, int]) -> Share:
    return np.float32(0.5) + np.float32(0.5) * np.sin(_ramp(rng, shape) * np.float32(rng.uniform(10, 90)))


def _blocks(rng: np.random.Generator, shape: tuple[int, int]) -> Share:
    cells = int(rng.integers(3, 14))
    blocks = cv2.resize(rng.random((cells, cells), dtype=np.float32), shape[::-1], interpolation=cv2.INTER_NEAREST)
    return np.asarray(blocks, dtype=np.float32)


def _ramp(rng: np.random.Generator, shape: tuple[int, int]) -> Share:
    """(H, W) rising evenly in some direction, by up to 1 over the longer side."""
    y, x = (np.arange(side, dtype=np.float32) / np.float32(max(shape)) for side in shape)
    down, along = rng.uniform(-1, 1, 2).astype(np.float32)
    return (y * down)[:, None] + (x * along)[None]


def _tone(rng: np.random.Generator) -> Color:
    """A color, as often dull as vivid."""
    gray, vivid = rng.uniform(0, 255), rng.random()
    blue, green, red = (float(value) for value in gray + vivid * (rng.uniform(0, 255, 3) - gray))
    return blue, green, red


def _clutter(rng: np.random.Generator, canvas: Image) -> None:
    """A shape as bodies have them too: a bar, a disc or a patch."""
    height, width = canvas.shape[:2]
    color = _tone(rng)
    ends = [[int(value) for value in rng.uniform((0, 0), (width, height))] for _ in range(2)]
    kind = rng.integers(4)
    if kind == 0:
        cv2.line(canvas, ends[0], ends[1], color, int(rng.integers(1, max(width // 25, 3))), cv2.LINE_AA)
    elif kind == 1:
        cv2.circle(canvas, ends[0], int(rng.uniform(0.01, 0.08) * width), color, -1, cv2.LINE_AA)
    elif kind == 2:
        axes = [int(value) for value in rng.uniform(0.01, 0.15, 2) * width]
        cv2.ellipse(canvas, ends[0], axes, float(rng.uniform(0, 180)), 0, 360, color, -1, cv2.LINE_AA)
    else:
        corners = np.array(ends[0]) + rng.uniform(-0.12, 0.12, (4, 2)) * width
        cv2.fillPoly(canvas, [np.asarray(cv2.convexHull(corners.astype(np.int32)))], color, cv2.LINE_AA)
