"""Batches that the device which trains renders: what the workers cut out of the source images.

Workers cut the visible pieces out of the source images, averaged down where they shrink, and write them behind each
other into one block of shared memory, with the transform of each. `render_images` (`device_render.py`) then samples
every pixel of the batch once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from yolopose.geometry import Transform2D
from yolopose.geometry.letterbox import PAD_VALUE
from yolopose.train.feed.augment import Image, Overlay, PixelOperation, Size
from yolopose.train.feed.render import Patch
from yolopose.train.feed.sampling import SampleBuilder, SampleParams
from yolopose.train.feed.tensors import TensorData

GRAY_PIXELS = 3  # before the pieces: what interpolation reads where no piece covers a pixel
_NO_CLIP = (-1e9, -1e9, 1e9, 1e9)
_EVERYWHERE = (-1.0, -1.0, 1e9, 1e9)
_CENTER = Transform2D.translate(0.5, 0.5)  # from indices of pixels to continuous coordinates


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OverlayTensors(TensorData):
    """Overlays of n samples, at most one each.

    Attributes:
        rows: (n,) int64, the samples.
        canvas: (n,) int64, the canvas over each.
        opacity: (n,) float32.
        window: (n, 4) float32 left, top, right, bottom.
    """

    rows: Tensor
    canvas: Tensor
    opacity: Tensor
    window: Tensor


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PixelTensors(TensorData):
    """A pixel operation on n samples.

    Attributes:
        operation: the operation.
        rows: (n,) int64, the samples.
        parameters: (n, ...) its parameters for each.
    """

    operation: PixelOperation
    rows: Tensor
    parameters: Tensor


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DeferredImages(TensorData):
    """The images of a batch of B samples before rendering.

    There are R canvases: those of the samples, then those of overlays. Each has P pieces; later ones cover earlier
    ones. The first is a gray pixel that covers everything; canvases with fewer pieces of source images than others
    repeat it, covering nothing. Positions are indices of pixels: 0 is the center of the first one.

    Attributes:
        size: (H, W).
        count: B.
        axis_aligned: whether every transform keeps rectangles upright, so that `target` is exact.
        pixels: (N, C) uint8, BGR with 3 channels: gray ones, the pieces behind each other, each row by row, and unused
            ones, so that a neighbor of each pixel of a piece to the right and below exists.
        transforms: (R, P, 3, 3) float32 from the canvas to the piece.
        target: (R, P, 4) float32 left, top, right, bottom of the part of the canvas that a piece may cover; empty if
            unused.
        part: (R, P, 4) float32 x1, y1, x2, y2 of the part of the piece that may be visible.
        piece: (R, P, 3) int64 first pixel, height and width of each piece; its border pixels extend beyond it.
        overlays: in the order in which they are laid over the samples.
        pixel_operations: in the order in which they are applied.
    """

    size: Size
    count: int
    axis_aligned: bool
    pixels: Tensor
    transforms: Tensor
    target: Tensor
    part: Tensor
    piece: Tensor
    overlays: tuple[OverlayTensors, ...]
    pixel_operations: tuple[PixelTensors, ...]


def defer_images(builder: SampleBuilder, samples: Sequence[SampleParams]) -> tuple[DeferredImages, list[Image]]:
    """Cut out the pieces of a batch and note where they belong.

    Args:
        builder: source of the images.
        samples: one or more samples of one shape.

    Returns:
        The images with `pixels` on the "meta" device, and the pieces; `write_pieces` puts them together.

    Raises:
        DataError: an image cannot be read any more; the message names it.
    """
    shape = samples[0].shape
    canvases = [_Pieces(builder.patches(sample.base, shape), (0, 0)) for sample in samples]
    overlays: list[OverlayTensors] = []
    for position in range(max(len(sample.overlays) for sample in samples)):
        rows = [row for row, sample in enumerate(samples) if len(sample.overlays) > position]
        chosen = [samples[row].overlays[position] for row in rows]
        overlays.append(_overlay_tensors(rows, chosen, len(canvases)))
        for overlay in chosen:
            left, top, right, bottom = overlay.window
            patches = builder.patches(overlay.canvas, (bottom - top, right - left), (left, top))
            canvases.append(_Pieces(patches, (left, top)))
    patches = [patch for canvas in canvases for patch in canvas.patches]
    pieces = [patch.source for patch in patches]
    starts = _starts(pieces)
    beyond = max((piece.shape[1] for piece in pieces), default=0) + 2
    images = DeferredImages(
        size=shape,
        count=len(samples),
        axis_aligned=all(patch.from_image.axis_aligned for patch in patches),
        pixels=torch.empty((starts[-1] + beyond, builder.channels), dtype=torch.uint8, device="meta"),
        overlays=tuple(overlays),
        pixel_operations=_pixel_tensors(builder, samples),
        **_placement_tensors(canvases, starts),
    )
    return images, pieces


def write_pieces(pixels: Tensor, pieces: Sequence[Image]) -> None:
    """Write the pieces of `defer_images` into `pixels`, which are in memory of the host."""
    flat = pixels.numpy()
    flat[:GRAY_PIXELS] = PAD_VALUE
    starts = _starts(pieces)
    for piece, start, end in zip(pieces, starts, starts[1:], strict=False):
        flat[start:end].reshape(piece.shape)[:] = piece


class _Pieces(NamedTuple):
    """Patches of a canvas, and the pixel (x, y) of the sample at which the canvas begins."""

    patches: list[Patch]
    corner: tuple[int, int]


def _starts(pieces: Sequence[Image]) -> list[int]:
    """Return the first pixel of each piece, and the end of the last."""
    return np.cumsum([GRAY_PIXELS, *(piece.shape[0] * piece.shape[1] for piece in pieces)]).tolist()


def _placement_tensors(canvases: Sequence[_Pieces], starts: Iterable[int]) -> dict[str, Tensor]:
    """Return `transforms`, `target`, `part` and `piece` of `DeferredImages`; `starts` are the first pixels."""
    shape = (len(canvases), 1 + max(len(canvas.patches) for canvas in canvases))
    transforms = np.tile(np.eye(3, dtype=np.float32), (*shape, 1, 1))
    target, part = np.zeros((2, *shape, 4), np.float32)
    target[:, 0] = _EVERYWHERE
    part[:, 0] = _NO_CLIP
    piece = np.tile(np.array([0, 1, 1]), (*shape, 1))
    first = iter(starts)
    to_piece = _CENTER.inverse()
    for row, (patches, corner) in enumerate(canvases):
        to_canvas = Transform2D.translate(-corner[0], -corner[1]) @ _CENTER
        offset = np.tile(corner, 2) - 0.5
        for column, patch in enumerate(patches, 1):
            transforms[row, column] = (to_piece @ patch.from_source.inverse() @ to_canvas).matrix
            target[row, column] = np.array(patch.target) + offset
            part[row, column] = _NO_CLIP if patch.from_image.axis_aligned else patch.part_of_source - 0.5
            piece[row, column] = next(first), *patch.source.shape[:2]
    arrays = {"transforms": transforms, "target": target, "part": part, "piece": piece}
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def _overlay_tensors(rows: Sequence[int], overlays: Sequence[Overlay], first_canvas: int) -> OverlayTensors:
    return OverlayTensors(
        rows=torch.tensor(rows),
        canvas=torch.arange(first_canvas, first_canvas + len(rows)),
        opacity=torch.tensor([overlay.opacity for overlay in overlays]),
        window=torch.tensor([overlay.window for overlay in overlays], dtype=torch.float32),
    )


def _pixel_tensors(builder: SampleBuilder, samples: Sequence[SampleParams]) -> tuple[PixelTensors, ...]:
    tensors: list[PixelTensors] = []
    for position, operation in enumerate(builder.pixel_operations):
        drawn: list[tuple[int, npt.NDArray[np.generic] | None]] = [
            (row, sample.pixel[position]) for row, sample in enumerate(samples)
        ]
        applied = [(row, parameters) for row, parameters in drawn if parameters is not None]
        if applied:
            rows = torch.tensor([row for row, _ in applied])
            parameters = torch.from_numpy(np.stack([parameters for _, parameters in applied]))
            tensors.append(PixelTensors(operation=operation, rows=rows, parameters=parameters))
    return tuple(tensors)
