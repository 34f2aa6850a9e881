"""One training sample: the random choices first, then each picture drawn once onto the final image."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from yolopose.config.options import Augment
from yolopose.data import ImageLabels, LabelTable
from yolopose.geometry import Map
from yolopose.geometry.letterbox import PAD_VALUE
from yolopose.schema import PoseSpec
from yolopose.train.feed.augment import Layer, Size, mosaic, random_change, single
from yolopose.train.feed.colour import change_hsv
from yolopose.train.feed.draw import draw
from yolopose.train.feed.images import Images
from yolopose.train.feed.objects import carry, cut_out, join, mirrored

Image = npt.NDArray[np.uint8]
Window = tuple[int, int, int, int]
_CUT_TRIES = 3


@dataclass(frozen=True, slots=True)
class Request:
    """What to make a batch of; the same request gives the same batch in every process.

    Attributes:
        epoch: number of the epoch; with the seed and the picture's index it seeds each sample.
        index: (B,) pictures of the table.
        pool: pictures that mosaic, mixup and cutmix draw their further pictures from.
        shape: (height, width) of the batch.
        mosaic: whether mosaic, mixup and cutmix are on.
    """

    epoch: int
    index: npt.NDArray[np.int64]
    pool: npt.NDArray[np.int64]
    shape: Size
    mosaic: bool


class Sampler:
    """Makes training samples.

    Args:
        table: the labels.
        spec: classes and keypoints of the data; without its `flip_idx` nothing is mirrored.
        options: the ranges and probabilities.
        images: where decoded pictures come from.
        imgsz: longer side that a picture is scaled to before the random change, pixels.
        seed: start of all random numbers.
    """

    def __init__(
        self, table: LabelTable, spec: PoseSpec, options: Augment, images: Images, *, imgsz: int, seed: int
    ) -> None:
        self.table = table
        self._flip_idx = spec.keypoints.flip_idx
        self._options = options
        self._images = images
        self._imgsz = imgsz
        self._seed = seed

    def make(self, request: Request, index: int) -> tuple[Image, ImageLabels]:
        """Makes the sample of one picture.

        Args:
            request: the batch it is for.
            index: the picture.

        Returns:
            (H, W, 3) uint8 BGR (RGB where the `bgr` swap was drawn), and its objects: boxes x1, y1, x2, y2 and
            keypoints x, y, v in pixels of it.

        Raises:
            DataError: a picture cannot be read any more; the text names it.
        """
        rng = np.random.default_rng((self._seed, request.epoch, index))
        options = self._options
        sides = self._draw_flips(rng)
        canvas, labels = self._render(self._layer(rng, request, index, sides), request.shape)
        if request.mosaic and rng.random() < options.mixup:
            canvas, labels = self._mix(rng, request, sides, canvas, labels)
        if request.mosaic and rng.random() < options.cutmix:
            labels = self._cut(rng, request, sides, canvas, labels)
        for flipped in sides:
            if flipped and self._flip_idx is not None:
                labels = mirrored(labels, self._flip_idx)
        gains = rng.uniform(-1, 1, 3) * (options.hsv_h, options.hsv_s, options.hsv_v)
        if gains.any():
            change_hsv(canvas, *gains)
        if rng.random() < options.bgr:
            canvas = canvas[:, :, ::-1]
        return canvas, labels

    def _draw_flips(self, rng: np.random.Generator) -> tuple[bool, bool]:
        """(left-right, up-down); both draws are always made, so that later ones do not depend on the data set."""
        left_right, up_down = rng.random(2) < (self._options.fliplr, self._options.flipud)
        known = self._flip_idx is not None
        return bool(left_right) and known, bool(up_down) and known

    def _layer(self, rng: np.random.Generator, request: Request, index: int, sides: tuple[bool, bool]) -> Layer:
        side, shape = self._imgsz, request.shape
        sizes = self.table.shapes
        if request.mosaic and rng.random() < self._options.mosaic:
            a, b, c = (self._partner(rng, request) for _ in range(3))
            indices = (index, a, b, c)
            tiles = mosaic(rng, indices, [_size(sizes[one]) for one in indices], side)
            inner = (2 * side, 2 * side)
        else:
            tiles = [single(index, _size(sizes[index]), side, shape)]
            inner = shape
        change, gain = random_change(rng, self._options, inner, shape)
        mirror = Map.flip(*shape, horizontal=sides[0], vertical=sides[1])
        return Layer(tuple(tiles), inner, mirror @ change, gain)

    def _partner(self, rng: np.random.Generator, request: Request) -> int:
        return int(request.pool[rng.integers(len(request.pool))])

    def _render(self, layer: Layer, shape: Size) -> tuple[Image, ImageLabels]:
        """A layer's picture, and its objects."""
        canvas = np.full((*shape, 3), PAD_VALUE, dtype=np.uint8)
        self._paint(layer, canvas, (0, 0))
        return canvas, self._objects(layer, shape)

    def _paint(self, layer: Layer, canvas: Image, corner: tuple[int, int]) -> None:
        """Draws a layer's pictures onto a canvas whose upper left pixel is pixel `corner` (x, y) of the image."""
        shift = Map.translate(-corner[0], -corner[1])
        limits = np.array([0, 0, layer.inner[1], layer.inner[0]], dtype=np.float64)
        for tile in layer.tiles:
            image = self._images[tile.index]
            height, width = image.shape[:2]
            to_inner = tile.place @ Map.scale(1 / width, 1 / height)
            draw(canvas, image, shift @ layer.change @ to_inner, to_inner.inverse().boxes(limits))

    def _objects(self, layer: Layer, shape: Size) -> ImageLabels:
        return join(
            [
                carry(self.table.of(tile.index), tile.place, layer.inner, layer.change, layer.gain, shape)
                for tile in layer.tiles
            ]
        )

    def _mix(
        self, rng: np.random.Generator, request: Request, sides: tuple[bool, bool], canvas: Image, labels: ImageLabels
    ) -> tuple[Image, ImageLabels]:
        """Blends another sample in, about half and half; the objects of both count."""
        layer = self._layer(rng, request, self._partner(rng, request), sides)
        other, further = self._render(layer, request.shape)
        weight = float(rng.beta(32, 32))
        cv2.addWeighted(canvas, weight, other, 1 - weight, 0, dst=canvas)
        return canvas, join([labels, further])

    def _cut(
        self, rng: np.random.Generator, request: Request, sides: tuple[bool, bool], canvas: Image, labels: ImageLabels
    ) -> ImageLabels:
        """Pastes a window of another sample, where it hides no object; else leaves all as it is."""
        layer = self._layer(rng, request, self._partner(rng, request), sides)
        window = free_window(rng, request.shape, labels)
        if window is None:
            return labels
        left, top, right, bottom = window
        view = canvas[top:bottom, left:right]
        view[:] = PAD_VALUE
        self._paint(layer, view, (left, top))
        return join([labels, cut_out(self._objects(layer, request.shape), window)])


def free_window(rng: np.random.Generator, shape: Size, labels: ImageLabels) -> Window | None:
    """Draws a window (left, top, right, bottom) of a uniform share of the image that touches no object.

    Gives None when three draws all touch one or are empty.
    """
    height, width = shape
    for _ in range(_CUT_TRIES):
        half = math.sqrt(rng.random()) / 2
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        left, right = max(int(x - half * width), 0), min(int(x + half * width), width)
        top, bottom = max(int(y - half * height), 0), min(int(y + half * height), height)
        boxes = labels.boxes
        apart = (boxes[:, 2] <= left) | (boxes[:, 0] >= right) | (boxes[:, 3] <= top) | (boxes[:, 1] >= bottom)
        if right > left and bottom > top and apart.all():
            return left, top, right, bottom
    return None


def _size(shape: npt.NDArray[np.int32]) -> Size:
    return int(shape[0]), int(shape[1])
