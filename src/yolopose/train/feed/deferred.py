"""Batches whose pixels are still to be painted: what a worker hands over where the device paints.

Workers decode, and cut from each image what is seen of it (averaged down where it shrinks). All these pieces of a
batch lie one behind the other, without gaps, in memory that the processes share; beside them goes where each belongs.
Painting the batch then takes one sampling of them (`render_gpu.py`), on whatever device computes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import get_worker_info

from yolopose.geometry import Transform2D
from yolopose.train.feed.color import hsv_tables
from yolopose.train.feed.render import Patch
from yolopose.train.feed.sampling import SampleBuilder, SampleParams

_NOWHERE = (0.0, 0.0, 0.0, 0.0)
_EVERYWHERE = (-1e9, -1e9, 1e9, 1e9)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DeferredImages:
    """A batch of B samples of H × W pixels before they are painted, as CPU tensors.

    It has R canvases: first one for each sample, then those that are blended or pasted into them; and up to P pieces on
    each, of which later ones cover earlier ones.

    Attributes:
        size: H, W.
        upright: whether every map keeps rectangles upright and `target` alone says what is seen.
        pixels: (N, 3) uint8 BGR, the pieces one behind the other, each row by row; at least one pixel.
        maps: (R, P, 3, 3) float32, canvas pixels to pixels of the piece.
        target: (R, P, 4) float32 left, top, right, bottom of the canvas pixels that a piece may cover; empty for none.
        part: (R, P, 4) float32 x1, y1, x2, y2 of the piece that may be seen.
        piece: (R, P, 3) int64 first pixel, height and width of each piece; its edge goes on beyond it.
        blend: (B, 2) float32, the canvas that is blended in and its share; share 0 for none.
        paste: (B, 5) float32, the canvas that is pasted and the window left, top, right, bottom; empty for none.
        tables: (B, 3, 256) uint8, old to new hue, saturation and value.
        colored: (B,) bool, whether the tables change anything.
        swapped: (B,) bool, whether red and blue change places.
    """

    size: tuple[int, int]
    upright: bool
    pixels: torch.Tensor
    maps: torch.Tensor
    target: torch.Tensor
    part: torch.Tensor
    piece: torch.Tensor
    blend: torch.Tensor
    paste: torch.Tensor
    tables: torch.Tensor
    colored: torch.Tensor
    swapped: torch.Tensor

    def to(self, device: torch.device) -> DeferredImages:
        """Return it on a device; pinned memory is copied without waiting."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> DeferredImages:
        """Return it in page-locked memory."""
        return self._each(lambda tensor: tensor.pin_memory())

    def _each(self, change: Callable[[torch.Tensor], torch.Tensor]) -> DeferredImages:
        tensors = {one.name: change(getattr(self, one.name)) for one in fields(self)[2:]}
        return DeferredImages(size=self.size, upright=self.upright, **tensors)


def defer_images(sampler: SampleBuilder, recipes: Sequence[SampleParams]) -> DeferredImages:
    """Cut out the pieces of a batch and writes down where they belong.

    Args:
        sampler: where the images come from.
        recipes: the samples, all of one shape, at least one.

    Raises:
        DataError: an image cannot be read any more; the text names it.
    """
    shape, count = recipes[0].shape, len(recipes)
    canvases = [_Canvas(sampler.patches(recipe.base, shape), (0, 0)) for recipe in recipes]
    blend, paste = np.zeros((count, 2), np.float32), np.zeros((count, 5), np.float32)
    for number, recipe in enumerate(recipes):
        if recipe.mixed is not None:
            blend[number] = len(canvases), 1 - recipe.weight
            canvases.append(_Canvas(sampler.patches(recipe.mixed, shape), (0, 0)))
        if recipe.cut is not None:
            left, top, right, bottom = recipe.window
            paste[number] = len(canvases), *recipe.window
            found = sampler.patches(recipe.cut, (bottom - top, right - left), (left, top))
            canvases.append(_Canvas(found, (left, top)))
    patches = [patch for canvas in canvases for patch in canvas.patches]
    pixels, places = _behind_each_other([patch.source for patch in patches])
    most = max(max(len(canvas.patches) for canvas in canvases), 1)
    numbers = _Numbers.empty(len(canvases), most)
    at = iter(places)
    for row, canvas in enumerate(canvases):
        for column, patch in enumerate(canvas.patches):
            numbers.write(row, column, patch, canvas.corner, next(at))
    return DeferredImages(
        size=shape,
        upright=all(patch.from_image.axis_aligned for patch in patches),
        pixels=pixels,
        maps=torch.from_numpy(numbers.maps),
        target=torch.from_numpy(numbers.target),
        part=torch.from_numpy(numbers.part),
        piece=torch.from_numpy(numbers.piece),
        blend=torch.from_numpy(blend),
        paste=torch.from_numpy(paste),
        tables=torch.from_numpy(np.stack([hsv_tables(*recipe.gains)[0].T for recipe in recipes])),
        colored=torch.tensor([any(recipe.gains) for recipe in recipes]),
        swapped=torch.tensor([recipe.swapped for recipe in recipes]),
    )


@dataclass(frozen=True, slots=True)
class _Canvas:
    """Pieces, and the pixel (x, y) of the sample that their canvas begins with."""

    patches: list[Patch]
    corner: tuple[int, int]


@dataclass(frozen=True, slots=True)
class _Numbers:
    """Where the pieces of all canvases belong; see `DeferredImages`."""

    maps: npt.NDArray[np.float32]
    target: npt.NDArray[np.float32]
    part: npt.NDArray[np.float32]
    piece: npt.NDArray[np.int64]

    @classmethod
    def empty(cls, rows: int, columns: int) -> _Numbers:
        maps = np.tile(np.eye(3, dtype=np.float32), (rows, columns, 1, 1))
        boxes = np.tile(np.array(_NOWHERE, np.float32), (2, rows, columns, 1))
        return cls(maps, *boxes, piece=np.tile(np.array([0, 1, 1]), (rows, columns, 1)))

    def write(self, row: int, column: int, patch: Patch, corner: tuple[int, int], first: int) -> None:
        to_source = patch.from_source.inverse() @ Transform2D.translate(-corner[0], -corner[1])
        self.maps[row, column] = to_source.matrix
        self.target[row, column] = np.array(patch.target) + np.tile(corner, 2)
        self.part[row, column] = _EVERYWHERE if patch.from_image.axis_aligned else patch.part_of_source
        self.piece[row, column] = first, *patch.source.shape[:2]


def _behind_each_other(pieces: Sequence[npt.NDArray[np.uint8]]) -> tuple[torch.Tensor, list[int]]:
    """(N, 3) the pixels of all pieces, and the first pixel of each."""
    ends = np.cumsum([0, *(piece.shape[0] * piece.shape[1] for piece in pieces)]).tolist()
    pixels = _room(3 * max(ends[-1], 1)).view(-1, 3)
    flat = pixels.numpy()
    for piece, start, end in zip(pieces, ends, ends[1:], strict=False):
        flat[start:end].reshape(piece.shape)[:] = piece
    return pixels, ends[:-1]


def _room(size: int) -> torch.Tensor:
    """(size,) uint8; in a worker process where the main one sees it, as torch's own collation does: saves a copy."""
    if get_worker_info() is None:
        return torch.empty(size, dtype=torch.uint8)
    shared = torch.UntypedStorage._new_shared(size)  # pyright: ignore[reportPrivateUsage]
    return torch.empty(0, dtype=torch.uint8).set_(shared)  # pyright: ignore[reportArgumentType]
