"""One training sample: the random choices first, then each image drawn once onto the final image."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from yolopose.config.options import AugmentOptions
from yolopose.data import Annotations, ImageLabels
from yolopose.geometry import Transform2D
from yolopose.geometry.letterbox import PAD_VALUE
from yolopose.schema import PoseSpec
from yolopose.train.feed.augment import Canvas, Size, mosaic, random_change, single
from yolopose.train.feed.color import change_hsv
from yolopose.train.feed.image_cache import Images
from yolopose.train.feed.labels import carry, crop_labels, join, mirrored, put
from yolopose.train.feed.render import Patch, cut_patch, lay

Image = npt.NDArray[np.uint8]
Window = tuple[int, int, int, int]
_CUT_TRIES = 3


@dataclass(frozen=True, slots=True)
class BatchSpec:
    """What to make a batch of; the same request gives the same batch in every process.

    Attributes:
        epoch: number of the epoch; with the seed and the image's index it seeds each sample.
        index: (B,) images of the table.
        pool: images that mosaic, mixup and cutmix draw their further images from.
        shape: (height, width) of the batch.
        mosaic: whether mosaic, mixup and cutmix are on.
    """

    epoch: int
    index: npt.NDArray[np.int64]
    pool: npt.NDArray[np.int64]
    shape: Size
    mosaic: bool


@dataclass(frozen=True, slots=True, eq=False)
class SampleParams:
    """A sample on paper: all that was drawn by lot, and its objects; its pixels are still to be painted.

    Attributes:
        shape: (height, width) of the sample.
        base: its images.
        mixed: those of another sample that is blended in, or None.
        weight: share of `base` in the blend.
        cut: those of another sample, of which a window is pasted, or None.
        window: that window.
        gains: of hue, saturation and value; see `color.hsv_tables`.
        swapped: whether the channels are in the order RGB, not BGR.
        labels: boxes x1, y1, x2, y2 and keypoints x, y, v in pixels of the sample.
    """

    shape: Size
    base: Canvas
    mixed: Canvas | None
    weight: float
    cut: Canvas | None
    window: Window
    gains: tuple[float, float, float]
    swapped: bool
    labels: ImageLabels


class SampleBuilder:
    """Makes training samples.

    Args:
        table: the labels.
        spec: classes and keypoints of the data; without its `flip_idx` nothing is mirrored.
        options: the ranges and probabilities.
        images: where decoded images come from.
        imgsz: longer side that an image is scaled to before the random change, pixels.
        seed: start of all random numbers.
    """

    def __init__(
        self, table: Annotations, spec: PoseSpec, options: AugmentOptions, images: Images, *, imgsz: int, seed: int
    ) -> None:
        self.table = table
        self._flip_idx = spec.keypoints.flip_idx
        self._options = options
        self._images = images
        self._imgsz = imgsz
        self._seed = seed

    def make(self, request: BatchSpec, index: int) -> tuple[Image, ImageLabels]:
        """Make the sample of one image.

        Args:
            request: the batch it is for.
            index: the image.

        Returns:
            (H, W, 3) uint8 BGR (RGB where the `bgr` swap was drawn), and its objects: boxes x1, y1, x2, y2 and
            keypoints x, y, v in pixels of it.

        Raises:
            DataError: an image cannot be read any more; the text names it.
        """
        recipe = self.sample_params(request, index)
        return self.paint(recipe), recipe.labels

    def sample_params(self, request: BatchSpec, index: int) -> SampleParams:
        """Draw all that is left to chance, and finds the objects; see `make`."""
        rng = np.random.default_rng((self._seed, request.epoch, index))
        options, shape = self._options, request.shape
        sides = self._draw_flips(rng)
        base, mixed, cut = self._layer(rng, request, index, sides), None, None
        labels, weight, window = self._objects(base, shape), 1.0, (0, 0, 0, 0)
        if request.mosaic and rng.random() < options.mixup:
            mixed = self._layer(rng, request, self._partner(rng, request), sides)
            weight = float(rng.beta(32, 32))
            labels = join([labels, self._objects(mixed, shape)])
        if request.mosaic and rng.random() < options.cutmix:
            other = self._layer(rng, request, self._partner(rng, request), sides)
            found = free_window(rng, shape, labels)
            if found is not None:
                cut, window = other, found
                labels = join([labels, crop_labels(self._objects(other, shape), window)])
        for flipped in sides:
            if flipped and self._flip_idx is not None:
                labels = mirrored(labels, self._flip_idx)
        hue, saturation, value = rng.uniform(-1, 1, 3) * (options.hsv_h, options.hsv_s, options.hsv_v)
        swapped = bool(rng.random() < options.bgr)
        return SampleParams(shape, base, mixed, weight, cut, window, (hue, saturation, value), swapped, labels)

    def paint(self, recipe: SampleParams) -> Image:
        """Paint what was decided.

        Raises:
            DataError: an image cannot be read any more; the text names it.
        """
        canvas = self._render(recipe.base, recipe.shape)
        if recipe.mixed is not None:
            other = self._render(recipe.mixed, recipe.shape)
            cv2.addWeighted(canvas, recipe.weight, other, 1 - recipe.weight, 0, dst=canvas)
        if recipe.cut is not None:
            left, top, right, bottom = recipe.window
            view = canvas[top:bottom, left:right]
            view[:] = PAD_VALUE
            self._paint(recipe.cut, view, (left, top))
        if any(recipe.gains):
            change_hsv(canvas, *recipe.gains)
        return canvas[:, :, ::-1] if recipe.swapped else canvas

    def patches(self, layer: Canvas, size: Size, corner: tuple[int, int] = (0, 0)) -> list[Patch]:
        """Return what a layer shows on a canvas, each with the pixels that it needs; later ones cover earlier ones.

        Args:
            layer: images on paper.
            size: (height, width) of the canvas.
            corner: the pixel (x, y) of the sample that the canvas begins with.

        Raises:
            DataError: an image cannot be read any more; the text names it.
        """
        shift = Transform2D.translate(-corner[0], -corner[1])
        limits = np.array([0, 0, layer.inner[1], layer.inner[0]], dtype=np.float64)
        found: list[Patch] = []
        for tile in layer.tiles:
            image = self._images[tile.index]
            height, width = image.shape[:2]
            to_inner = tile.place @ Transform2D.scale(1 / width, 1 / height)
            patch = cut_patch(size, image, shift @ layer.change @ to_inner, to_inner.inverse().boxes(limits))
            found += [] if patch is None else [patch]
        return found

    def _draw_flips(self, rng: np.random.Generator) -> tuple[bool, bool]:
        """(left-right, up-down); both draws are always made, so that later ones do not depend on the data set."""
        left_right, up_down = rng.random(2) < (self._options.fliplr, self._options.flipud)
        known = self._flip_idx is not None
        return bool(left_right) and known, bool(up_down) and known

    def _layer(self, rng: np.random.Generator, request: BatchSpec, index: int, sides: tuple[bool, bool]) -> Canvas:
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
        mirror = Transform2D.flip(*shape, horizontal=sides[0], vertical=sides[1])
        return Canvas(tuple(tiles), inner, mirror @ change, gain)

    def _partner(self, rng: np.random.Generator, request: BatchSpec) -> int:
        return int(request.pool[rng.integers(len(request.pool))])

    def _render(self, layer: Canvas, shape: Size) -> Image:
        canvas = np.full((*shape, 3), PAD_VALUE, dtype=np.uint8)
        self._paint(layer, canvas, (0, 0))
        return canvas

    def _paint(self, layer: Canvas, canvas: Image, corner: tuple[int, int]) -> None:
        for patch in self.patches(layer, (canvas.shape[0], canvas.shape[1]), corner):
            lay(canvas, patch)

    def _objects(self, layer: Canvas, shape: Size) -> ImageLabels:
        placed = join([put(self.table[tile.index], tile.place) for tile in layer.tiles])
        return carry(placed, layer.inner, layer.change, layer.gain, shape)


def free_window(rng: np.random.Generator, shape: Size, labels: ImageLabels) -> Window | None:
    """Draw a window (left, top, right, bottom) of a uniform share of the image that touches no object.

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
