"""An image of several figures: background, figures from far to near, things in front of them, and the truth."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from yolopose.data.figures.backdrop import background, photographed, speckled, thing
from yolopose.data.figures.body import random_body
from yolopose.data.figures.paint import THING, Figure, Image, dressed, paint
from yolopose.data.figures.truth import Owners, box_of, seen_share, visibility

MOST = 6
"""Figures in an image, at most."""
LEAST_SIDE = 8
"""Pixels of the shorter side of a box; smaller figures are not labeled."""
LEAST_SEEN = 0.15
"""Share of a figure's area that must be seen for it to be labeled."""
_ASPECTS = (1.0, 0.75, 0.75, 0.6)
_COUNTS = (0.27, 0.25, 0.2, 0.13, 0.09, 0.06)  # chance of 1, 2, … figures
_LARGEST = (0.98, 0.9, 0.8, 0.7, 0.65, 0.6)  # body height of 1, 2, … figures, in image heights
_SMALLEST = 0.17

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Scene:
    """A painted image and who is in it.

    Attributes:
        image: (H, W, 3) BGR.
        figures: all of them, far to near; their place here is their number.
        owners: (H, W) which part of which figure is seen at each pixel: see `paint.owner`.
    """

    image: Image
    figures: tuple[Figure, ...]
    owners: Owners

    def labeled(self) -> list[int]:
        """Numbers of the figures of which enough is seen."""
        height, width = self.owners.shape
        numbers: list[int] = []
        for number, figure in enumerate(self.figures):
            box = box_of(figure, width, height)
            large = min(box[2] - box[0], box[3] - box[1]) >= LEAST_SIDE
            if large and seen_share(figure, number, self.owners) >= LEAST_SEEN:
                numbers.append(number)
        return numbers


def draw_scene(seed: int, split: str, index: int, size: int) -> tuple[Image, Floats, Floats]:
    """Draw one image; it depends on nothing but the arguments.

    Args:
        seed: of the data set, 0 or more.
        split: its part, `train` or `val`.
        index: number of the image in it, 0 or more.
        size: longer side, pixels.

    Returns:
        (H, W, 3) BGR; (N, 4) boxes x1, y1, x2, y2, tight around all of a figure that is inside the image, hidden
        parts too; (N, 17, 3) keypoints x, y in pixels and v: 2 seen, 1 hidden, 0 outside the image (x = y = 0).
        Figures that are hardly seen have no row.
    """
    scene = compose(seed, split, index, size)
    height, width = scene.owners.shape
    numbers = scene.labeled()
    boxes = np.zeros((len(numbers), 4))
    points = np.zeros((len(numbers), 17, 3))
    for row, number in enumerate(numbers):
        figure = scene.figures[number]
        states = visibility(figure, number, scene.owners)
        boxes[row] = box_of(figure, width, height)
        points[row] = np.column_stack((figure.points * (states > 0)[:, None], states))
    return scene.image, boxes, points


def compose(seed: int, split: str, index: int, size: int) -> Scene:
    """Paint one image; arguments as of `draw_scene`."""
    rng = np.random.default_rng((seed, zlib.crc32(split.encode()), index))
    short = int(size * rng.choice(_ASPECTS))
    shape = (size, short) if rng.random() < 0.4 else (short, size)
    canvas = background(rng, shape)
    owners = np.zeros(shape, dtype=np.int32)
    figures = _figures(rng, shape)
    # things stand behind some figures and before others; half of the images have none
    before = set(rng.integers(1, len(figures) + 1, rng.choice((0, 0, 1, 2))).tolist())
    for number, figure in enumerate(figures):
        paint(canvas, owners, figure, number)
        if number + 1 in before:
            covered = thing(rng, shape)
            canvas[covered] = speckled(rng, int(covered.sum()))
            owners[covered] = THING
    return Scene(photographed(rng, canvas), tuple(figures), owners)


def _figures(rng: np.random.Generator, shape: tuple[int, int]) -> list[Figure]:
    """Figures from far (small) to near (large)."""
    height, width = shape
    count = int(rng.choice(MOST, p=_COUNTS)) + 1
    figures: list[Figure] = []
    for scale in sorted(rng.uniform(_SMALLEST, _LARGEST[count - 1], count) * height):
        place = rng.uniform((0.05 * width, 0.3 * height), (0.95 * width, 0.75 * height))
        figures.append(dressed(random_body(rng), float(scale), place, rng))
    return figures
