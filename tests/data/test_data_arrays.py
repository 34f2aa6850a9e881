from __future__ import annotations

import cv2
import numpy as np
import pytest

from yolopose.base.errors import SourceError
from yolopose.data.arrays import match_channels, planes_to_bgr, to_bgr, to_image

RNG = np.random.default_rng(0)
IMAGE = RNG.integers(0, 256, (40, 60, 3), dtype=np.uint8)
UNIT = IMAGE.astype(np.float32) / 255
SMOOTH = cv2.GaussianBlur(IMAGE, (0, 0), 3)


def overshoot(image: np.ndarray, interpolation: int) -> np.ndarray:
    height, width = image.shape[:2]
    edges = image.copy()
    edges[10:20, 10:30] = image.max()
    edges[20:30, 10:30] = 0
    return cv2.resize(edges, (2 * width, 2 * height), interpolation=interpolation)


@pytest.mark.parametrize(
    ("array", "tolerance"),
    [
        (UNIT, 0), (UNIT.astype(np.float16), 1), (UNIT.astype(np.float64), 0), (IMAGE.astype(np.float32), 0),
        (IMAGE.astype(np.int32), 0), (IMAGE.astype(np.int64) * 257, 0), (IMAGE.astype(np.uint32) * 256, 0),
        (IMAGE.astype(np.uint16) * 257, 0), (IMAGE.astype(np.uint16), 0), (IMAGE.astype(np.int16), 0),
        (IMAGE.astype(np.float32) * 257, 0),
    ],
)  # fmt: skip
def test_same_image_in_any_type_and_range(array: np.ndarray, tolerance: int) -> None:
    assert np.abs(to_bgr(array).astype(int) - IMAGE).max() <= tolerance
    with np.errstate(all="raise"):
        to_bgr(array)


@pytest.mark.parametrize("interpolation", [cv2.INTER_CUBIC, cv2.INTER_LANCZOS4])
@pytest.mark.parametrize("scale", [1.0, 255.0])
def test_overshoot_of_interpolation_is_clipped(interpolation: int, scale: float) -> None:
    array = overshoot(SMOOTH.astype(np.float32) / 255 * scale, interpolation)
    assert array.min() < 0
    expected = np.clip(np.rint(array / scale * 255), 0, 255)
    assert np.abs(to_bgr(array).astype(int) - expected).max() <= 1


@pytest.mark.parametrize("top", [1.0001, 1.01, 1.3])
def test_floats_slightly_above_1_are_not_black(top: float) -> None:
    array = UNIT.copy()
    array[0, 0] = top
    assert to_bgr(array)[1:].tolist() == IMAGE[1:].tolist()


@pytest.mark.parametrize(
    "array",
    [
        IMAGE.astype(np.int16) - 128, IMAGE.astype(np.int8), UNIT * 1e6,
        IMAGE.astype(np.int64) << 20, np.full((4, 4), np.nan), np.full((4, 4), np.inf), UNIT.astype(complex),
        np.array([["a"]]), np.zeros((0, 4, 3)), np.zeros((4, 4, 5)), np.zeros(4),
    ],
)  # fmt: skip
def test_what_would_be_black_or_white_is_refused(array: np.ndarray) -> None:
    with pytest.raises(SourceError):
        to_bgr(array)


@pytest.mark.parametrize(("array", "words"), [(UNIT * 5, "nearly black"), (IMAGE.astype(np.uint16) * 15, "16-bit")])
def test_ambiguous_ranges_are_warned_of(array: np.ndarray, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    to_bgr(array)
    assert words in capsys.readouterr().err


def test_alpha_does_not_decide_the_range() -> None:
    rgba = np.dstack((UNIT, np.full(UNIT.shape[:2], 255, np.float32)))
    assert to_bgr(rgba).tolist() == IMAGE.tolist()


@pytest.mark.parametrize("array", [np.zeros((5, 6), bool), np.ones((5, 6), bool), np.zeros((5, 6, 1), np.float32)])
def test_constant_images(array: np.ndarray) -> None:
    assert np.unique(to_bgr(array)).tolist() == [255 * int(array.max())]


@pytest.mark.parametrize(
    "array", [(UNIT - 0.45) / 0.225, UNIT * 2 - 1, (UNIT - 0.5).astype(np.float32), IMAGE.astype(np.float32) - 128]
)
def test_normalized_floats_are_stretched(array: np.ndarray, capsys: pytest.CaptureFixture[str]) -> None:
    assert np.abs(to_bgr(array.astype(np.float32)).astype(int) - IMAGE).max() <= 1
    assert "seems to be normalized" in capsys.readouterr().err


BGRA = np.dstack((IMAGE, RNG.integers(0, 256, (40, 60), dtype=np.uint8)))


@pytest.mark.parametrize(
    ("array", "tolerance"),
    [
        (BGRA, 0), (BGRA.astype(np.uint16) * 257, 0), (BGRA.astype(np.float32) / 255, 0),
        # each has its own range
        (np.dstack((UNIT, BGRA[:, :, 3:] * np.float32(1))), 0),
        (np.dstack((IMAGE.astype(int) * 257, BGRA[:, :, 3])), 0),
    ],
)  # fmt: skip
def test_a_fourth_channel_is_kept_for_networks_that_read_it(array: np.ndarray, tolerance: int) -> None:
    assert np.abs(to_image(array, 4).astype(int) - BGRA).max() <= tolerance
    assert to_image(array, 3).tolist() == to_image(array, 1).tolist() == IMAGE.tolist()


def test_arrays_of_other_channels_need_a_network_that_reads_them() -> None:
    many = RNG.integers(0, 256, (4, 6, 7), dtype=np.uint8)
    assert to_image(many, 7).tolist() == match_channels(many, 7).tolist() == many.tolist()
    for array, channels in ((many, 4), (IMAGE, 7), (IMAGE[:, :, 0], 7)):
        with pytest.raises(SourceError, match="is not an image"):
            to_image(array, channels)
    with pytest.raises(SourceError, match=r"has 3 channels, but this network reads 7: .*\(height, width, 7\)"):
        match_channels(IMAGE, 7)


def test_channels_of_the_network() -> None:
    weights = np.array([0.114, 0.587, 0.299])  # ITU-R BT.601, of blue, green and red
    for image in (IMAGE, BGRA):
        gray = match_channels(image, 1)
        assert gray.shape == (40, 60, 1)
        assert np.abs(gray[:, :, 0] - IMAGE @ weights).max() < 1
        assert match_channels(image, 3).tolist() == IMAGE.tolist()
    assert match_channels(IMAGE, 4)[:, :, 3].min() == 255
    assert match_channels(BGRA, 4) is BGRA
    equal = np.repeat(IMAGE[:, :, :1], 3, axis=2)
    assert match_channels(equal, 1).tolist() == IMAGE[:, :, :1].tolist()  # gray files, decoded as color


@pytest.mark.parametrize("channels", [1, 3, 4, 7])
def test_color_image_of_a_network_input(channels: int) -> None:
    planes = RNG.integers(0, 256, (channels, 4, 6), dtype=np.uint8)
    order = {1: [0, 0, 0], 3: [2, 1, 0]}.get(channels, [0, 1, 2])
    assert planes_to_bgr(planes).tolist() == planes[order].transpose(1, 2, 0).tolist()
