"""The augmentations and the table that lists them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from yolopose.data import ImageLabels
from yolopose.data.batches import letterbox_for, loaded_size
from yolopose.geometry import Transform2D
from yolopose.train.feed.augment import (
    GeometricOperation,
    Image,
    ImageSource,
    Layout,
    LayoutOperation,
    Operation,
    Overlay,
    OverlayOperation,
    PixelOperation,
    Size,
    Tile,
    Window,
)

_WINDOW_TRIES = 3
_LEVELS = np.arange(256)


@dataclass(frozen=True)
class Mosaic(LayoutOperation):
    """Place four images around a common center on a canvas of twice `imgsz`."""

    mosaic: float = 0.0

    def layout(self, rng: np.random.Generator, index: int, source: ImageSource) -> Layout | None:
        """Draw three more images and a center, uniform in the middle half of the canvas in both directions."""
        if rng.random() >= self.mosaic:
            return None
        side = source.imgsz
        indices = (index, *(source.random_index(rng) for _ in range(3)))
        x, y = (int(value) for value in rng.uniform(side / 2, 3 * side / 2, 2))
        tiles: list[Tile] = []
        # top left, top right, bottom left, bottom right: each touches the center with a corner
        for corner, idx in enumerate(indices):
            height, width = loaded_size(source.image_size(idx), side)
            left = x if corner % 2 else x - width
            top = y if corner >= 2 else y - height
            tiles.append(Tile(idx, Transform2D.translate(left, top) @ Transform2D.scale(width, height)))
        return Layout(tuple(tiles), (2 * side, 2 * side))


def letterbox_layout(index: int, source: ImageSource) -> Layout:
    """Return the layout of a single image: centered, its longer side scaled to `imgsz`."""
    height, width = source.image_size(index)
    letterbox = letterbox_for((height, width), source.imgsz, source.shape)
    tile = Tile(index, Transform2D.letterbox(letterbox) @ Transform2D.scale(width, height))
    return Layout((tile,), source.shape)


@dataclass(frozen=True)
class Perspective(GeometricOperation):
    """Divide points by 1 + a·x + b·y with a, b uniform in ±`perspective` per pixel."""

    perspective: float = 0.0

    def transform(self, rng: np.random.Generator, shape: Size) -> Transform2D:
        """Draw a and b."""
        return Transform2D.perspective(*rng.uniform(-self.perspective, self.perspective, 2))


@dataclass(frozen=True)
class Rotate(GeometricOperation):
    """Rotate by a uniform angle of ±`degrees`."""

    degrees: float = 0.0

    def transform(self, rng: np.random.Generator, shape: Size) -> Transform2D:
        """Draw the angle."""
        return Transform2D.rotate(rng.uniform(-self.degrees, self.degrees))


@dataclass(frozen=True)
class Scale(GeometricOperation):
    """Scale by a uniform factor of 1 ± `scale`."""

    resizes: ClassVar[bool] = True
    scale: float = 0.0

    def transform(self, rng: np.random.Generator, shape: Size) -> Transform2D:
        """Draw the factor; with `scale=1` it could be 0, which has no inverse."""
        return Transform2D.scale(max(rng.uniform(1 - self.scale, 1 + self.scale), 0.01))


@dataclass(frozen=True)
class Shear(GeometricOperation):
    """Shear both axes by uniform angles of ±`shear` degrees."""

    shear: float = 0.0

    def transform(self, rng: np.random.Generator, shape: Size) -> Transform2D:
        """Draw both angles."""
        return Transform2D.shear(*rng.uniform(-self.shear, self.shear, 2))


@dataclass(frozen=True)
class Translate(GeometricOperation):
    """Shift by a uniform part of ±`translate` of the final image's width and height."""

    translate: float = 0.0

    def transform(self, rng: np.random.Generator, shape: Size) -> Transform2D:
        """Draw both shifts."""
        x, y = rng.uniform(-self.translate, self.translate, 2)
        return Transform2D.translate(x * shape[1], y * shape[0])


@dataclass(frozen=True)
class FlipLR(GeometricOperation):
    """Exchange left and right with probability `fliplr`."""

    per_sample: ClassVar[bool] = True
    fliplr: float = 0.0

    def transform(self, rng: np.random.Generator, shape: Size) -> Transform2D | None:
        """Draw whether to flip."""
        return Transform2D.scale(-1, 1) if rng.random() < self.fliplr else None


