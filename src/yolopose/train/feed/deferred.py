"""Rendering of batches by the device that trains.

Workers cut the visible pieces out of the source images, averaged down where they shrink, and write them behind each
other into one block of shared memory, with the transform of each. The device then samples every pixel of the batch
once. The result is that of `SampleBuilder.render` except for rounding: OpenCV interpolates in steps of 1/32 pixel.
The host never waits for the device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from yolopose.geometry import Transform2D
from yolopose.geometry.letterbox import PAD_VALUE
from yolopose.train.feed.augment import Overlay, PixelOperation, Size
from yolopose.train.feed.render import Patch
from yolopose.train.feed.sampling import SampleBuilder, SampleParams

_PIXELS = 8_000_000  # rendered at once: temporary values take about 200 bytes per pixel, less than a training step
_NO_CLIP = (-1e9, -1e9, 1e9, 1e9)
Data = TypeVar("Data", bound="TensorData")


class TensorData:
    """Base of dataclasses that hold tensors, other such dataclasses, or tuples of these."""

    __slots__ = ()

    def map_tensors(self: Data, function: Callable[[Tensor], Tensor]) -> Data:
        """Return a copy with a function applied to every tensor."""
        changes: dict[str, Any] = {}
        for field in fields(cast("Any", self)):
            value = getattr(self, field.name)
            if isinstance(value, Tensor):
                changes[field.name] = function(value)
            elif isinstance(value, TensorData):
                changes[field.name] = value.map_tensors(function)
            elif isinstance(value, tuple):
                items = cast("tuple[Any, ...]", value)
                changes[field.name] = tuple(
                    item.map_tensors(function) if isinstance(item, TensorData) else item for item in items
                )
        return replace(cast("Any", self), **changes)

    def pin_memory(self: Data) -> Data:
        """Return a copy in page-locked memory."""
        return self.map_tensors(Tensor.pin_memory)


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

    There are R canvases: those of the samples, then those of overlays. Each has up to P pieces of source images; later
    ones cover earlier ones.

    Attributes:
        size: (H, W).
        count: B.
        axis_aligned: whether every transform keeps rectangles upright, so that `target` is exact.
        pixels: (N, C) uint8, BGR with 3 channels, the pieces behind each other, each row by row; at least one pixel.
        transforms: (R, P, 3, 3) float32 from canvas pixels to pixels of the piece.
        target: (R, P, 4) float32 left, top, right, bottom of the canvas pixels that a piece may cover; empty if unused.
        part: (R, P, 4) float32 x1, y1, x2, y2 of the piece that may be visible.
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


def defer_images(builder: SampleBuilder, samples: Sequence[SampleParams]) -> DeferredImages:
    """Cut out the pieces of a batch and note where they belong.

    Args:
        builder: source of the images.
        samples: one or more samples of one shape.

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
    pixels, starts = _concat_pixels([patch.source for patch in patches], builder.channels)
    return DeferredImages(
        size=shape,
        count=len(samples),
        axis_aligned=all(patch.from_image.axis_aligned for patch in patches),
        pixels=pixels,
        overlays=tuple(overlays),
        pixel_operations=_pixel_tensors(builder, samples),
        **_placement_tensors(canvases, starts),
    )


