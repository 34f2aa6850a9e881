from __future__ import annotations

import cv2
import numpy as np
import pytest
from feed_scenes import COLORS, find_dot, options, request, scenes, spec

from yolopose.data import ImageLabels
from yolopose.train.feed.sampling import SampleBuilder

SIDE = 256
REACH = 14
SIZES = [(192, 256), (256, 192), (200, 256), (256, 256), (150, 240)]
ALL = {
    "degrees": 20, "translate": 0.2, "scale": 0.4, "shear": 8, "perspective": 0.0005, "flipud": 0.5, "fliplr": 0.5,
    "mosaic": 0.7, "mixup": 0.0, "cutmix": 0.5,
}  # fmt: skip


def sampler(sizes=SIZES, radius: float = 5, side: int = SIDE, **changes: float) -> SampleBuilder:
    table, images = scenes(sizes, radius)
    return SampleBuilder(table, spec(), options(**changes), images, imgsz=side, seed=3)


def check_dots(image: np.ndarray, labels: ImageLabels, named: bool = True) -> int:
    """Every labeled point away from the border has its dot within half a pixel; returns how many there were."""
    found = 0
    for keypoints in labels.keypoints:
        for number, (x, y, v) in enumerate(keypoints):
            if v == 0 or not (REACH < x < image.shape[1] - REACH and REACH < y < image.shape[0] - REACH):
                continue
            colors = COLORS[[number]] if named else COLORS
            spots = []
            for color in colors:
                try:
                    spots.append(find_dot(image, x, y, color, REACH))
                except AssertionError:
                    if named:
                        raise
            away = min(np.hypot(fx - x, fy - y) for fx, fy in spots)
            assert away < 0.5, f"point {number} at {x:.2f}, {y:.2f} is {away:.2f} px off"
            found += 1
    return found


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"degrees": 40},
        {"scale": 0.4},
        {"shear": 12},
        {"perspective": 0.001},
        {"translate": 0.2},
        {"fliplr": 1, "named": False},
        {"flipud": 1, "named": False},
        {"degrees": 180},
    ],
    ids=lambda changes: "+".join(changes) or "letterbox",
)
def test_dots_are_where_the_labels_say(changes: dict[str, float]) -> None:
    named = changes.pop("named", True)
    maker = sampler(**changes)
    found = 0
    for index in range(len(SIZES)):
        for epoch in range(3):
            image, labels = maker.make(request(index, 5, (SIDE, SIDE), epoch=epoch), index)
            assert image.shape == (SIDE, SIDE, 3)
            found += check_dots(image, labels, named)
    assert found >= 20


@pytest.mark.parametrize("changes", [{"mosaic": 1}, {"mosaic": 1, "scale": 0.5, "translate": 0.1}, ALL], ids=str)
def test_dots_of_mosaics_and_of_all_together(changes: dict[str, float]) -> None:
    # dots cut by a tile's border or by a window have another centroid: their centers must lie well inside what shows
    maker = sampler(radius=4, **changes)
    total, right = 0, 0
    for epoch in range(25):
        index = epoch % 5
        image, labels = maker.make(request(index, 5, (SIDE, SIDE), epoch=epoch), index)
        for keypoints in labels.keypoints:
            for number, (x, y, v) in enumerate(keypoints):
                inside = REACH < x < SIDE - REACH and REACH < y < SIDE - REACH
                if v == 0 or not inside:
                    continue
                total += 1
                colors = COLORS if "fliplr" in changes else COLORS[[number]]
                right += any(near(image, x, y, color) for color in colors)
    assert total > 60
    assert right / total > 0.97


def near(image: np.ndarray, x: float, y: float, color: np.ndarray) -> bool:
    try:
        found = find_dot(image, x, y, color, 8)
    except AssertionError:
        return False
    return bool(np.hypot(found[0] - x, found[1] - y) < 0.5)


@pytest.mark.parametrize("degrees", [0, 15])
def test_dots_after_shrinking_by_three_keep_their_brightness(degrees: float) -> None:
    maker = sampler(sizes=[(3 * 200, 3 * 256)], radius=15, degrees=degrees)
    image, labels = maker.make(request(0, 1, (SIDE, SIDE)), 0)
    assert check_dots(image, labels) == 3
    # a fine checkerboard becomes even gray; a bilinear warp alone would give stripes
    board = (np.indices((600, 768)).sum(0) % 2 * 255).astype(np.uint8)
    maker._images[0][:] = board[..., None]
    image, _ = maker.make(request(0, 1, (SIDE, SIDE)), 0)
    middle = image[90:160, 60:190].astype(float)
    assert abs(middle.mean() - 127.5) < 2
    assert middle.std() < 20


def test_a_image_that_fits_is_not_touched() -> None:
    maker = sampler(sizes=[(SIDE, SIDE)])
    image, labels = maker.make(request(0, 1, (SIDE, SIDE)), 0)
    np.testing.assert_array_equal(image, maker._images[0])
    np.testing.assert_allclose(labels.keypoints[0, :, :2], maker.table.keypoints[0, :, :2] * SIDE, rtol=1e-6)


