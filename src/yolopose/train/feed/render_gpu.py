"""Painting a batch on the device that computes: one sampling for all its images, and its colors.

What comes out is what `paint` gives with OpenCV, but for rounding: OpenCV counts places in 32nds of a pixel.
No step waits for the device.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import torch
from torch import Tensor

from yolopose.geometry.letterbox import PAD_VALUE
from yolopose.train.feed.deferred import DeferredImages

_PIXELS = 8_000_000
"""Pixels worked on at once: what is known of each takes some 200 bytes for a moment, less than the maps of a step."""


@torch.no_grad()
def paint(sketch: DeferredImages, device: torch.device) -> Tensor:
    """Paint a batch.

    Args:
        sketch: what it shows.
        device: where to paint.

    Returns:
        (B, 3, H, W) uint8 RGB on the device, its pixels lying channels last.
    """
    sketch = sketch.to(device)
    some = max(_PIXELS // (sketch.size[0] * sketch.size[1]), 1)
    canvases = torch.cat([_sampled(sketch, slice(row, row + some)) for row in range(0, len(sketch.maps), some)])
    images = _joined(sketch, canvases, len(sketch.tables))
    parts = [slice(row, row + some) for row in range(0, len(images), some)]
    return torch.cat([_colored(sketch, images[part], part) for part in parts]).permute(0, 3, 1, 2)


def _colored(sketch: DeferredImages, images: Tensor, rows: slice) -> Tensor:
    """(b, H, W, 3) uint8 RGB of some of the samples, their colors changed."""
    changed = recolored(images, sketch.tables[rows])
    images = torch.where(sketch.colored[rows, None, None, None], changed, images)
    images = torch.where(sketch.swapped[rows, None, None, None], images, images.flip(-1))  # BGR to RGB
    return images.to(torch.uint8)


def _sampled(whole: DeferredImages, some: slice) -> Tensor:
    """(R, H, W, 3) float32 whole numbers: every pixel of some canvases taken from the pieces, the bare ones gray."""
    maps, target, part, piece = (one[some] for one in (whole.maps, whole.target, whole.part, whole.piece))
    sketch = replace(whole, maps=maps, target=target, part=part, piece=piece)
    (rows, columns), (height, width) = sketch.maps.shape[:2], sketch.size
    device = sketch.maps.device
    y = torch.arange(height, dtype=torch.float32, device=device)[:, None] + 0.5
    x = torch.arange(width, dtype=torch.float32, device=device)[None, :] + 0.5
    u, v = torch.zeros(2, rows, height, width, device=device)
    which = torch.full((rows, height, width), -1, device=device)
    for column in range(columns):
        here, (at_x, at_y) = _seen(sketch, column, x, y)
        u, v = torch.where(here, at_x, u), torch.where(here, at_y, v)
        which = torch.where(here, column, which)
    number = which.clamp(min=0) + columns * torch.arange(rows, device=device)[:, None, None]
    pixels = _between(sketch.pixels, sketch.piece.flatten(0, 1), number, u, v)
    return torch.where((which >= 0)[..., None], pixels.round_(), float(PAD_VALUE))


def _seen(sketch: DeferredImages, column: int, x: Tensor, y: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """(R, H, W) the pixels that a piece of each canvas covers, and where in the piece they come from.

    The places come as (R, 1, W) and (R, H, 1) where maps keep rectangles upright.
    """
    m = sketch.maps[:, column, :, :, None, None]
    left, top, right, bottom = sketch.target[:, column, :, None, None].unbind(1)
    here = ((x > left) & (x < right)) & ((y > top) & (y < bottom))
    if sketch.upright:
        u, v = m[:, 0, 0] * x + m[:, 0, 2], m[:, 1, 1] * y + m[:, 1, 2]
    else:
        u, v, depth = (m[:, line, 0] * x + m[:, line, 1] * y + m[:, line, 2] for line in range(3))
        u, v = u / depth, v / depth
        x1, y1, x2, y2 = sketch.part[:, column, :, None, None].unbind(1)
        here = here & (depth > 0) & (u >= x1) & (u < x2) & (v >= y1) & (v < y2)
    _, height, width = sketch.piece[:, column, :, None, None].unbind(1)
    # its last pixel goes on beyond its edge
    return here, (torch.minimum(u.clamp(min=0.5), width - 0.5), torch.minimum(v.clamp(min=0.5), height - 0.5))


def _between(pixels: Tensor, pieces: Tensor, number: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """(…, 3) float32: bilinear between the four pixels around (u, v) of the piece of that number."""
    first, height, width = (pieces[:, at].contiguous().take(number) for at in range(3))
    x, y = u - 0.5, v - 0.5
    left, top = x.floor(), y.floor()
    share_x, share_y = (x - left)[..., None], (y - top)[..., None]
    left, top = left.long(), top.long()
    right, below = torch.minimum(left + 1, width - 1), torch.minimum(top + 1, height - 1)
    top, below = first + top * width, first + below * width
    upper = torch.lerp(pixels[top + left].float(), pixels[top + right].float(), share_x)
    lower = torch.lerp(pixels[below + left].float(), pixels[below + right].float(), share_x)
    return torch.lerp(upper, lower, share_y)


def _joined(sketch: DeferredImages, canvases: Tensor, count: int) -> Tensor:
    """(B, H, W, 3) the samples, with what is blended and pasted into them."""
    images = canvases[:count]
    if len(canvases) == count:
        return images
    share = sketch.blend[:, 1, None, None, None]
    other = canvases[sketch.blend[:, 0].long()]
    images = (images * (1 - share) + other * share).round_()
    height, width = images.shape[1:3]
    y = torch.arange(height, device=images.device)[:, None]
    x = torch.arange(width, device=images.device)[None, :]
    left, top, right, bottom = sketch.paste[:, 1:, None, None].unbind(1)
    within = (x >= left) & (x < right) & (y >= top) & (y < bottom)
    return torch.where(within[..., None], canvases[sketch.paste[:, 0].long()], images)


def recolored(images: Tensor, tables: Tensor) -> Tensor:
    """Change hue, saturation and value by tables, as OpenCV's 8-bit HSV does.

    Args:
        images: (B, H, W, 3) BGR, whole numbers 0…255 of a floating-point type.
        tables: (B, 3, 256) uint8, old to new.

    Returns:
        (B, H, W, 3) float32 BGR, whole numbers 0…255.
    """
    changed = (
        table.gather(1, old.flatten(1).long()).view_as(old).float()
        for table, old in zip(tables.unbind(1), _to_hsv(images), strict=True)
    )
    return _to_bgr(*changed)


def _to_hsv(images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(B, H, W, 3) BGR → int32 hue 0…179, saturation and value 0…255; in whole numbers, as OpenCV counts."""
    blue, green, red = images.to(torch.int32).unbind(-1)
    value = torch.maximum(torch.maximum(blue, green), red)
    spread = value - torch.minimum(torch.minimum(blue, green), red)
    by_value, by_spread = _divisions(images.device)
    saturation = (spread * by_value[value.long()] + 2048) >> 12
    hue = torch.where(value == green, blue - red + 2 * spread, red - green + 4 * spread)
    hue = torch.where(value == red, green - blue, hue)
    hue = (hue * by_spread[spread.long()] + 2048) >> 12
    return hue + 180 * (hue < 0), saturation, value


