"""Samples: pixels and labels go through the same transforms."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from feed_scenes import COLORS, batch_spec, check_dots, find_dot, make_scenes, pose_spec, train_options

from yolopose.train.feed.sampling import SampleBuilder

SIDE = 256
MARGIN = 14
SIZES = [(192, 256), (256, 192), (200, 256), (256, 256), (150, 240)]
BUSY = {
    "degrees": 20, "translate": 0.2, "scale": 0.4, "shear": 8, "perspective": 0.0005, "flipud": 0.5, "fliplr": 0.5,
    "mosaic": 0.7, "mixup": 0.0, "cutmix": 0.5,
}  # fmt: skip


def make_builder(sizes=SIZES, radius: float = 5, **changes: float) -> SampleBuilder:
    table, images = make_scenes(sizes, radius)
    return SampleBuilder(table, pose_spec(), train_options(**changes), images, imgsz=SIDE, seed=3)


@pytest.mark.parametrize(
    "changes",
    [
        {}, {"degrees": 40}, {"scale": 0.4}, {"shear": 12}, {"perspective": 0.001}, {"translate": 0.2}, {"fliplr": 1},
        {"flipud": 1}, {"degrees": 180}, {"fliplr": 1, "flipud": 1, "degrees": 180},
    ],
    ids=lambda changes: "+".join(changes) or "letterbox",
)  # fmt: skip
def test_dots_are_where_their_labels_are(changes: dict[str, float]) -> None:
    builder = make_builder(**changes)
    mirrored = changes.get("fliplr", 0) != changes.get("flipud", 0)
    count = 0
    for index in range(len(SIZES)):
        for epoch in range(3):
            image, labels = builder.build(batch_spec(index, 5, (SIDE, SIDE), epoch=epoch), index)
            assert image.shape == (SIDE, SIDE, 3)
            count += check_dots(image, labels, order=(1, 0, 2) if mirrored else (0, 1, 2))
    assert count >= 20


@pytest.mark.parametrize("changes", [{"mosaic": 1}, {"mosaic": 1, "scale": 0.5, "translate": 0.1}, BUSY], ids=str)
def test_dots_of_mosaics_are_where_their_labels_are(changes: dict[str, float]) -> None:
    # a few dots are cut by the border of a tile or window, which moves their centroid
    builder = make_builder(radius=4, **changes)
    total = 0
    correct = 0
    for epoch in range(25):
        index = epoch % 5
        image, labels = builder.build(batch_spec(index, 5, (SIDE, SIDE), epoch=epoch), index)
        for keypoints in labels.keypoints:
            for number, (x, y, v) in enumerate(keypoints):
                if v == 0 or not (MARGIN < x < SIDE - MARGIN and MARGIN < y < SIDE - MARGIN):
                    continue
                total += 1
                colors = COLORS if "fliplr" in changes else COLORS[[number]]
                correct += any(is_near(image, x, y, color) for color in colors)
    assert total > 60
    assert correct / total > 0.97


def is_near(image: np.ndarray, x: float, y: float, color: np.ndarray) -> bool:
    try:
        found_x, found_y = find_dot(image, x, y, color, 8)
    except AssertionError:
        return False
    return bool(np.hypot(found_x - x, found_y - y) < 0.5)


@pytest.mark.parametrize("degrees", [0, 15])
def test_shrinking_by_three_does_not_alias(degrees: float) -> None:
    builder = make_builder(sizes=[(3 * 200, 3 * 256)], radius=15, degrees=degrees)
    image, labels = builder.build(batch_spec(0, 1, (SIDE, SIDE)), 0)
    assert check_dots(image, labels) == 3
    # a fine checkerboard becomes even gray; a bilinear warp without prefilter would return stripes
    board = (np.indices((600, 768)).sum(0) % 2 * 255).astype(np.uint8)
    builder._images[0][:] = board[..., None]
    image, _ = builder.build(batch_spec(0, 1, (SIDE, SIDE)), 0)
    middle = image[90:160, 60:190].astype(float)
    assert abs(middle.mean() - 127.5) < 2
    assert middle.std() < 20


def test_an_image_that_fits_is_copied() -> None:
    builder = make_builder(sizes=[(SIDE, SIDE)])
    image, labels = builder.build(batch_spec(0, 1, (SIDE, SIDE)), 0)
    np.testing.assert_array_equal(image, builder._images[0])
    np.testing.assert_allclose(labels.keypoints[0, :, :2], builder.table.keypoints[0, :, :2] * SIDE, rtol=1e-6)


@pytest.mark.parametrize("size", [(100, 140), (333, 512), (256, 200)])
def test_a_single_image_is_resized_and_letterboxed(size: tuple[int, int]) -> None:
    builder = make_builder(sizes=[size])
    source = cv2.GaussianBlur(builder._images[0], (0, 0), 2)
    builder._images[0][:] = source
    image, _ = builder.build(batch_spec(0, 1, (SIDE, SIDE)), 0)
    ratio = SIDE / max(size)
    height, width = (min(int(np.ceil(side * ratio)), SIDE) for side in size)
    expected = cv2.resize(source, (width, height), interpolation=cv2.INTER_LINEAR)
    top, left = round((SIDE - height) / 2 - 0.1), round((SIDE - width) / 2 - 0.1)
    inner = image[top : top + height, left : left + width].astype(int)
    assert np.abs(inner - expected).max() <= 2
    padding = np.ones((SIDE, SIDE), bool)
    padding[top : top + height, left : left + width] = False
    assert (image[padding] == 114).all()


def test_tiles_of_a_rotated_mosaic_leave_no_seam() -> None:
    builder = make_builder(sizes=[(SIDE, SIDE)] * 4, degrees=30, mosaic=1)
    for source in builder._images:
        source[:] = 200
    for epoch in range(8):
        image, _ = builder.build(batch_spec(0, 4, (SIDE, SIDE), epoch=epoch), 0)
        gray = (image[..., 0] == 114).astype(np.uint8)
        # uncovered pixels lie outside the mosaic, never on a line between tiles
        assert (cv2.morphologyEx(gray, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)) == gray).mean() > 0.998
        assert (image[SIDE // 2 - 30 : SIDE // 2 + 30, SIDE // 2 - 30 : SIDE // 2 + 30] == 200).all()


@pytest.mark.parametrize(("lr", "ud", "order"), [(1, 0, [1, 0, 2]), (0, 1, [1, 0, 2]), (1, 1, [0, 1, 2])])
def test_flips_mirror_pixels_and_permute_keypoints(lr: int, ud: int, order: list[int]) -> None:
    spec = batch_spec(0, 1, (SIDE, SIDE))
    before_image, before = make_builder(sizes=[(200, 256)]).build(spec, 0)
    image, after = make_builder(sizes=[(200, 256)], fliplr=lr, flipud=ud).build(spec, 0)
    np.testing.assert_array_equal(image, before_image[:: -1 if ud else 1, :: -1 if lr else 1])
    expected = before.keypoints[0].copy()
    expected[:, 0] = SIDE - expected[:, 0] if lr else expected[:, 0]
    expected[:, 1] = SIDE - expected[:, 1] if ud else expected[:, 1]
    np.testing.assert_allclose(after.keypoints[0], expected[order], atol=1e-4)


def test_mixup_blends_pixels_and_joins_labels() -> None:
    sizes = [(SIDE, SIDE)] * 2
    sources = [make_builder(sizes=sizes).build(batch_spec(index, 2, (SIDE, SIDE)), index) for index in range(2)]
    spec = batch_spec(0, 2, (SIDE, SIDE))
    spec = type(spec)(0, spec.index, np.array([1]), spec.shape, True)
    image, labels = make_builder(sizes=sizes, mixup=1).build(spec, 0)
    assert len(labels.classes) == 2
    np.testing.assert_allclose(labels.boxes, np.concatenate([source[1].boxes for source in sources]), atol=1e-4)
    a, b = (source[0].astype(float) for source in sources)
    different = np.abs(a - b) > 100
    weights = ((image - b) / np.where(different, a - b, 1))[different]
    assert weights.std() < 0.01
    assert 0.25 < weights.mean() < 0.75


def test_cutmix_pastes_a_window_next_to_the_instances() -> None:
    pasted = 0
    for epoch in range(30):
        builder = make_builder(sizes=[(SIDE, SIDE)] * 2, cutmix=1)
        builder.table.boxes[0] = [0.2, 0.2, 0.1, 0.1]
        builder._images[1][:] = 200
        spec = batch_spec(0, 2, (SIDE, SIDE), epoch=epoch)
        spec = type(spec)(epoch, spec.index, np.array([1]), spec.shape, True)
        image, labels = builder.build(spec, 0)
        ys, xs = np.nonzero((image == 200).all(-1))
        if not len(ys):
            continue
        pasted += 1
        left, right, top, bottom = xs.min(), xs.max() + 1, ys.min(), ys.max() + 1
        assert (image[top:bottom, left:right] == 200).all()
        outside = np.ones((SIDE, SIDE), bool)
        outside[top:bottom, left:right] = False
        np.testing.assert_array_equal(image[outside], builder._images[0][outside])
        for box, points in zip(labels.boxes[1:], labels.keypoints[1:], strict=True):
            assert (box >= [left, top, left, top]).all()
            assert (box <= [right, bottom, right, bottom]).all()
            visible = points[points[:, 2] > 0]
            assert ((visible[:, :2] >= [left, top]) & (visible[:, :2] <= [right, bottom])).all()
    assert pasted > 5


def test_closing_mosaic_switches_off_mixup_and_cutmix_too() -> None:
    builder = make_builder(sizes=[(SIDE, SIDE)] * 2, mosaic=1, mixup=1, cutmix=1)
    image, labels = builder.build(batch_spec(0, 2, (SIDE, SIDE), multi_image=False), 0)
    np.testing.assert_array_equal(image, builder._images[0])
    assert len(labels.classes) == 1
