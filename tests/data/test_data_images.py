from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
import pytest

from yolopose.base.errors import NotFoundError, SourceError
from yolopose.data import images
from yolopose.data.images import (
    decode_image,
    is_image,
    letterbox_batch,
    read_channels,
    read_image,
    read_reduced,
    to_bgr,
)
from yolopose.geometry import Letterbox

PIL = pytest.importorskip("PIL.Image")


def img(height: int = 40, width: int = 60) -> np.ndarray:
    """Smooth, with blue rising to the right and red to the bottom, so that channels and turns show."""
    y, x = np.mgrid[:height, :width]
    return np.stack((x * 255 // width, np.full_like(x, 60), y * 255 // height), axis=2).astype(np.uint8)


def encoded(suffix: str, array: np.ndarray | None = None) -> bytes:
    return cv2.imencode(suffix, img() if array is None else array)[1].tobytes()


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".jpg", ".webp", ".jp2"])
def test_reads_each_kind_of_file(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"фото 写真{suffix}"
    path.write_bytes(encoded(suffix))
    image = read_image(path)
    assert image.dtype == np.uint8
    assert np.abs(image.astype(int) - img()).mean() < 3


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(orientation: int) -> None:
    exif = PIL.Exif()
    exif[0x112] = orientation
    buffer = io.BytesIO()
    PIL.fromarray(img()[:, :, ::-1].copy()).save(buffer, "jpeg", quality=95, exif=exif)
    turn = {
        1: lambda a: a, 2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2), 6: lambda a: np.rot90(a, -1), 7: lambda a: a.transpose(1, 0, 2)[::-1, ::-1],
        8: lambda a: np.rot90(a),
    }  # fmt: skip
    expected = turn[orientation](img())
    image = decode_image(buffer.getvalue(), "x")
    assert image.shape == expected.shape
    assert np.abs(image.astype(int) - expected).mean() < 3


@pytest.mark.parametrize(
    ("suffix", "stored"),
    [
        (".png", img().astype(np.uint16) * 257),
        (".tif", img().astype(np.float32) / 255),
        (".png", np.dstack((img(), np.full((40, 60), 7, np.uint8)))),
        (".png", cv2.merge([img()[:, :, 0]])),
    ],
    ids=["16 bit", "float", "alpha", "gray"],
)
def test_unusual_samples_become_8_bit_bgr(suffix: str, stored: np.ndarray) -> None:
    image = decode_image(encoded(suffix, stored), "x")
    assert (image.shape, image.dtype) == ((40, 60, 3), np.uint8)
    assert np.abs(image[:, :, 0].astype(int) - img()[:, :, 0]).max() <= 1


@pytest.mark.parametrize("part", [0.1, 0.5, 0.99])
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_truncated_files_are_named(tmp_path: Path, suffix: str, part: float) -> None:
    whole = encoded(suffix, np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))
    path = tmp_path / f"cut{suffix}"
    path.write_bytes(whole[: int(len(whole) * part)])
    with pytest.raises(SourceError, match="cut short") as caught:
        read_image(path)
    assert str(path) in str(caught.value)


def test_truncated_jpeg_with_complete_thumbnail(monkeypatch: pytest.MonkeyPatch) -> None:
    # a decoder that fills the missing half with gray must not be asked at all
    monkeypatch.setattr(images, "_cv2_decode", lambda data: img())
    thumbnail = b"Exif\0\0" + encoded(".jpg", img(8, 8))
    header = b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail
    whole = encoded(".jpg")
    with_thumbnail = whole[:2] + header + whole[2:]
    assert decode_image(with_thumbnail + b"trailing bytes are fine", "x").shape == (40, 60, 3)
    with pytest.raises(SourceError, match="cut short"):
        decode_image(with_thumbnail[:-40], "x")


@pytest.mark.parametrize(
    ("data", "words"), [(b"", "0 bytes"), (b"\0" * 300, "cannot be decoded"), (b"text" * 9, "cannot be decoded")]
)
def test_refuses_other_data(data: bytes, words: str) -> None:
    with pytest.raises(SourceError, match=words):
        decode_image(data, "x.jpg")


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"nothing\.png"):
        read_image(tmp_path / "nothing.png")
    with pytest.raises(SourceError, match="cannot be read"):
        read_image(tmp_path)


