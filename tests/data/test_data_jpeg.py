from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
import pytest

from yolopose.base.errors import SourceError
from yolopose.data.images import decode_image, read_reduced
from yolopose.data.jpeg import is_complete_jpeg

EOI = b"\xff\xd9"
YUV_444, YUV_420 = 0x111111, 0x221111


def photo(height: int = 240, width: int = 320) -> np.ndarray:
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 2)


def encode(image: np.ndarray, *parameters: int) -> bytes:
    return cv2.imencode(".jpg", image, list(parameters))[1].tobytes()


VARIANTS = {
    "420": (cv2.IMWRITE_JPEG_SAMPLING_FACTOR, YUV_420),
    "444": (cv2.IMWRITE_JPEG_SAMPLING_FACTOR, YUV_444),
    "optimized": (cv2.IMWRITE_JPEG_OPTIMIZE, 1),
    "restart": (cv2.IMWRITE_JPEG_RST_INTERVAL, 4),
    "progressive": (cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
    "best": (cv2.IMWRITE_JPEG_QUALITY, 100),
    "poor": (cv2.IMWRITE_JPEG_QUALITY, 5),
}


@pytest.mark.parametrize("share", [0.05, 0.3, 0.5, 0.8])
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("gray", [False, True])
def test_cut_with_end_marker_is_an_error(variant: str, share: float, gray: bool) -> None:
    if variant == "progressive":
        share /= 2  # a file that lacks only a part of its last scan is less sharp, and has no gray rows
    image = photo()[:, :, 0] if gray else photo()
    data = encode(image, *VARIANTS[variant])
    scan = data.index(b"\xff\xda")
    cut = data[: scan + 14 + int((len(data) - scan - 14) * share)].rstrip(b"\xff") + EOI
    with pytest.raises(SourceError, match="cut short"):
        decode_image(cut, "a.jpg")


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("side", ["none", "bottom", "thin", "top", "left", "right", "frame", "all"])
@pytest.mark.parametrize("gray", [False, True])
def test_complete_images_with_gray_borders_are_read(variant: str, side: str, gray: bool) -> None:
    image = photo()
    rows, columns = slice(None), slice(None)
    places: dict[str, tuple[slice, slice]] = {
        "bottom": (slice(-40, None), columns), "thin": (slice(-6, None), columns), "top": (slice(40), columns),
        "left": (rows, slice(40)), "right": (rows, slice(-40, None)), "all": (rows, columns),
    }  # fmt: skip
    for name in places if side == "frame" else {side} & set(places):
        if side != "frame" or name != "all":
            image[places[name]] = 128
    data = encode(image[:, :, 0] if gray else image, *VARIANTS[variant])
    assert decode_image(data, "a.jpg").shape == image.shape


@pytest.mark.parametrize("orientation", range(1, 9))
def test_cut_images_of_any_orientation(orientation: int) -> None:
    pillow = pytest.importorskip("PIL.Image")
    exif = pillow.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    pillow.fromarray(photo()).save(buffer, "JPEG", exif=exif)
    data = buffer.getvalue()
    decode_image(data, "a.jpg")
    with pytest.raises(SourceError, match="cut short"):
        decode_image(data[: len(data) * 2 // 3].rstrip(b"\xff") + EOI, "a.jpg")


def test_lost_packets_between_restart_markers_are_an_error() -> None:
    data = encode(photo(), *VARIANTS["restart"])
    first = data.index(b"\xff\xd2")
    second = data.index(b"\xff\xd5", first)
    assert is_complete_jpeg(data)
    assert not is_complete_jpeg(data[:first] + data[second:])


def test_scan_without_data_is_an_error() -> None:
    data = encode(photo())
    assert not is_complete_jpeg(data[: data.index(b"\xff\xda") + 14] + EOI)


def test_reduced_decoding_finds_cut_images(tmp_path: Path) -> None:
    data = encode(photo(960, 1280))
    (tmp_path / "a.jpg").write_bytes(data[: len(data) // 2].rstrip(b"\xff") + EOI)
    with pytest.raises(SourceError, match="cut short"):
        read_reduced(tmp_path / "a.jpg", 320)


@pytest.mark.parametrize("extra", [b"", b"\0" * 100, b"trailer", EOI])
def test_data_after_the_image_are_ignored(extra: bytes) -> None:
    assert decode_image(encode(photo()) + extra, "a.jpg").shape == (240, 320, 3)
