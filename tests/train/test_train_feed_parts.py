from __future__ import annotations

import colorsys
from pathlib import Path

import cv2
import numpy as np
import pytest
from feed_scenes import options, request, scenes, spec, table

from yolopose.data import ImageLabels
from yolopose.geometry import Transform2D
from yolopose.train.feed.augment import mosaic, random_change
from yolopose.train.feed.color import change_hsv
from yolopose.train.feed.labels import carry, kept, put
from yolopose.train.feed.render import draw
from yolopose.train.feed.sampling import SampleBuilder


@pytest.mark.parametrize("gains", [(0.1, 0.3, -0.2), (-0.4, -0.7, 0.4), (0.0, 0.5, 0.0)])
def test_hsv_by_tables_against_the_formula(gains: tuple[float, float, float]) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (1, 400, 3), dtype=np.uint8)
    ours = pixels.copy()
    change_hsv(ours, *gains)
    for before, after in zip(pixels[0], ours[0], strict=True):
        h, s, v = colorsys.rgb_to_hsv(*before[::-1] / 255)
        wanted = colorsys.hsv_to_rgb((h + gains[0]) % 1, min(s * (1 + gains[1]), 1), min(v * (1 + gains[2]), 1))
        # bytes hold the hue in steps of 2 degrees, twice rounded
        assert np.abs(np.array(wanted[::-1]) * 255 - after).max() < 16, (before, after)


def test_hsv_keeps_gray_gray_and_zero_gains_change_nothing_much() -> None:
    gray = np.full((2, 2, 3), 100, np.uint8)
    change_hsv(gray, 0.3, 0.7, 0.2)
    assert (gray == 120).all()
    pixels = np.random.default_rng(2).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    same = cv2.cvtColor(cv2.cvtColor(pixels, cv2.COLOR_BGR2HSV), cv2.COLOR_HSV2BGR)
    change_hsv(pixels, 0, 0, 0)
    np.testing.assert_array_equal(pixels, same)


@pytest.mark.parametrize(
    ("before", "after", "keep"),
    [
        ((0, 0, 10, 10), (0, 0, 10, 10), True),
        ((0, 0, 10, 10), (0, 0, 2, 10), False),  # 2 px is not more than 2
        ((0, 0, 10, 10), (0, 0, 2.1, 10), True),
        ((0, 0, 10, 10), (0, 0, 3, 3.2), False),  # 9.6 % of the area
        ((0, 0, 10, 10), (0, 0, 3, 3.5), True),
        ((0, 0, 300, 3), (0, 0, 300, 2.9), False),  # longer than 100 : 1
        ((0, 0, 280, 3), (0, 0, 280, 2.9), True),
        ((0, 0, 0, 0), (0, 0, 0, 0), False),
        ((0, 0, 10, 10), (np.nan,) * 4, False),
    ],
)
def test_which_boxes_are_kept(before: tuple[float, ...], after: tuple[float, ...], keep: bool) -> None:
    assert kept(np.array([before], float), np.array([after], float)).tolist() == [keep]


def test_objects_are_clipped_and_points_outside_lose_their_visibility() -> None:
    labels = ImageLabels(
        np.array([0, 3], np.int32),
        np.array([[0.5, 0.5, 0.5, 0.5], [0.95, 0.5, 0.1, 0.5]], np.float32),
        np.array([[[0.3, 0.5, 2], [0.7, 0.5, 1], [0.5, 0.5, 0]]] * 2, np.float32),
    )
    # 100 px wide input, shifted left by half: the first object is cut in the middle, the second stays whole
    found = carry(put(labels, Transform2D.scale(100)), (100, 100), Transform2D.translate(-50, 0), 1.0, (100, 100))
    np.testing.assert_allclose(found.boxes, [[0, 25, 25, 75], [40, 25, 50, 75]], atol=1e-5)
    np.testing.assert_allclose(found.keypoints[0], [[0, 0, 0], [20, 50, 1], [0, 0, 0]], atol=1e-5)
    assert found.classes.tolist() == [0, 3]
    # what the input's own border has cut off does not come back
    moved = carry(
        put(labels, Transform2D.translate(40, 0) @ Transform2D.scale(100)),
        (100, 100),
        Transform2D.identity(),
        1.0,
        (100, 200),
    )
    np.testing.assert_allclose(moved.boxes, [[65, 25, 100, 75]], atol=1e-5)
    assert moved.keypoints[0, :, 2].tolist() == [2, 0, 0]