@torch.no_grad()
def render_images(images: DeferredImages, device: torch.device) -> Tensor:
    """Render a batch on a device.

    Returns:
        (B, C, H, W) uint8 on the device, RGB with 3 channels, channels last in memory.
    """
    images = images.map_tensors(lambda tensor: tensor.to(device, non_blocking=True))
    step = max(_PIXELS // (images.size[0] * images.size[1]), 1)
    canvases = torch.cat(
        [_sample_canvases(images, slice(row, row + step)) for row in range(0, len(images.transforms), step)]
    )
    samples = canvases[: images.count]
    for overlay in images.overlays:
        _apply_overlay(samples, canvases, overlay)
    for pixel in images.pixel_operations:
        _apply_pixel_operation(samples, pixel, step)
    if samples.shape[-1] == 3:
        samples = samples.flip(-1)  # BGR to RGB
    parts = [samples[row : row + step].to(torch.uint8) for row in range(0, images.count, step)]
    return torch.cat(parts).permute(0, 3, 1, 2)


class _Pieces(NamedTuple):
    """Patches of a canvas, and the pixel (x, y) of the sample at which the canvas begins."""

    patches: list[Patch]
    corner: tuple[int, int]


def _placement_tensors(canvases: Sequence[_Pieces], starts: Iterable[int]) -> dict[str, Tensor]:
    """Return `transforms`, `target`, `part` and `piece` of `DeferredImages`; `starts` are the first pixels."""
    shape = (len(canvases), max(1, *(len(canvas.patches) for canvas in canvases)))
    transforms = np.tile(np.eye(3, dtype=np.float32), (*shape, 1, 1))
    target, part = np.zeros((2, *shape, 4), np.float32)
    piece = np.tile(np.array([0, 1, 1]), (*shape, 1))
    first = iter(starts)
    for row, (patches, corner) in enumerate(canvases):
        to_canvas = Transform2D.translate(-corner[0], -corner[1])
        for column, patch in enumerate(patches):
            transforms[row, column] = (patch.from_source.inverse() @ to_canvas).matrix
            target[row, column] = np.array(patch.target) + np.tile(corner, 2)
            part[row, column] = _NO_CLIP if patch.from_image.axis_aligned else patch.part_of_source
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
        drawn = [(row, sample.pixel[position]) for row, sample in enumerate(samples)]
        applied = [(row, parameters) for row, parameters in drawn if parameters is not None]
        if applied:
            rows = torch.tensor([row for row, _ in applied])
            parameters = torch.from_numpy(np.stack([parameters for _, parameters in applied]))
            tensors.append(PixelTensors(operation=operation, rows=rows, parameters=parameters))
    return tuple(tensors)


def _concat_pixels(pieces: Sequence[npt.NDArray[np.uint8]], channels: int) -> tuple[Tensor, list[int]]:
    """Return (N, C) the pixels of all pieces, and the first pixel of each."""
    ends = np.cumsum([0, *(piece.shape[0] * piece.shape[1] for piece in pieces)]).tolist()
    pixels = _shared_bytes(channels * max(ends[-1], 1)).view(-1, channels)
    flat = pixels.numpy()
    for piece, start, end in zip(pieces, ends, ends[1:], strict=False):
        flat[start:end].reshape(piece.shape)[:] = piece
    return pixels, ends[:-1]


def _shared_bytes(size: int) -> Tensor:
    """Return (size,) uint8; in a worker process in shared memory, as torch's own collation does, which saves a copy."""
    if get_worker_info() is None:
        return torch.empty(size, dtype=torch.uint8)
    shared = torch.UntypedStorage._new_shared(size)  # pyright: ignore[reportPrivateUsage]
    return torch.empty(0, dtype=torch.uint8).set_(shared)  # pyright: ignore[reportArgumentType]


def _sample_canvases(images: DeferredImages, rows: slice) -> Tensor:
    """Return (R, H, W, C) float32 integers: the pixels of some of the canvases, uncovered ones gray."""
    transforms = images.transforms[rows]
    target = images.target[rows]
    part = images.part[rows]
    piece = images.piece[rows]
    (count, columns), (height, width) = transforms.shape[:2], images.size
    device = transforms.device
    y = torch.arange(height, dtype=torch.float32, device=device)[:, None] + 0.5
    x = torch.arange(width, dtype=torch.float32, device=device)[None, :] + 0.5
    u, v = torch.zeros(2, count, height, width, device=device)
    column = torch.full((count, height, width), -1, device=device)
    for number in range(columns):
        clip = None if images.axis_aligned else part[:, number]
        covered, (at_x, at_y) = _project(transforms[:, number], target[:, number], clip, piece[:, number], x, y)
        u = torch.where(covered, at_x, u)
        v = torch.where(covered, at_y, v)
        column = torch.where(covered, number, column)
    index = column.clamp(min=0) + columns * torch.arange(count, device=device)[:, None, None]
    pixels = _interpolate(images.pixels, piece.flatten(0, 1), index, u, v)
    return torch.where((column >= 0)[..., None], pixels.round_(), float(PAD_VALUE))


def _project(
    transforms: Tensor, target: Tensor, clip: Tensor | None, piece: Tensor, x: Tensor, y: Tensor
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Return (R, H, W) which pixels one piece of each canvas covers, and where in the piece they lie.

    The positions are (R, 1, W) and (R, H, 1) without `clip`, that is, for axis-aligned transforms.
    """
    m = transforms[:, :, :, None, None]
    left, top, right, bottom = target[:, :, None, None].unbind(1)
    covered = ((x > left) & (x < right)) & ((y > top) & (y < bottom))
    if clip is None:
        u = m[:, 0, 0] * x + m[:, 0, 2]
        v = m[:, 1, 1] * y + m[:, 1, 2]
    else:
        u, v, depth = (m[:, line, 0] * x + m[:, line, 1] * y + m[:, line, 2] for line in range(3))
        u = u / depth
        v = v / depth
        x1, y1, x2, y2 = clip[:, :, None, None].unbind(1)
        covered = covered & (depth > 0) & (u >= x1) & (u < x2) & (v >= y1) & (v < y2)
    _, height, width = piece[:, :, None, None].unbind(1)
    # border pixels extend beyond the piece
    return covered, (torch.minimum(u.clamp(min=0.5), width - 0.5), torch.minimum(v.clamp(min=0.5), height - 0.5))


def _interpolate(pixels: Tensor, pieces: Tensor, index: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """Return (…, C) float32: bilinear between the four pixels around (u, v) of the piece of that index."""
    first, height, width = (pieces[:, column].contiguous().take(index) for column in range(3))
    x = u - 0.5
    y = v - 0.5
    left = x.floor()
    top = y.floor()
    weight_x = (x - left)[..., None]
    weight_y = (y - top)[..., None]
    left = left.long()
    top = top.long()
    right = torch.minimum(left + 1, width - 1)
    below = first + torch.minimum(top + 1, height - 1) * width
    top = first + top * width
    upper = torch.lerp(pixels[top + left].float(), pixels[top + right].float(), weight_x)
    lower = torch.lerp(pixels[below + left].float(), pixels[below + right].float(), weight_x)
    return torch.lerp(upper, lower, weight_y)


def _apply_overlay(samples: Tensor, canvases: Tensor, overlay: OverlayTensors) -> None:
    """Lay canvases over some of the samples (B, H, W, C), in place."""
    height, width = samples.shape[1:3]
    y = torch.arange(height, device=samples.device)[:, None]
    x = torch.arange(width, device=samples.device)[None, :]
    left, top, right, bottom = overlay.window[:, :, None, None].unbind(1)
    inside = (x >= left) & (x < right) & (y >= top) & (y < bottom)
    weight = (overlay.opacity[:, None, None] * inside)[..., None]
    blended = samples[overlay.rows] * (1 - weight) + canvases[overlay.canvas] * weight
    samples[overlay.rows] = blended.round_()


def _apply_pixel_operation(samples: Tensor, pixel: PixelTensors, step: int) -> None:
    """Apply a pixel operation to some of the samples (B, H, W, C), `step` images at a time, in place."""
    everywhere = len(pixel.rows) == len(samples)
    for start in range(0, len(pixel.rows), step):
        part = slice(start, start + step)
        rows = part if everywhere else pixel.rows[part]  # a slice is not copied
        samples[rows] = pixel.operation.apply_torch(samples[rows], pixel.parameters[part])
