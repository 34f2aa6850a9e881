"""The random choices: where images are placed, and how the whole is changed. No pixel is touched here."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from yolopose.config.options import AugmentOptions
from yolopose.data.batches import letterbox_for, loaded_size
from yolopose.geometry import Transform2D

Size = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Tile:
    """An image and its place.

    Attributes:
        index: which image of the table.
        place: 0…1 of the image to pixels of the input.
    """

    index: int
    place: Transform2D


@dataclass(frozen=True, slots=True)
class Canvas:
    """An augmented image on paper: tiles in an input, and the change from the input to the final image.

    Attributes:
        tiles: images, each at its place in the input.
        inner: (height, width) of the input, pixels; what lies beyond it is cut away.
        change: input to final image, flips included.
        gain: the scale that `change` applies.
    """

    tiles: tuple[Tile, ...]
    inner: Size
    change: Transform2D
    gain: float


def mosaic(rng: np.random.Generator, indices: tuple[int, int, int, int], sizes: list[Size], side: int) -> list[Tile]:
    """Place four images around a common center on a canvas of twice the side.

    Args:
        rng: source of the center, uniform in the middle half of the canvas.
        indices: images: top left, top right, bottom left, bottom right.
        sizes: their (height, width) on file.
        side: pixels that the longer side of each is scaled to.
    """
    x, y = (int(rng.uniform(side / 2, 3 * side / 2)) for _ in range(2))
    tiles: list[Tile] = []
    for corner, (index, size) in enumerate(zip(indices, sizes, strict=True)):
        height, width = loaded_size(size, side)
        left = x if corner % 2 else x - width
        top = y if corner >= 2 else y - height
        tiles.append(Tile(index, Transform2D.translate(left, top) @ Transform2D.scale(width, height)))
    return tiles


def single(index: int, size: Size, side: int, shape: Size) -> Tile:
    """Place one image centerd in an input of the given shape, its longer side scaled to `side`."""
    letterbox = letterbox_for(size, side, shape)
    return Tile(index, Transform2D.letterbox(letterbox) @ Transform2D.scale(size[1], size[0]))


def random_change(
    rng: np.random.Generator, options: AugmentOptions, inner: Size, out: Size
) -> tuple[Transform2D, float]:
    """Draw the affine or perspective change T·S·R·P·C from an input to the final image.

    Args:
        rng: source of randomness.
        options: ranges `perspective`, `degrees`, `scale`, `shear`, `translate`.
        inner: (height, width) of the input, whose middle C puts at the origin.
        out: (height, width) of the final image.

    Returns:
        The map, and its scale.
    """
    center = Transform2D.translate(-inner[1] / 2, -inner[0] / 2)
    tilt = Transform2D.perspective(*rng.uniform(-options.perspective, options.perspective, 2))
    turn = Transform2D.rotate(rng.uniform(-options.degrees, options.degrees))
    gain = max(rng.uniform(1 - options.scale, 1 + options.scale), 0.01)  # scale=1 may draw 0, which has no way back
    shear = Transform2D.shear(*rng.uniform(-options.shear, options.shear, 2))
    shift = rng.uniform(0.5 - options.translate, 0.5 + options.translate, 2)
    place_back = Transform2D.translate(shift[0] * out[1], shift[1] * out[0])
    return place_back @ shear @ Transform2D.scale(gain) @ turn @ tilt @ center, gain
