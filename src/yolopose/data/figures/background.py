"""Draw backgrounds, foreground objects and camera effects of figure images."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from yolopose.data.figures.paint import Color, Image

Pattern = npt.NDArray[np.float32]
"""(H, W) values 0…1 that blend two colors."""


def draw_background(rng: np.random.Generator, shape: tuple[int, int]) -> Image:
    """Draw a gradient, noise, stripes or blocks in two colors, with clutter.

    Args:
        rng: source of all random values.
        shape: height and width, pixels.

    Returns:
        (H, W, 3) BGR.
    """
    pattern = (_gradient, _clouds, _stripes, _blocks)[rng.integers(4)](rng, shape)
    first, second = np.array(_random_color(rng)), np.array(_random_color(rng))
    table = first + (second - first) * np.linspace(0, 1, 256)[:, None]
    canvas = table.astype(np.uint8)[(pattern * 255).astype(np.uint8)]
    for _ in range(int(rng.integers(0, 12))):
        _draw_clutter(rng, canvas)
    return canvas


def occluder_mask(rng: np.random.Generator, shape: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Return an (H, W) mask of a foreground object: a post, a box or a bush.

    Args:
        rng: source of its kind and position.
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


def noisy_color(rng: np.random.Generator, count: int) -> Image:
    """Return (count, 3) BGR pixels of one random color with noise."""
    return np.clip(np.array(_random_color(rng)) + rng.normal(0, 8, (count, 1)), 0, 255).astype(np.uint8)


def apply_camera_effects(rng: np.random.Generator, canvas: Image) -> Image:
    """Return the (H, W, 3) BGR image with slight blur, a change of brightness and noise, all of random strength."""
    if rng.random() < 0.3:
        canvas = np.asarray(cv2.GaussianBlur(canvas, (0, 0), float(rng.uniform(0.3, 0.9))), dtype=np.uint8)
    brightness = np.clip(np.arange(256) * rng.uniform(0.7, 1.2), 0, 255).astype(np.uint8)
    canvas = brightness[canvas]
    if rng.random() < 0.7:
        noise = rng.standard_normal(canvas.shape[:2], dtype=np.float32) * np.float32(rng.uniform(1, 9))
        canvas = np.asarray(cv2.add(canvas, cv2.merge([noise] * 3), dtype=cv2.CV_8U), dtype=np.uint8)
    return canvas


def _gradient(rng: np.random.Generator, shape: tuple[int, int]) -> Pattern:
    return np.clip(_ramp(rng, shape) + np.float32(0.5), 0, 1)


def _clouds(rng: np.random.Generator, shape: tuple[int, int]) -> Pattern:
    pattern = np.zeros(shape, dtype=np.float32)
    for size in (3, 7, 20, 60):
        noise = rng.random((size, size), dtype=np.float32) * np.float32(size**-0.5)
        pattern += cv2.resize(noise, shape[::-1], interpolation=cv2.INTER_CUBIC)
    pattern -= pattern.min()
    return pattern / max(float(pattern.max()), 1e-6)


def _stripes(rng: np.random.Generator, shape: tuple[int, int]) -> Pattern:
    return np.float32(0.5) + np.float32(0.5) * np.sin(_ramp(rng, shape) * np.float32(rng.uniform(10, 90)))


def _blocks(rng: np.random.Generator, shape: tuple[int, int]) -> Pattern:
    size = int(rng.integers(3, 14))
    blocks = cv2.resize(rng.random((size, size), dtype=np.float32), shape[::-1], interpolation=cv2.INTER_NEAREST)
    return np.asarray(blocks, dtype=np.float32)


def _ramp(rng: np.random.Generator, shape: tuple[int, int]) -> Pattern:
    """Return (H, W) values that rise linearly in a random direction, by up to 1 over the longer side."""
    y, x = (np.arange(side, dtype=np.float32) / np.float32(max(shape)) for side in shape)
    slope_y, slope_x = rng.uniform(-1, 1, 2).astype(np.float32)
    return (y * slope_y)[:, None] + (x * slope_x)[None]


def _random_color(rng: np.random.Generator) -> Color:
    """Return a color of random saturation."""
    gray, saturation = rng.uniform(0, 255), rng.random()
    blue, green, red = (float(value) for value in gray + saturation * (rng.uniform(0, 255, 3) - gray))
    return blue, green, red


def _draw_clutter(rng: np.random.Generator, canvas: Image) -> None:
    """Draw a shape that resembles parts of a body: a bar, a disc or a patch."""
    height, width = canvas.shape[:2]
    color = _random_color(rng)
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