def test_heic_and_avif_fall_back_to_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SourceError, match="pip install pillow pillow-heif"):
        decode_image(b"\0\0\0\x18ftypheic" + b"\0" * 50, "phone.heic")
    buffer = io.BytesIO()
    PIL.fromarray(img()[:, :, ::-1].copy()).save(buffer, "avif", quality=95)
    monkeypatch.setattr(images, "_cv2_decode", lambda data: None)
    assert np.abs(decode_image(buffer.getvalue(), "x.avif").astype(int) - img()).mean() < 6


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
def test_refuses_arrays_that_are_not_images(array: np.ndarray) -> None:
    with pytest.raises(SourceError, match=r"(?i)image"):
        to_bgr(array)


@pytest.mark.parametrize(("name", "expected"), [("a.JPG", True), ("a.txt", False), ("._a.jpg", False), ("jpg", False)])
def test_image_names(name: str, expected: bool) -> None:
    assert is_image(Path(name)) is expected


@pytest.mark.parametrize("orientation", range(1, 9))
def test_avif_orientation(orientation: int) -> None:
    image_module = pytest.importorskip("PIL.Image")
    operations = pytest.importorskip("PIL.ImageOps")
    features = pytest.importorskip("PIL.features")
    if not features.check("avif"):
        pytest.skip("this Pillow writes no AVIF")
    exif = image_module.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    image_module.fromarray(img()[:, :, ::-1].copy()).save(file, "AVIF", quality=95, exif=exif)
    with image_module.open(io.BytesIO(file.getvalue())) as opened:
        expected = np.asarray(operations.exif_transpose(opened).convert("RGB"))[:, :, ::-1]
    image = decode_image(file.getvalue(), "x.avif")
    assert image.shape == expected.shape
    assert np.abs(image.astype(int) - expected.astype(int)).mean() < 2


@pytest.mark.parametrize(("form", "options"), [("TIFF", {"compression": "tiff_lzw"}), ("JPEG2000", {})])
def test_cmyk(form: str, options: dict[str, str]) -> None:
    image_module = pytest.importorskip("PIL.Image")
    file = io.BytesIO()
    image_module.new("CMYK", (6, 4), (255, 0, 0, 0)).save(file, form, **options)
    assert np.abs(decode_image(file.getvalue(), "x")[0, 0].astype(int) - (255, 255, 0)).max() <= 2


@pytest.mark.parametrize("form", ["TIFF", "WEBP", "MPO", "GIF"])
def test_first_of_several_images(form: str) -> None:
    image_module = pytest.importorskip("PIL.Image")
    first, second = (image_module.new("RGB", (24, 16), (shade,) * 3) for shade in (200, 10))
    file = io.BytesIO()
    first.save(file, form, save_all=True, append_images=[second])
    assert np.abs(decode_image(file.getvalue(), "x").astype(int) - 200).max() <= 3


def test_tiff_with_32_bit_integers() -> None:
    image_module = pytest.importorskip("PIL.Image")
    file = io.BytesIO()
    image_module.fromarray(np.array([[0, 256 * 7, 65535]], np.int32)).save(file, "TIFF")
    assert decode_image(file.getvalue(), "x")[0, :, 0].tolist() == [0, 7, 255]


