"""Training samples: first all random parameters and the labels, then the pixels."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import cv2
import numpy as np
import numpy.typing as npt

from yolopose.config.train_options import AugmentOptions
from yolopose.data import Annotations, ImageLabels
from yolopose.data.images import DamagedImageError
from yolopose.geometry import Transform2D
from yolopose.geometry.letterbox import PAD_VALUE
from yolopose.schema import PoseSpec
from yolopose.train.feed.augment import (
    Canvas,
    GeometricOperation,
    Image,
    Layout,
    LayoutOperation,
    Operation,
    Overlay,
    OverlayOperation,
    PixelOperation,
    Size,
    random_stream,
)
from yolopose.train.feed.image_cache import Images
from yolopose.train.feed.labels import concat_labels, crop_labels, place_labels, transform_labels
from yolopose.train.feed.operations import OPERATIONS, letterbox_layout
from yolopose.train.feed.render import Patch, blit, cut_patch
from yolopose.train.feed.user_transforms import UserTransforms

T = TypeVar("T", bound=Operation)
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class BatchSpec:
    """Description of a batch; the same one results in the same batch in every process.

    Attributes:
        epoch: epoch from 0.
        index: (B,) indices of the images.
        pool: indices of the images that mosaic, mixup and cutmix draw further images from.
        shape: (height, width) of the batch.
        multi_image: whether mosaic, mixup and cutmix are on.
    """

    epoch: int
    index: npt.NDArray[np.int64]
    pool: npt.NDArray[np.int64]
    shape: Size
    multi_image: bool


@dataclass(frozen=True, slots=True, eq=False)
class SampleParams:
    """Random parameters of one training sample, and its labels.

    Attributes:
        shape: (height, width) of the sample.
        base: the canvas of its own image.
        overlays: canvases laid over it, in order.
        pixel: parameters of each of the builder's `pixel_operations`; None where it does not apply.
        labels: boxes x1, y1, x2, y2 and keypoints x, y, v in pixels of the sample.
    """

    shape: Size
    base: Canvas
    overlays: tuple[Overlay, ...]
    pixel: tuple[npt.NDArray[Any] | None, ...]
    labels: ImageLabels


class SampleBuilder:
    """Builds training samples.

    Args:
        table: the annotations.
        spec: classes, keypoints and channels of the data; without its `flip_idx` nothing is mirrored.
        options: ranges and probabilities of the augmentations.
        images: source of decoded images.
        imgsz: length that the longer side of an image is scaled to before geometric operations, pixels.
        seed: seed of all random streams.

    Attributes:
        table: the annotations.
        channels: C, channels of the images.
        imgsz: length of the longer side, pixels.
        seed: seed of all random streams.
        layout_operations, geometric_operations, overlay_operations, pixel_operations: augmentations that are switched
            on, in order.
    """

    def __init__(
        self, table: Annotations, spec: PoseSpec, options: AugmentOptions, images: Images, *, imgsz: int, seed: int
    ) -> None:
        operations = [operation.from_options(options) for operation in OPERATIONS]
        own = options.augmentations or ()
        enabled = [operation for operation in operations if operation.enabled]
        enabled += [operation for operation in own if isinstance(operation, Operation)]
        self.table = table
        self.channels = spec.channels
        self.imgsz = imgsz
        self.seed = seed
        self.layout_operations = _of_kind(enabled, LayoutOperation)
        self.geometric_operations = _of_kind(enabled, GeometricOperation)
        self.overlay_operations = _of_kind(enabled, OverlayOperation)
        pixel_operations = _of_kind(enabled, PixelOperation)
        self.pixel_operations = [item for item in pixel_operations if self.channels == 3 or not item.color_only]
        self._flip_idx = spec.keypoints.flip_idx
        self._images = images
        self._damaged: dict[int, str] = {}
        self._unreported: list[tuple[int, str]] = []
        self._user_transforms = UserTransforms(own, self._flip_idx)

    @property
    def can_mirror(self) -> bool:
        """Whether it is known which keypoints exchange places in a mirrored image."""
        return self._flip_idx is not None

    @property
    def without_torch(self) -> list[str]:
        """Names of the pixel operations that only OpenCV renders, and of own transforms."""
        names = [operation.name for operation in self.pixel_operations if not operation.has_torch]
        return [*names, *(["augmentations="] if len(self._user_transforms) else [])]

    def build(self, spec: BatchSpec, index: int) -> tuple[Image, ImageLabels]:
        """Build the sample of one image.

        Args:
            spec: the batch that it belongs to.
            index: the image.

        Returns:
            (H, W, C) uint8, BGR with 3 channels, and its instances: boxes x1, y1, x2, y2 and keypoints x, y, v in
            pixels.

        Raises:
            DataError: an image cannot be read any more; the message names it.
        """

        def render() -> tuple[Image, ImageLabels]:
            params = self.sample_params(spec, index)
            image = self.render(params)
            if not len(self._user_transforms):
                return image, params.labels
            return self._user_transforms(
                np.ascontiguousarray(image), params.labels, random_stream(self.seed, spec.epoch, index, "augmentations")
            )

        return self.without_damaged(render)

    def without_damaged(self, make: Callable[[], R]) -> R:
        """Return what a function makes of images; it is called again if one turns out not to decode.

        Such an image is gray and has no labels from then on, so that one damaged file does not end a long training.
        """
        while True:
            count = len(self._damaged)
            result = make()
            if len(self._damaged) == count:
                return result

    def take_damaged(self) -> tuple[tuple[int, str], ...]:
        """Return (index, reason) of the images that turned out not to decode since the last call."""
        taken = tuple(self._unreported)
        del self._unreported[: len(taken)]
        return taken

    def sample_params(self, spec: BatchSpec, index: int) -> SampleParams:
        """Draw all random parameters of a sample and compute its labels; see `build`."""
        own = _Source(self, spec, index)
        base = own.canvas(index)
        labels = self._labels(base, spec.shape)
        overlays: list[Overlay] = []
        for operation in self.overlay_operations if spec.multi_image else ():
            # a path of its own, so that the second canvas repeats none of the draws of the first
            source = _Source(self, spec, index, f"{operation.name}/")
            overlay = operation.overlay(own.stream(operation), labels, source)
            if overlay is not None:
                overlays.append(overlay)
                labels = concat_labels([labels, self._overlay_labels(overlay, spec.shape)])
        pixel = tuple(operation.parameters(own.stream(operation)) for operation in self.pixel_operations)
        return SampleParams(spec.shape, base, tuple(overlays), pixel, labels)

    def render(self, params: SampleParams) -> Image:
        """Render a sample with OpenCV.

        Raises:
            DataError: an image cannot be read any more; the message names it.
        """
        image = np.full((*params.shape, self.channels), PAD_VALUE, dtype=np.uint8)
        self._blit(params.base, image)
        for overlay in params.overlays:
            left, top, right, bottom = overlay.window
            view = image[top:bottom, left:right]
            other = np.full(view.shape, PAD_VALUE, dtype=np.uint8)
            self._blit(overlay.canvas, other, (left, top))
            mixed = cv2.addWeighted(view, 1 - overlay.opacity, other, overlay.opacity, 0)
            view[:] = mixed.reshape(view.shape)  # OpenCV omits the axis of a single channel
        for operation, parameters in zip(self.pixel_operations, params.pixel, strict=True):
            if parameters is not None:
                image = operation.apply(image, parameters)
        return image

    def patches(self, canvas: Canvas, size: Size, corner: tuple[int, int] = (0, 0)) -> list[Patch]:
        """Return the visible parts of a canvas's images; later ones cover earlier ones.

        Args:
            canvas: the images and their transform.
            size: (height, width) of the part of the sample that is rendered.
            corner: x, y of its top left pixel in the sample.

        Raises:
            DataError: an image cannot be read any more; the message names it.
        """
        to_target = Transform2D.translate(-corner[0], -corner[1]) @ canvas.transform
        limits = np.array([0, 0, canvas.layout.size[1], canvas.layout.size[0]], dtype=np.float64)
        patches: list[Patch] = []
        for tile in canvas.layout.tiles:
            image = self._image(tile.index)
            height, width = image.shape[:2]
            to_layout = tile.transform @ Transform2D.scale(1 / width, 1 / height)
            patch = cut_patch(size, image, to_target @ to_layout, to_layout.inverse().boxes(limits))
            if patch is not None:
                patches.append(patch)
        return patches

    def _image(self, index: int) -> Image:
        if index not in self._damaged:
            try:
                return self._images[index]
            except DamagedImageError as error:
                self._damaged[index] = str(error)
                self._unreported.append((index, str(error)))
        return np.full((*self.table.shapes[index].tolist(), self.channels), PAD_VALUE, dtype=np.uint8)

    def _blit(self, canvas: Canvas, image: Image, corner: tuple[int, int] = (0, 0)) -> None:
        for patch in self.patches(canvas, (image.shape[0], image.shape[1]), corner):
            blit(image, patch)

    def _labels(self, canvas: Canvas, shape: Size) -> ImageLabels:
        placed = concat_labels(
            [place_labels(self._image_labels(tile.index), tile.transform) for tile in canvas.layout.tiles]
        )
        return transform_labels(placed, canvas, shape, self._flip_idx)

    def _image_labels(self, index: int) -> ImageLabels:
        labels = self.table[index]
        if index not in self._damaged:
            return labels
        return ImageLabels(labels.classes[:0], labels.boxes[:0], labels.keypoints[:0])

    def _overlay_labels(self, overlay: Overlay, shape: Size) -> ImageLabels:
        labels = self._labels(overlay.canvas, shape)
        return labels if overlay.window == (0, 0, shape[1], shape[0]) else crop_labels(labels, overlay.window)


class _Source:
    """The random streams and further images of one canvas; an `ImageSource`.

    Args:
        builder: builder of the sample.
        spec: the batch that the sample belongs to.
        index: image that the sample is made for; with epoch and seed it seeds the streams.
        path: prefix of the streams' names, empty for the sample's own canvas.
    """

    def __init__(self, builder: SampleBuilder, spec: BatchSpec, index: int, path: str = "") -> None:
        self.imgsz = builder.imgsz
        self.shape = spec.shape
        self._builder = builder
        self._spec = spec
        self._index = index
        self._path = path

    def stream(self, operation: Operation, *, per_sample: bool = False) -> np.random.Generator:
        """Return the random numbers of an operation; with `per_sample` those of the sample's own canvas."""
        name = operation.name if per_sample else self._path + operation.name
        return random_stream(self._builder.seed, self._spec.epoch, self._index, name)

    def image_size(self, index: int) -> Size:
        height, width = self._builder.table.shapes[index].tolist()
        return height, width

    def random_index(self, rng: np.random.Generator) -> int:
        return int(self._spec.pool[rng.integers(len(self._spec.pool))])

    def canvas(self, index: int) -> Canvas:
        layout = self._layout(index)
        # geometric operations act about the center of the layout, which then moves to the center of the final image
        transform = Transform2D.translate(-layout.size[1] / 2, -layout.size[0] / 2)
        scale = 1.0
        mirrored = False
        for operation in self._builder.geometric_operations:
            step = operation.transform(self.stream(operation, per_sample=operation.per_sample), self.shape)
            if step is None:
                continue
            determinant = _determinant(step)
            if determinant < 0:
                if not self._builder.can_mirror:
                    continue
                mirrored = not mirrored
            if operation.resizes:
                scale *= math.sqrt(abs(determinant))
            transform = step @ transform
        return Canvas(layout, Transform2D.translate(self.shape[1] / 2, self.shape[0] / 2) @ transform, scale, mirrored)

    def _layout(self, index: int) -> Layout:
        for operation in self._builder.layout_operations if self._spec.multi_image else ():
            layout = operation.layout(self.stream(operation), index, self)
            if layout is not None:
                return layout
        return letterbox_layout(index, self)


def _determinant(transform: Transform2D) -> float:
    """Return the factor of areas at the center; negative if it mirrors."""
    (a, b, _), (c, d, _), _ = transform.matrix.tolist()
    return a * d - b * c


def _of_kind(operations: Sequence[Operation], kind: type[T]) -> list[T]:
    return [operation for operation in operations if isinstance(operation, kind)]