@dataclass(frozen=True)
class FlipUD(GeometricOperation):
    """Exchange top and bottom with probability `flipud`."""

    per_sample: ClassVar[bool] = True
    flipud: float = 0.0

    def transform(self, rng: np.random.Generator, shape: Size) -> Transform2D | None:
        """Draw whether to flip."""
        return Transform2D.scale(1, -1) if rng.random() < self.flipud else None


@dataclass(frozen=True)
class MixUp(OverlayOperation):
    """Blend with another augmented sample with probability `mixup`; instances of both count."""

    mixup: float = 0.0

    def overlay(self, rng: np.random.Generator, labels: ImageLabels, source: ImageSource) -> Overlay | None:
        """Draw the other image and its weight from Beta(32, 32)."""
        if rng.random() >= self.mixup:
            return None
        opacity = 1 - float(rng.beta(32, 32))
        return Overlay(source.canvas(source.random_index(rng)), opacity, (0, 0, source.shape[1], source.shape[0]))


@dataclass(frozen=True)
class CutMix(OverlayOperation):
    """Paste a window of another augmented sample with probability `cutmix`, where it covers no instance."""

    cutmix: float = 0.0

    def overlay(self, rng: np.random.Generator, labels: ImageLabels, source: ImageSource) -> Overlay | None:
        """Draw the other image and the window; no change if no free window is drawn."""
        if rng.random() >= self.cutmix:
            return None
        index = source.random_index(rng)
        window = free_window(rng, source.shape, labels)
        return None if window is None else Overlay(source.canvas(index), 1.0, window)


def free_window(rng: np.random.Generator, shape: Size, labels: ImageLabels) -> Window | None:
    """Draw a window (left, top, right, bottom) that touches no box.

    Its area is a uniform part of the image before it is clipped, its center uniform.

    Returns:
        The window, or None if all of three draws touch a box or are empty.
    """
    height, width = shape
    for _ in range(_WINDOW_TRIES):
        half = math.sqrt(rng.random()) / 2
        x = rng.uniform(0, width)
        y = rng.uniform(0, height)
        left = max(int(x - half * width), 0)
        right = min(int(x + half * width), width)
        top = max(int(y - half * height), 0)
        bottom = min(int(y + half * height), height)
        boxes = labels.boxes
        apart = (boxes[:, 2] <= left) | (boxes[:, 0] >= right) | (boxes[:, 3] <= top) | (boxes[:, 1] >= bottom)
        if right > left and bottom > top and apart.all():
            return left, top, right, bottom
    return None


@dataclass(frozen=True)
class HSV(PixelOperation):
    """Shift the hue and scale saturation and value, each by a uniform random part of its gain."""

    color_only: ClassVar[bool] = True

    hsv_h: float = 0.0
    hsv_s: float = 0.0
    hsv_v: float = 0.0

    def parameters(self, rng: np.random.Generator) -> Image:
        """Return the lookup tables of a sample, see `hsv_tables`."""
        return hsv_tables(*rng.uniform(-1, 1, 3) * (self.hsv_h, self.hsv_s, self.hsv_v))

    def apply(self, image: Image, parameters: Image) -> Image:
        """Look up hue, saturation and value in (3, 256) tables."""
        hsv: Any = cv2.cvtColor(image, cv2.COLOR_BGR2HSV)
        # channel by channel: OpenCV takes twice as long to look up three together
        channels = [cv2.LUT(channel, table) for channel, table in zip(cv2.split(hsv), parameters, strict=True)]
        cv2.cvtColor(cv2.merge(channels, hsv), cv2.COLOR_HSV2BGR, dst=image)
        return image

    def apply_torch(self, images: Tensor, parameters: Tensor) -> Tensor:
        """Look up hue, saturation and value in (B, 3, 256) tables.

        The new color is v·(1 − s·w) for the new value v and saturation s and a weight w that each channel has for each
        hue. Tables of hue, chroma and value hold most of it, so few operations touch all pixels.
        """
        hue_table, saturation_table, weight_table = _hsv_constants(images.device)
        pixels = images.to(torch.int32)
        value = pixels.amax(-1)
        chroma = value - pixels.amin(-1)
        rows = torch.arange(len(images), device=images.device)[:, None, None]
        hue, saturation, brightness = parameters.long().unbind(1)
        weight = weight_table[hue][rows, hue_table[_hue_index(pixels, value, chroma)]]
        old_saturation = saturation_table[torch.add(chroma, value, alpha=256)]
        share = (saturation.float() * (1 / 255))[rows, old_saturation][..., None]
        limit = (brightness.float() * (1 / 255))[rows, value][..., None]
        # OpenCV truncates here, it does not round
        return ((1 - share * weight) * limit).mul_(255).floor_()


