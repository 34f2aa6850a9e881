from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
import pytest

from yolopose.base.errors import NotFoundError, SourceError
from yolopose.data import images
from yolopose.data.images import decode_image, is_image, read_image, to_bgr

PIL = pytest.importorskip("PIL.Image")


def picture(height: int = 40, width: int = 60) -> np.ndarray:
    """Smooth, with blue rising to the right and red to the bottom, so that channels and turns show."""
    y, x = np.mgrid[:height, :width]
    return np.stack((x * 255 // width, np.full_like(x, 60), y * 255 // height), axis=2).astype(np.uint8)


def encoded(suffix: str, array: np.ndarray | None = None) -> bytes:
    return cv2.imencode(suffix, picture() if array is None else array)[1].tobytes()


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".jpg", ".webp", ".jp2"])
def test_reads_each_kind_of_file(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"фото 写真{suffix}"
    path.write_bytes(encoded(suffix))
    image = read_image(path)
    assert image.dtype == np.uint8
    assert np.abs(image.astype(int) - picture()).mean() < 3


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(orientation: int) -> None:
    exif = PIL.Exif()
    exif[0x112] = orientation
    buffer = io.BytesIO()
    PIL.fromarray(picture()[:, :, ::-1].copy()).save(buffer, "jpeg", quality=95, exif=exif)
    turn = {
        1: lambda a: a, 2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2), 6: lambda a: np.rot90(a, -1), 7: lambda a: a.transpose(1, 0, 2)[::-1, ::-1],
        8: lambda a: np.rot90(a),
    }  # fmt: skip
    expected = turn[orientation](picture())
    image = decode_image(buffer.getvalue(), "x")
    assert image.shape == expected.shape
    assert np.abs(image.astype(int) - expected).mean() < 3


@pytest.mark.parametrize(
    ("suffix", "stored"),
    [
        (".png", picture().astype(np.uint16) * 257),
        (".tif", picture().astype(np.float32) / 255),
        (".png", np.dstack((picture(), np.full((40, 60), 7, np.uint8)))),
        (".png", cv2.merge([picture()[:, :, 0]])),
    ],
    ids=["16 bit", "float", "alpha", "grey"],
)
def test_unusual_samples_become_8_bit_bgr(suffix: str, stored: np.ndarray) -> None:
    image = decode_image(encoded(suffix, stored), "x")
    assert (image.shape, image.dtype) == ((40, 60, 3), np.uint8)
    assert np.abs(image[:, :, 0].astype(int) - picture()[:, :, 0]).max() <= 1


@pytest.mark.parametrize("part", [0.1, 0.5, 0.99])
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_cut_files_are_errors_that_name_the_file(tmp_path: Path, suffix: str, part: float) -> None:
    whole = encoded(suffix, np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))
    path = tmp_path / f"cut{suffix}"
    path.write_bytes(whole[: int(len(whole) * part)])
    with pytest.raises(SourceError, match="cut short") as caught:
        read_image(path)
    assert str(path) in str(caught.value)


def test_a_cut_jpeg_with_a_whole_thumbnail_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    # a decoder that fills the missing half with grey must not be asked at all
    monkeypatch.setattr(images, "_cv2_decode", lambda data: picture())
    thumbnail = b"Exif\0\0" + encoded(".jpg", picture(8, 8))
    header = b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail
    whole = encoded(".jpg")
    with_thumbnail = whole[:2] + header + whole[2:]
    assert decode_image(with_thumbnail + b"trailing bytes are fine", "x").shape == (40, 60, 3)
    with pytest.raises(SourceError, match="cut short"):
        decode_image(with_thumbnail[:-40], "x")


@pytest.mark.parametrize(
    ("data", "words"), [(b"", "0 bytes"), (b"\0" * 300, "cannot be decoded"), (b"text" * 9, "cannot be decoded")]
)
def test_no_picture(data: bytes, words: str) -> None:
    with pytest.raises(SourceError, match=words):
        decode_image(data, "x.jpg")


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"nothing\.png"):
        read_image(tmp_path / "nothing.png")
    with pytest.raises(SourceError, match="cannot be read"):
        read_image(tmp_path)


def test_heic_and_avif_go_to_pillow_and_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SourceError, match="pip install pillow pillow-heif"):
        decode_image(b"\0\0\0\x18ftypheic" + b"\0" * 50, "phone.heic")
    buffer = io.BytesIO()
    PIL.fromarray(picture()[:, :, ::-1].copy()).save(buffer, "avif", quality=95)
    monkeypatch.setattr(images, "_cv2_decode", lambda data: None)
    assert np.abs(decode_image(buffer.getvalue(), "x.avif").astype(int) - picture()).mean() < 6


@pytest.mark.parametrize(
    ("array", "pixel"),
    [
        (np.full((4, 5), 9, np.uint8), (9, 9, 9)),
        (np.full((4, 5, 1), 9, np.uint8), (9, 9, 9)),
        (np.tile(np.array([1, 2, 3], np.uint8), (4, 5, 1)), (1, 2, 3)),
        (np.tile(np.array([1, 2, 3, 99], np.uint8), (4, 5, 1)), (1, 2, 3)),
        (np.full((4, 5), 0x80FF, np.uint16), (128, 128, 128)),
        (np.full((4, 5, 3), 0.5, np.float32), (128, 128, 128)),
        (np.full((4, 5, 3), 200.4, np.float64), (200, 200, 200)),
        (np.full((4, 5, 3), 300, np.int64), (255, 255, 255)),
        (np.ones((4, 5), bool), (255, 255, 255)),
    ],
)
def test_arrays_of_each_kind(array: np.ndarray, pixel: tuple[int, ...]) -> None:
    result = to_bgr(array)
    assert (result.shape, result.dtype) == ((4, 5, 3), np.uint8)
    assert (result == pixel).all()
    assert result.flags.c_contiguous


@pytest.mark.parametrize(
    "array",
    [np.zeros(4), np.zeros((3, 40, 60)), np.zeros((0, 4, 3)), np.full((4, 4), np.nan), np.full((4, 4), "a")],
)
def test_arrays_that_are_no_picture(array: np.ndarray) -> None:
    with pytest.raises(SourceError, match="picture"):
        to_bgr(array)


@pytest.mark.parametrize(("name", "expected"), [("a.JPG", True), ("a.txt", False), ("._a.jpg", False), ("jpg", False)])
def test_image_names(name: str, expected: bool) -> None:
    assert is_image(Path(name)) is expected
