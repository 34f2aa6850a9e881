"""Sizes from headers equal those of the decoder; what is cut short or ambiguous is left to the decoder."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from yolopose.data.image_header import complete_image_size
from yolopose.data.images import IMAGE_SUFFIXES, read_image

EOI = b"\xff\xd9"


def photo(height: int = 90, width: int = 160) -> np.ndarray:
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 2)


def encode(suffix: str, image: np.ndarray, *parameters: int) -> bytes:
    return cv2.imencode(suffix, image, list(parameters))[1].tobytes()


def with_exif(image: np.ndarray, suffix: str, orientation: int, order: str = "<", preview: bytes = b"") -> bytes:
    """Return an image with an EXIF orientation, after an XMP-free header and optionally with a preview."""
    tiff = struct.pack(
        f"{order}2sHIHHHIHHI", b"II" if order == "<" else b"MM", 42, 8, 1, 0x0112, 3, 1, orientation, 0, 0
    )
    content = b"Exif\0\0" + tiff + preview
    data = encode(suffix, image)
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(content) + 2) + content + data[2:]


JPEG = encode(".jpg", photo())
PNG = encode(".png", photo())
WEBP = encode(".webp", photo(), cv2.IMWRITE_WEBP_QUALITY, 80)
COMPLETE = {
    "baseline": JPEG,
    "gray": encode(".jpg", photo()[:, :, 0]),
    "progressive": encode(".jpg", photo(), cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
    "restart": encode(".jpg", photo(), cv2.IMWRITE_JPEG_RST_INTERVAL, 4),
    "poor": encode(".jpg", photo(), cv2.IMWRITE_JPEG_QUALITY, 1),
    "large": encode(".jpg", photo(900, 1600), cv2.IMWRITE_JPEG_QUALITY, 95),
    "trailer": JPEG + b"trailer",
    "comment": JPEG[:2] + b"\xff\xfe\xff\xf2" + b"x" * 0xFFF0 + JPEG[2:],
    "png": PNG,
    "png 16 bit": encode(".png", photo().astype(np.uint16) * 257),
    "png alpha": encode(".png", cv2.cvtColor(photo(), cv2.COLOR_BGR2BGRA)),
    "png trailer": PNG + b"trailer",
    "webp": WEBP,
    "webp lossless": encode(".webp", photo(), cv2.IMWRITE_WEBP_QUALITY, 101),
}


@pytest.mark.parametrize("name", COMPLETE)
def test_size_of_complete_images(name: str, tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(COMPLETE[name])
    assert complete_image_size(path) == read_image(path).shape[:2]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("preview", [b"", JPEG * 6])
def test_exif_orientation(orientation: int, order: str, preview: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(with_exif(photo(), ".jpg", orientation, order, preview))
    expected = (160, 90) if orientation > 4 else (90, 160)
    assert complete_image_size(path) == read_image(path).shape[:2] == expected


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _set_byte(data: bytes, position: int, value: int) -> bytes:
    return data[:position] + bytes([value]) + data[position + 1 :]


XMP = b"\xff\xe1\x00\x20http://ns.adobe.com/xap/1.0/\0 "
SCAN = JPEG.index(b"\xff\xda")
UNDECIDED = {
    "empty": b"",
    "junk": b"junk" * 99,
    "two bytes": JPEG[:2],
    "jpeg headers only": JPEG[:SCAN] + EOI,
    "jpeg without end": JPEG[:-30],
    "jpeg of a few bytes of data": JPEG[: SCAN + 20] + EOI,
    "large jpeg without end": COMPLETE["large"][:-30],
    "progressive without its last scans": COMPLETE["progressive"][: len(COMPLETE["progressive"]) // 3] + EOI,
    "jpeg without tables": b"\xff\xd8" + JPEG[JPEG.index(b"\xff\xc0") : JPEG.index(b"\xff\xc4")] + JPEG[SCAN:],
    "jpeg of 12 bits": _set_byte(JPEG, JPEG.index(b"\xff\xc0") + 4, 12),
    "jpeg without height": _set_byte(_set_byte(JPEG, JPEG.index(b"\xff\xc0") + 5, 0), JPEG.index(b"\xff\xc0") + 6, 0),
    "rotated, with XMP before EXIF": JPEG[:2] + XMP + with_exif(photo(), ".jpg", 6)[2:],
    "orientation 9": with_exif(photo(), ".jpg", 9),
    "png without end": PNG[:-12],
    "png cut": PNG[: len(PNG) // 2],
    "png with a wrong byte": _set_byte(PNG, len(PNG) // 2, PNG[len(PNG) // 2] ^ 1),
    "png without pixels": PNG[:33] + PNG[-12:],
    "rotated png": PNG[:33] + _chunk(b"eXIf", b"MM\0*\0\0\0\x08\0\0") + PNG[33:],
    "webp cut": WEBP[:-30],
    "webp header": WEBP[:16],
    "other format": encode(".bmp", photo()),
}


@pytest.mark.parametrize("name", UNDECIDED)
def test_other_images_are_left_to_the_decoder(name: str, tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(UNDECIDED[name])
    assert complete_image_size(path) is None


def test_every_cut_of_a_small_file(tmp_path: Path) -> None:
    path = tmp_path / "image"
    for name in ("baseline", "progressive", "png", "webp"):
        data = COMPLETE[name]
        for end in {*range(0, 700, 7), *range(700, len(data), 97)}:
            path.write_bytes(data[: min(end, len(data) - 1)])
            assert complete_image_size(path) is None, (name, end)


def test_random_damage_never_changes_a_size(tmp_path: Path) -> None:
    """A header that is accepted has the size that the decoder finds, if it can decode the file."""
    rng = np.random.default_rng(0)
    path = tmp_path / "image"
    sources = [JPEG, with_exif(photo(), ".jpg", 6), COMPLETE["progressive"], PNG, WEBP]
    compared = 0
    for number in range(600):
        data = bytearray(sources[number % len(sources)])
        for _ in range(int(rng.integers(1, 4))):
            data[int(rng.integers(min(len(data), 700)))] = int(rng.integers(256))
        path.write_bytes(data)
        size = complete_image_size(path)
        decoded = cv2.imdecode(np.frombuffer(bytes(data), np.uint8), cv2.IMREAD_COLOR)
        if size is not None and decoded is not None:
            compared += 1
            assert size == decoded.shape[:2], number
    assert compared > 100


@pytest.mark.parametrize("make", [Path.mkdir, lambda path: path.symlink_to("/dev/zero")], ids=["folder", "device"])
def test_only_regular_files_are_read(make: Callable[[Path], None], tmp_path: Path) -> None:
    make(tmp_path / "a.jpg")
    with pytest.raises(OSError, match="not a file"):
        complete_image_size(tmp_path / "a.jpg")


def test_pillow_files(tmp_path: Path) -> None:
    pillow = pytest.importorskip("PIL.Image")
    rgb = pillow.fromarray(photo()[:, :, ::-1])
    path = tmp_path / "image"
    for options in (
        {"format": "JPEG", "quality": 90, "subsampling": 0}, {"format": "JPEG", "progressive": True, "optimize": True},
        {"format": "PNG", "optimize": True}, {"format": "WEBP", "lossless": True},
        {"format": "WEBP", "exif": b"Exif\0\0"},
    ):  # fmt: skip
        buffer = io.BytesIO()
        rgb.save(buffer, **options)
        path.write_bytes(buffer.getvalue())
        assert complete_image_size(path) in (None, (90, 160))
        assert read_image(path).shape[:2] == (90, 160)
    for mode in ("1", "L", "P", "RGBA", "I;16", "CMYK"):
        rgb.convert("L" if mode == "I;16" else mode).convert(mode).save(path, "JPEG" if mode == "CMYK" else "PNG")
        assert complete_image_size(path) == (None if mode == "CMYK" else (90, 160))


def test_shared_images(shared: Path) -> None:
    files = sorted(file for file in (shared / "images").rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES)
    assert files
    for file in files:
        size = complete_image_size(file)
        assert size in (None, read_image(file).shape[:2]), file
        assert size or file.suffix.lower() not in (".jpg", ".png"), file