@pytest.mark.parametrize("orientation", [None, 3, 6])
@pytest.mark.parametrize(
    ("min_side", "factor"), [(3000, 1), (1601, 1), (801, 2), (640, 2), (401, 4), (320, 4), (201, 8), (1, 8)]
)
def test_reduced_jpegs(tmp_path: Path, min_side: int, factor: int, orientation: int | None) -> None:
    image_module = pytest.importorskip("PIL.Image")
    exif = image_module.Exif()
    if orientation:
        exif[0x0112] = orientation
    slope = np.linspace(0, 255, 1601).astype(np.uint8)[None].repeat(1200, 0)
    image_module.fromarray(slope).convert("RGB").save(tmp_path / "a.jpg", exif=exif)
    whole = read_image(tmp_path / "a.jpg")
    image, full = read_reduced(tmp_path / "a.jpg", min_side)
    assert image.shape[:2] == tuple(-(-side // factor) for side in whole.shape[:2])
    assert full == (None if factor == 1 else whole.shape[:2])
    assert np.abs(cv2.resize(image, whole.shape[1::-1]).astype(int) - whole).mean() < 2


def test_read_reduced_of_other_and_damaged_files(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((90, 90, 3), np.uint8))
    image, full = read_reduced(tmp_path / "a.png", 10)
    assert (image.shape, full) == ((90, 90, 3), None)
    (tmp_path / "b.jpg").write_bytes(cv2.imencode(".jpg", np.zeros((90, 90, 3), np.uint8))[1].tobytes()[:-30])
    with pytest.raises(SourceError, match=r"b\.jpg is cut short"):
        read_reduced(tmp_path / "b.jpg", 10)
    with pytest.raises(NotFoundError):
        read_reduced(tmp_path / "c.jpg", 10)


def test_refuses_the_bytes_of_a_video() -> None:
    with pytest.raises(SourceError, match="is a video"):
        decode_image(b"\0\0\0\x18ftypisom" + b"\0" * 50, "x")


@pytest.mark.parametrize(("height", "width"), [(640, 636), (636, 640), (48, 41)])
def test_reduced_size_of_nearly_square_turned_jpegs(tmp_path: Path, height: int, width: int) -> None:
    exif = PIL.Exif()
    exif[0x112] = 6
    PIL.fromarray(img(height, width)).save(tmp_path / "a.jpg", exif=exif)
    image, full = read_reduced(tmp_path / "a.jpg", 1)
    assert (full or image.shape[:2]) == read_image(tmp_path / "a.jpg").shape[:2] == (width, height)


def bgra() -> np.ndarray:
    return np.dstack((img(), 255 - img()[:, :, 2] // 2))


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
@pytest.mark.parametrize("factor", [1, 257])
def test_keeps_a_fourth_channel_on_request(tmp_path: Path, suffix: str, factor: int) -> None:
    if suffix == ".webp" and factor > 1:
        pytest.skip("WebP has 8 bits")
    path = tmp_path / f"a{suffix}"
    kind = np.uint8 if factor == 1 else np.uint16
    path.write_bytes(encoded(suffix, bgra().astype(kind) * kind(factor)))
    image = read_image(path, alpha=True)
    assert image.shape == (40, 60, 4)
    assert np.abs(image.astype(int) - bgra()).mean() < 3
    assert read_image(path).shape == (40, 60, 3)
    assert [read_channels(path, channels).shape[2] for channels in (1, 3, 4)] == [1, 3, 4]


def test_images_without_a_fourth_channel_are_opaque(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a.jpg", "b.png"):
        (tmp_path / name).write_bytes(encoded(name[1:]))
        assert read_channels(tmp_path / name, 4)[:, :, 3].min() == 255
    assert capsys.readouterr().err.count("read as opaque") == 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_of_an_image_with_alpha(orientation: int) -> None:
    exif = PIL.Exif()
    exif[0x112] = orientation
    buffer = io.BytesIO()
    PIL.fromarray(bgra()[:, :, [2, 1, 0, 3]]).save(buffer, "png", exif=exif)
    color = decode_image(buffer.getvalue(), "x")
    image = decode_image(buffer.getvalue(), "x", alpha=True)
    np.testing.assert_array_equal(image[:, :, :3], color)
    np.testing.assert_array_equal(image[:, :, 3], 255 - image[:, :, 2] // 2)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_letterboxed_channels(channels: int) -> None:
    letterbox = Letterbox.fit((40, 60), (64, 64))
    batch = letterbox_batch([img(), bgra()], [letterbox] * 2, channels)
    assert batch.shape == (2, channels, 64, 64)
    assert batch[:, :, 0, 0].tolist() == [[114] * channels] * 2
    assert np.array_equal(batch[0, : min(channels, 3)], batch[1, : min(channels, 3)])
    blue = {1: None, 3: 2, 4: 0}[channels]  # RGB, but B, G, R, A
    if blue is not None:
        row = batch[0, blue, 32].astype(int)
        assert (np.diff(row) >= 0).all()
        assert row[-1] > 245
