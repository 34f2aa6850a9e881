from __future__ import annotations

import numpy as np
import pytest

from yolopose.geometry import Transform2D
from yolopose.train.feed.render import blit, cut_patch


def render(canvas: np.ndarray, image: np.ndarray, transform: Transform2D, clip: list[float] | None = None) -> None:
    part = np.array([0.0, 0, image.shape[1], image.shape[0]] if clip is None else clip)
    patch = cut_patch((canvas.shape[0], canvas.shape[1]), image, transform, part)
    if patch is not None:
        blit(canvas, patch)


@pytest.mark.parametrize("gain", [0.5, 0.45, 1 / 3, 0.3, 0.24, 0.9, 1.7])
@pytest.mark.parametrize("size", [(60, 101), (61, 102), (62, 103), (59, 100)])
def test_gradient_keeps_its_position_when_averaged_blocks_exceed_the_image(size: tuple[int, int], gain: float) -> None:
    slope = np.arange(size[1]) * 2.0
    image = np.broadcast_to(slope[None, :, None], (*size, 3)).astype(np.uint8)
    canvas = np.zeros((int(size[0] * gain), int(size[1] * gain), 3), np.uint8)
    render(canvas, image, Transform2D.scale(gain))
    expected = 2 * ((np.arange(canvas.shape[1]) + 0.5) / gain - 0.5)
    near_edge = 2 * max(int(1 / gain), 1)  # the last block repeats the edge
    difference = canvas.astype(float) - np.clip(expected, 0, slope[-1])[:, None]
    assert np.abs(difference).max() <= near_edge
    assert np.abs(difference[:, 2:-2]).max() <= 2


@pytest.mark.parametrize(
    ("transform", "clip"),
    [
        (Transform2D.translate(50, 0), None),
        (Transform2D.translate(0, -11), None),
        (Transform2D.translate(40, 40) @ Transform2D.rotate(45), None),
        (Transform2D.identity(), [12, 0, 30, 30]),
    ],
)
def test_invisible_images_leave_the_canvas_unchanged(transform: Transform2D, clip: list[float] | None) -> None:
    canvas = np.full((20, 20, 3), 7, np.uint8)
    render(canvas, np.full((10, 10, 3), 200, np.uint8), transform, clip)
    assert (canvas == 7).all()


def test_renders_only_the_clipped_part() -> None:
    canvas = np.full((20, 20, 3), 7, np.uint8)
    render(canvas, np.full((10, 10, 3), 200, np.uint8), Transform2D.translate(-5, 0), [0, 0, 8, 4])
    assert (canvas[:4, :3] == 200).all()
    assert (canvas == 200).sum() == 36