@pytest.mark.parametrize("size", [(100, 140), (333, 512), (256, 200)])
def test_loading_looks_as_resize_and_letterbox(size: tuple[int, int]) -> None:
    maker = sampler(sizes=[size])
    source = cv2.GaussianBlur(maker._images[0], (0, 0), 2)
    maker._images[0][:] = source
    image, _ = maker.make(request(0, 1, (SIDE, SIDE)), 0)
    ratio = SIDE / max(size)
    height, width = (min(int(np.ceil(side * ratio)), SIDE) for side in size)
    expected = cv2.resize(source, (width, height), interpolation=cv2.INTER_LINEAR)
    top, left = round((SIDE - height) / 2 - 0.1), round((SIDE - width) / 2 - 0.1)
    inner = image[top : top + height, left : left + width].astype(int)
    assert np.abs(inner - expected).max() <= 2
    mask = np.ones((SIDE, SIDE), bool)
    mask[top : top + height, left : left + width] = False
    assert (image[mask] == 114).all()


def test_tiles_of_a_turned_mosaic_leave_no_seam() -> None:
    maker = sampler(sizes=[(SIDE, SIDE)] * 4, degrees=30, mosaic=1, scale=0.0)
    for img in maker._images:
        img[:] = 200
    for epoch in range(8):
        image, _ = maker.make(request(0, 4, (SIDE, SIDE), epoch=epoch), 0)
        gray = (image[..., 0] == 114).astype(np.uint8)
        # what is not covered lies outside the mosaic, never as a thread between tiles
        assert (cv2.morphologyEx(gray, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)) == gray).mean() > 0.998
        assert (image[SIDE // 2 - 30 : SIDE // 2 + 30, SIDE // 2 - 30 : SIDE // 2 + 30] == 200).all()


@pytest.mark.parametrize(("lr", "ud", "order"), [(1, 0, [1, 0, 2]), (0, 1, [1, 0, 2]), (1, 1, [0, 1, 2])])
def test_flips_mirror_pixels_and_permute_points(lr: int, ud: int, order: list[int]) -> None:
    plain, before = sampler(sizes=[(200, 256)]).make(request(0, 1, (SIDE, SIDE)), 0)
    image, after = sampler(sizes=[(200, 256)], fliplr=lr, flipud=ud).make(request(0, 1, (SIDE, SIDE)), 0)
    np.testing.assert_array_equal(image, plain[:: -1 if ud else 1, :: -1 if lr else 1])
    expected = before.keypoints[0].copy()
    expected[:, 0] = SIDE - expected[:, 0] if lr else expected[:, 0]
    expected[:, 1] = SIDE - expected[:, 1] if ud else expected[:, 1]
    np.testing.assert_allclose(after.keypoints[0], expected[order], atol=1e-4)


def test_without_flip_idx_nothing_is_mirrored() -> None:
    table, images = scenes([(SIDE, SIDE)])
    maker = SampleBuilder(table, spec(flip=None), options(fliplr=1, flipud=1), images, imgsz=SIDE, seed=0)
    image, _ = maker.make(request(0, 1, (SIDE, SIDE)), 0)
    np.testing.assert_array_equal(image, images[0])


def test_mixup_blends_and_joins() -> None:
    maker = sampler(sizes=[(SIDE, SIDE)] * 2, mixup=1)
    first, second = (sampler(sizes=[(SIDE, SIDE)] * 2).make(request(i, 2, (SIDE, SIDE)), i) for i in range(2))
    wanted = request(0, 2, (SIDE, SIDE))
    wanted = type(wanted)(0, wanted.index, np.array([1]), wanted.shape, True)
    image, labels = maker.make(wanted, 0)
    assert len(labels.classes) == 2
    np.testing.assert_allclose(labels.boxes, np.concatenate((first[1].boxes, second[1].boxes)), atol=1e-4)
    a, b = first[0].astype(float), second[0].astype(float)
    apart = np.abs(a - b) > 100
    weights = ((image - b) / np.where(apart, a - b, 1))[apart]
    assert weights.std() < 0.01
    assert 0.25 < weights.mean() < 0.75


def test_cutmix_pastes_a_window_beside_the_objects() -> None:
    pasted = 0
    for epoch in range(30):
        maker = sampler(sizes=[(SIDE, SIDE)] * 2, cutmix=1)
        maker.table.boxes[0] = [0.2, 0.2, 0.1, 0.1]
        maker._images[1][:] = 200
        wanted = request(0, 2, (SIDE, SIDE), epoch=epoch)
        wanted = type(wanted)(epoch, wanted.index, np.array([1]), wanted.shape, True)
        image, labels = maker.make(wanted, 0)
        own = maker._images[0]
        ys, xs = np.nonzero((image == 200).all(-1))
        if not len(ys):
            continue
        pasted += 1
        left, right, top, bottom = xs.min(), xs.max() + 1, ys.min(), ys.max() + 1
        assert (image[top:bottom, left:right] == 200).all()
        outside = np.ones((SIDE, SIDE), bool)
        outside[top:bottom, left:right] = False
        np.testing.assert_array_equal(image[outside], own[outside])
        for box, points in zip(labels.boxes[1:], labels.keypoints[1:], strict=True):
            assert (box >= [left, top, left, top]).all()
            assert (box <= [right, bottom, right, bottom]).all()
            seen = points[points[:, 2] > 0]
            assert ((seen[:, :2] >= [left, top]) & (seen[:, :2] <= [right, bottom])).all()
    assert pasted > 5


def test_switched_off_mosaic_takes_mixup_and_cutmix_with_it() -> None:
    maker = sampler(sizes=[(SIDE, SIDE)] * 2, mosaic=1, mixup=1, cutmix=1)
    image, labels = maker.make(request(0, 2, (SIDE, SIDE), mosaic=False), 0)
    np.testing.assert_array_equal(image, maker._images[0])
    assert len(labels.classes) == 1