@pytest.mark.parametrize("gain", [0.5, 0.45, 1 / 3, 0.3, 0.24, 0.9, 1.7])
@pytest.mark.parametrize("size", [(60, 101), (61, 102), (62, 103), (59, 100)])
def test_a_slope_keeps_its_place_where_blocks_reach_beyond_the_edge(size: tuple[int, int], gain: float) -> None:
    slope = np.arange(size[1]) * 2.0
    image = np.broadcast_to(slope[None, :, None], (*size, 3)).astype(np.uint8)
    canvas = np.zeros((int(size[0] * gain), int(size[1] * gain), 3), np.uint8)
    draw(canvas, image, Transform2D.scale(gain))
    expected = 2 * ((np.arange(canvas.shape[1]) + 0.5) / gain - 0.5)
    near_edge = 2 * max(int(1 / gain), 1)  # the last block holds the edge more than once
    found = canvas.astype(float) - np.clip(expected, 0, slope[-1])[:, None]
    assert np.abs(found).max() <= near_edge
    assert np.abs(found[:, 2:-2]).max() <= 2


def test_the_random_change_has_the_stated_ranges() -> None:
    rng = np.random.default_rng(0)
    ranges = options(scale=0.5, translate=0.1)
    made = [random_change(rng, ranges, (200, 400), (100, 120)) for _ in range(2000)]
    gains = np.array([gain for _, gain in made])
    center = np.array([one.points(np.array([200.0, 100.0])) for one, _ in made])
    for values, low, high in ((gains, 0.5, 1.5), (center[:, 0], 48, 72), (center[:, 1], 40, 60)):
        assert low <= values.min() < low + 0.02 * high
        assert high - 0.02 * high < values.max() <= high
        assert values.mean() == pytest.approx((low + high) / 2, rel=0.02)
    assert all(one.matrix[0, 0] == pytest.approx(gain) for one, gain in made)


def test_mosaic_images_meet_at_one_point_of_the_middle() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        tiles = mosaic(rng, (0, 1, 2, 3), [(100, 200), (200, 100), (50, 50), (30, 40)], 64)
        boxes = np.array([tile.place.boxes(np.array([0.0, 0, 1, 1])) for tile in tiles])
        corners = [boxes[0, 2:], boxes[1, [0, 3]], boxes[2, [2, 1]], boxes[3, :2]]
        np.testing.assert_allclose(corners, [corners[0]] * 4)
        assert (corners[0] >= 32).all()
        assert (corners[0] <= 96).all()
        np.testing.assert_allclose((boxes[:, 2:] - boxes[:, :2]).max(1), 64)


def test_drawing_outside_or_nothing_leaves_the_canvas() -> None:
    canvas = np.full((20, 20, 3), 7, np.uint8)
    image = np.full((10, 10, 3), 200, np.uint8)
    for away in (
        Transform2D.translate(50, 0),
        Transform2D.translate(0, -11),
        Transform2D.translate(40, 40) @ Transform2D.rotate(45),
    ):
        draw(canvas, image, away)
    draw(canvas, image, Transform2D.identity(), np.array([12.0, 0, 30, 30]))
    assert (canvas == 7).all()
    draw(canvas, image, Transform2D.translate(-5, 0), np.array([0.0, 0, 8, 4]))
    assert (canvas[:4, :3] == 200).all()
    assert (canvas == 200).sum() == 36


@pytest.mark.parametrize("count", [1, 3])
def test_images_without_objects_tiny_ones_and_one_point(count: int) -> None:
    boxes = [np.zeros((0, 4)), np.array([[0.5, 0.5, 0.8, 0.8]])]
    points = [np.zeros((0, count, 3)), np.full((1, count, 3), 0.5)]
    labels = table(boxes, points, [(10, 10), (10, 300)], [Path("a.png"), Path("b.png")])
    images = [np.full((10, 10, 3), 50, np.uint8), np.full((10, 300, 3), 50, np.uint8)]
    flip = tuple(range(count))
    for changes in ({}, {"mosaic": 1, "scale": 0.9, "mixup": 1, "cutmix": 1, "degrees": 90, "perspective": 0.001}):
        maker = SampleBuilder(labels, spec(count, flip), options(**changes, fliplr=0.5), images, imgsz=64, seed=0)
        for epoch in range(10):
            for index in (0, 1):
                image, found = maker.make(request(index, 2, (64, 64), epoch=epoch), index)
                assert image.shape == (64, 64, 3)
                assert found.keypoints.shape == (len(found.classes), count, 3)
                assert np.isfinite(found.keypoints).all()
                assert ((found.boxes >= 0) & (found.boxes <= 64)).all()


def test_bgr_swaps_the_channels() -> None:
    labels, images = scenes([(64, 64)])
    wanted = request(0, 1, (64, 64))
    image, _ = SampleBuilder(labels, spec(), options(bgr=1), images, imgsz=64, seed=0).make(wanted, 0)
    np.testing.assert_array_equal(image, images[0][:, :, ::-1])
