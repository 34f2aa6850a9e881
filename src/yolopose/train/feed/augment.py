"""Base classes of augmentations, and the values that they return.

An augmentation is a frozen dataclass derived from one of the four kinds below and listed in `operations.OPERATIONS`.
Its fields are its options; those that `AugmentOptions` declares under the same name are set by the user.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
from numpy.random.bit_generator import ISeedSequence
from torch import Tensor

from yolopose.data import ImageLabels
from yolopose.geometry import Transform2D

Image = npt.NDArray[np.uint8]
Size = tuple[int, int]
Window = tuple[int, int, int, int]
Op = TypeVar("Op", bound="Operation")


@dataclass(frozen=True, slots=True)
class Tile:
    """An image in a layout.

    Attributes:
        index: index into the annotations.
        transform: from the unit square of the image to pixels of the layout.
    """

    index: int
    transform: Transform2D


@dataclass(frozen=True, slots=True)
class Layout:
    """Images placed side by side, before the geometric operations.

    Attributes:
        tiles: the images; later ones cover earlier ones.
        size: (height, width) in pixels; what lies beyond is cut off.
    """

    tiles: tuple[Tile, ...]
    size: Size


@dataclass(frozen=True, slots=True)
class Canvas:
    """A layout with its geometric operations composed to one transform.

    Attributes:
        layout: the images.
        transform: from the layout to the final image, flips included.
        scale: factor of lengths that resizing operations apply; box areas are compared after it.
        mirrored: whether the transform exchanges left and right, so that keypoints are permuted by `flip_idx`.
    """

    layout: Layout
    transform: Transform2D
    scale: float
    mirrored: bool


@dataclass(frozen=True, slots=True)
class Overlay:
    """A second canvas on top of a sample.

    Attributes:
        canvas: what is laid over the sample.
        opacity: weight of the canvas, 0…1; 1 replaces the pixels below.
        window: left, top, right, bottom of the part of the sample that it covers, in pixels.
    """

    canvas: Canvas
    opacity: float
    window: Window


class ImageSource(Protocol):
    """The images that operations on several images draw from.

    Attributes:
        imgsz: length that the longer side of each image is scaled to, in pixels.
        shape: (height, width) of the final image.
    """

    imgsz: int
    shape: Size

    def image_size(self, index: int) -> Size:
        """Return the (height, width) of an image file."""
        ...

    def random_index(self, rng: np.random.Generator) -> int:
        """Draw an image from the pool of the batch."""
        ...

    def canvas(self, index: int) -> Canvas:
        """Augment another image; its random streams are those of the operation that asks for it."""
        ...


@dataclass(frozen=True)
class Operation:
    """An augmentation. It is skipped if it has options and all of them are 0."""

    @classmethod
    def from_options(cls: type[Op], options: object) -> Op:
        """Build it from the options that carry the names of its fields; other fields keep their defaults."""
        names = [field.name for field in fields(cls) if hasattr(options, field.name)]
        return cls(**{name: getattr(options, name) for name in names})

    @property
    def name(self) -> str:
        """Name of its random stream."""
        return type(self).__name__

    @property
    def enabled(self) -> bool:
        """Whether it can change a sample."""
        values = [getattr(self, field.name) for field in fields(self)]
        return any(values) or not values


class LayoutOperation(Operation):
    """Places several images in one layout; skipped in the last `close_mosaic` epochs and with `rect`."""

    def layout(self, rng: np.random.Generator, index: int, source: ImageSource) -> Layout | None:
        """Return a layout that contains image `index`, or None to leave it to the next operation or the letterbox."""
        raise NotImplementedError


class GeometricOperation(Operation):
    """Transforms a layout.

    Attributes:
        per_sample: whether it is drawn once for a sample, also when several canvases are combined to it.
        resizes: whether it changes the size of instances on purpose: visible areas are then compared to the new size.
    """

    per_sample: ClassVar[bool] = False
    resizes: ClassVar[bool] = False

    def transform(self, rng: np.random.Generator, shape: Size) -> Transform2D | None:
        """Return a transform, or None for no change.

        A transform that mirrors is dropped if the data set has no `flip_idx`; otherwise keypoints are permuted.

        Args:
            rng: random stream of this operation and sample.
            shape: (height, width) of the final image, pixels.

        Returns:
            A transform about the center of the image: the origin is the center of the layout and of the final image.
        """
        raise NotImplementedError


class OverlayOperation(Operation):
    """Lays another augmented sample over a sample; skipped in the last `close_mosaic` epochs and with `rect`."""

    def overlay(self, rng: np.random.Generator, labels: ImageLabels, source: ImageSource) -> Overlay | None:
        """Return an overlay, or None for no change.

        Args:
            rng: random stream of this operation and sample.
            labels: instances of the sample so far, in pixels of the final image.
            source: where further images come from.
        """
        raise NotImplementedError


class PixelOperation(Operation):
    """Changes colors, not positions.

    Attributes:
        color_only: whether it needs the three channels of color images; it is skipped for others.

    `apply` renders in the workers. With `apply_torch` a GPU renders the operation as well; without it all rendering
    stays in the workers.
    """

    color_only: ClassVar[bool] = False

    def parameters(self, rng: np.random.Generator) -> npt.NDArray[Any] | None:
        """Draw the parameters of one sample, an array of fixed shape and type, or None for no change."""
        raise NotImplementedError

    def apply(self, image: Image, parameters: npt.NDArray[Any]) -> Image:
        """Return the changed image, (H, W, C) uint8, BGR with 3 channels; the argument may be overwritten."""
        raise NotImplementedError

    def apply_torch(self, images: Tensor, parameters: Tensor) -> Tensor:
        """Return the changed images.

        Args:
            images: (B, H, W, C) float32, BGR with 3 channels, integers 0…255.
            parameters: (B, ...) those of each image.

        Returns:
            Images of the same shape and type, integers 0…255.
        """
        raise NotImplementedError

    @property
    def has_torch(self) -> bool:
        """Whether it can be rendered by torch."""
        return type(self).apply_torch is not PixelOperation.apply_torch


class _Key(ISeedSequence):
    """A seed that is used as it is: numpy's own mixing takes five times as long as the rest of a stream."""

    def __init__(self, state: npt.NDArray[np.uint64]) -> None:
        self._state = state

    def generate_state(self, n_words: int, dtype: Any = np.uint32) -> npt.NDArray[Any]:
        return self._state[:n_words]


def random_stream(seed: int, epoch: int, index: int, name: str) -> np.random.Generator:
    """Return the random numbers of one operation on one sample.

    They depend on nothing else, so neither the number of workers, an interruption, nor other operations change them.

    Args:
        seed: seed of the run.
        epoch: epoch from 0.
        index: image that the sample is made for.
        name: name of the operation; operations within a second canvas have a path such as `MixUp/Rotate`.
    """
    digest = hashlib.sha256(f"{seed}/{epoch}/{index}/{name}".encode()).digest()
    key = _Key(np.frombuffer(digest, dtype="<u8"))
    return np.random.Generator(np.random.PCG64(key))  # pyright: ignore[reportArgumentType]  # missing in numpy's stubs