def _to_bgr(hue: Tensor, saturation: Tensor, value: Tensor) -> Tensor:
    """Hue 0…179, saturation and value 0…255 → (…, 3) BGR, whole numbers."""
    sixth = hue * (1 / 30)
    sector = sixth.floor()
    part, share, bright = sixth - sector, saturation * (1 / 255), value * (1 / 255)
    p, q, t = bright * (1 - share), bright * (1 - share * part), bright * (1 - share * (1 - part))
    choice = torch.stack((bright, t, p, q), -1)
    order = _sectors(hue.device)[sector.long() % 6]  # (…, 3) which of the four blue, green and red are
    return (choice.gather(-1, order) * 255).floor_()  # OpenCV cuts off, too


@cache
def _divisions(device: torch.device) -> tuple[Tensor, Tensor]:
    """(256,) int32: 255 / i and 180 / 6i in 4096ths, rounded; 0 for i = 0."""
    i = torch.arange(256, dtype=torch.float64).clamp(min=1)
    tables = [((scale * 4096) / i).round().to(torch.int32) for scale in (255, 30)]
    for table in tables:
        table[0] = 0
    return tables[0].to(device), tables[1].to(device)


@cache
def _sectors(device: torch.device) -> Tensor:
    """(6, 3) blue, green, red by sixth of the circle: 0 the value, 1 t, 2 p, 3 q."""
    return torch.tensor([[2, 1, 0], [2, 0, 3], [1, 0, 2], [0, 3, 2], [0, 2, 1], [3, 2, 0]]).to(device)
