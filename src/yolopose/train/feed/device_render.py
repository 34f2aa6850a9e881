"""Rendering of `DeferredImages` by torch, with few operations: on a GPU each of them costs the host some microseconds.

The result is that of `SampleBuilder.render` except for rounding: OpenCV interpolates in steps of 1/32 pixel. The host
never waits for the device.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from yolopose.train.feed.deferred import DeferredImages, OverlayTensors, PixelTensors

_PIXELS = 8_000_000  # rendered at once: temporary values take about 200 bytes per pixel, less than a training step
_GPU_SHARE = 16 * 200  # bytes of memory of a GPU per pixel rendered at once, if that is more pixels


@torch.no_grad()
def render_images(images: DeferredImages) -> Tensor:
    """Render a batch on the device of its tensors.

    Returns:
        (B, C, H, W) uint8, RGB with 3 channels, channels last in memory.
    """
    height, width = images.size
    step = max(_pixels_at_once(images.pixels.device) // (height * width), 1)
    canvases = _join([_sample_canvases(images, row, row + step) for row in range(0, len(images.transforms), step)])
    samples = canvases[: images.count]
    for overlay in images.overlays:
        _apply_overlay(samples, canvases, overlay)
    for pixel in images.pixel_operations:
        _apply_pixel_operation(samples, pixel, step)
    parts = [samples[row : row + step].to(torch.uint8) for row in range(0, images.count, step)]
    if samples.shape[-1] == 3:
        parts = [part.flip(-1) for part in parts]  # BGR to RGB
    return _join(parts).permute(0, 3, 1, 2)


def _join(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _pixels_at_once(device: torch.device) -> int:
    return max(_PIXELS, _gpu_memory(device) // _GPU_SHARE) if device.type == "cuda" else _PIXELS


@cache
def _gpu_memory(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).total_memory


@cache
def _indices(count: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return (count,) 0, 1, … as int64 and as float32."""
    with torch.inference_mode(False):
        values = torch.arange(count, device=device)
        return values, values.float()


def _sample_canvases(images: DeferredImages, start: int, end: int) -> Tensor:
    """Return (R, H, W, C) float32 integers: the pixels of canvases `start`…`end - 1`."""
    device = images.pixels.device
    transforms = images.transforms[start:end]
    target = images.target[start:end]
    piece = images.piece[start:end]
    count, columns = transforms.shape[:2]
    height, width = images.size
    (column_x, x), (row_y, y) = _indices(width, device), _indices(height, device)
    limits = piece.sub(1).float()  # largest positions in each piece
    left, top, right, bottom = target[:, 1:, :, None].unbind(2)
    covers_x = (x > left) & (x < right)  # (R, P - 1, W)
    covers_y = (y > top) & (y < bottom)
    covered = covers_x[:, :, None] & covers_y[..., None]
    first = _indices(count, device)[0][:, None, None] * columns
    if images.axis_aligned:
        at = _last_covered(covered) + first  # (R, H, W) index of the piece of each pixel
        m = transforms[..., None]
        u = torch.minimum(torch.addcmul(m[:, :, 0, 2], m[:, :, 0, 0], x).clamp_(min=0), limits[:, :, 2:])
        v = torch.minimum(torch.addcmul(m[:, :, 1, 2], m[:, :, 1, 1], y).clamp_(min=0), limits[:, :, 1:2])
        u = u.flatten(0, 1)[at, column_x]
        v = v.flatten(0, 1)[at, row_y[:, None]]
    else:
        position, inside = _project(transforms, images.part[start:end], x, y)
        column = _last_covered(covered & inside[:, 1:])
        at = column + first
        index = column.long()[:, None, None].expand(-1, -1, 2, -1, -1)
        limit = limits.flatten(0, 1)[at]
        u, v = position.gather(1, index)[:, 0].clamp_(min=0).unbind(1)
        u = torch.minimum(u, limit[..., 2])
        v = torch.minimum(v, limit[..., 1])
    return _interpolate(images.pixels, piece.flatten(0, 1)[:, ::2], at, u, v).round_()


def _last_covered(covered: Tensor) -> Tensor:
    """(R, P - 1, H, W) which pixels each piece but the first covers → (R, H, W) uint8 the last that does, else 0."""
    numbers = _indices(covered.shape[1] + 1, covered.device)[0][1:].to(torch.uint8)
    if not len(numbers):
        return covered.new_zeros((covered.shape[0], *covered.shape[2:]), dtype=torch.uint8)
    return (covered * numbers[:, None, None]).amax(1)


def _project(transforms: Tensor, part: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return where the pixels of a canvas lie in each piece, and which lie in its part.

    Args:
        transforms: (R, P, 3, 3).
        part: (R, P, 4).
        x: (W,).
        y: (H,).

    Returns:
        (R, P, 2, H, W) positions x, y, and (R, P, H, W) bool.
    """
    m = transforms[..., None, None]
    projected = torch.addcmul(m[:, :, :, 2], m[:, :, :, 1], y[:, None]) + m[:, :, :, 0] * x
    depth = projected[:, :, 2:]
    position = projected[:, :, :2] / depth
    low, high = part[..., None, None].split(2, 2)
    inside = ((position >= low) & (position < high) & (depth > 0)).all(2)
    return position, inside


def _interpolate(pixels: Tensor, pieces: Tensor, at: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """Return (R, H, W, C) float32: bilinear between the four pixels around (u, v) of a piece.

    Args:
        pixels: (N, C) uint8.
        pieces: (R·P, 2) first pixel and width of each piece.
        at: (R, H, W) index of the piece.
        u: (R, H, W) x in the piece, from 0 to its width minus 1; at the end the weight of the neighbor, which lies
            outside the piece, is 0.
        v: (R, H, W) y in the piece.
    """
    first, width = pieces[at].unbind(-1)
    above = torch.addcmul(first, v.long(), width).add_(u.long())
    channels = pixels.shape[1]
    neighbors = pixels.as_strided((len(pixels) - 1, 2 * channels), (channels, 1))  # each pixel and the one to the right
    upper, lower = neighbors[above].float(), neighbors[above + width].float()
    both = torch.lerp(upper, lower, v.frac()[..., None])
    return torch.lerp(both[..., :channels], both[..., channels:], u.frac()[..., None])


def _apply_overlay(samples: Tensor, canvases: Tensor, overlay: OverlayTensors) -> None:
    """Lay canvases over some of the samples (B, H, W, C), in place."""
    height, width = samples.shape[1:3]
    y = _indices(height, samples.device)[1][:, None]
    x = _indices(width, samples.device)[1]
    left, top, right, bottom = overlay.window[:, :, None, None].unbind(1)
    inside = (x >= left) & (x < right) & (y >= top) & (y < bottom)
    weight = (overlay.opacity[:, None, None] * inside)[..., None]
    samples[overlay.rows] = torch.lerp(samples[overlay.rows], canvases[overlay.canvas], weight).round_()


def _apply_pixel_operation(samples: Tensor, pixel: PixelTensors, step: int) -> None:
    """Apply a pixel operation to some of the samples (B, H, W, C), `step` images at a time, in place."""
    everywhere = len(pixel.rows) == len(samples)
    for start in range(0, len(pixel.rows), step):
        part = slice(start, start + step)
        rows = part if everywhere else pixel.rows[part]  # a slice is not copied
        samples[rows] = pixel.operation.apply_torch(samples[rows], pixel.parameters[part])