@dataclass(frozen=True)
class BGR(PixelOperation):
    """Exchange red and blue with probability `bgr`."""

    color_only: ClassVar[bool] = True

    bgr: float = 0.0

    def parameters(self, rng: np.random.Generator) -> npt.NDArray[np.uint8] | None:
        """Draw whether to exchange; there is nothing else to know."""
        return np.zeros(0, dtype=np.uint8) if rng.random() < self.bgr else None

    def apply(self, image: Image, parameters: npt.NDArray[np.uint8]) -> Image:
        """Reverse the channels."""
        return image[:, :, ::-1]

    def apply_torch(self, images: Tensor, parameters: Tensor) -> Tensor:
        """Reverse the channels."""
        return images.flip(-1)


OPERATIONS: list[type[Operation]] = [
    Mosaic,
    # the order in which geometric operations act on the image
    Perspective, Rotate, Scale, Shear, Translate, FlipLR, FlipUD,
    MixUp, CutMix,
    HSV, BGR,
]  # fmt: skip
"""All augmentations. Operations of one kind act in this order; the order does not change their random numbers."""


def hsv_tables(hue: float, saturation: float, value: float) -> Image:
    """Return (3, 256) uint8 tables old → new for the channels H, S, V.

    Args:
        hue: shift as a part of the full circle, −1…1.
        saturation: relative gain from −1; 0.2 adds 20 %. Gray stays gray.
        value: relative gain from −1.
    """
    tables = np.empty((3, 256), dtype=np.uint8)
    tables[0] = (_LEVELS + hue * 180) % 180  # OpenCV stores the hue of 8-bit images as 0…179
    tables[1] = np.minimum(_LEVELS * (1 + saturation), 255)
    tables[2] = np.minimum(_LEVELS * (1 + value), 255)
    return tables


def _hue_index(pixels: Tensor, value: Tensor, chroma: Tensor) -> Tensor:
    """Return the index into the table of hues, 256 · 6 · hue · chroma + chroma; negative ones count from the end."""
    blue, green, red = pixels.unbind(-1)
    numerator = torch.where(
        value == green, torch.add(blue - red, chroma, alpha=2), torch.add(red - green, chroma, alpha=4)
    )
    numerator = torch.where(value == red, green - blue, numerator)
    return torch.add(chroma, numerator, alpha=256)


@cache
def _hsv_constants(device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Return tables of the conversion, in fixed point as in OpenCV.

    Returns:
        The hue 0…179 by `_hue_index`, int64; the saturation 0…255 by 256 · value + chroma, int64; (256, 3)
        the weights w of blue, green and red by hue, float32.
    """
    with torch.inference_mode(False):
        chroma = torch.arange(256)
        divisor = chroma.double().clamp(min=1)
        by_value, by_chroma = (((scale * 4096) / divisor).round().long() * (chroma > 0) for scale in (255, 30))
        numerator = torch.arange(6 * 256)[:, None]
        numerator = torch.where(numerator >= 5 * 256, numerator - 6 * 256, numerator)  # −256…−1 at the end
        hue = (numerator * by_chroma + 2048) >> 12
        saturation = (chroma * by_value[:, None] + 2048) >> 12
        sixth = torch.arange(256, dtype=torch.float32) * (1 / 30)
        part = sixth - sixth.floor()
        # v, t, p, q of the conversion
        weights = torch.stack((torch.zeros(256), 1 - part, torch.ones(256), part), 1)
        order = torch.tensor([[2, 1, 0], [2, 0, 3], [1, 0, 2], [0, 3, 2], [0, 2, 1], [3, 2, 0]])
        weights = weights.gather(1, order[sixth.long() % 6])
        tables = (hue + 180 * (hue < 0)).flatten(), saturation.clamp(max=255).flatten(), weights
        return tables[0].to(device), tables[1].to(device), tables[2].to(device)
