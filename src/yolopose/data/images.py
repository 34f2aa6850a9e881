"""Pictures: files and arrays of any usual kind become (H, W, 3) uint8 BGR.

Files are decoded from their bytes, so that names in any script work on every platform, and a picture
whose file ends early is an error, never a half grey image.
"""

from __future__ import annotations

import importlib
import io
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from yolopose.base.errors import NotFoundError, SourceError

Image = npt.NDArray[np.uint8]

IMAGE_SUFFIXES = frozenset(
    {".avif", ".bmp", ".dng", ".heic", ".heif", ".jp2", ".jpeg", ".jpg", ".mpo", ".png", ".tif", ".tiff", ".webp"}
)


def is_image(path: Path) -> bool:
    """Tells by its name whether a file is a picture; hidden files (`._x.jpg` of macOS) are none."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def read_image(path: str | Path) -> Image:
    """Reads a picture, turned as its EXIF orientation says.

    Args:
        path: the file.

    Returns:
        (H, W, 3) uint8 BGR; 16-bit and grey pictures are converted, an alpha channel is dropped.

    Raises:
        NotFoundError: there is no such file.
        SourceError: it is empty, cut short, damaged, or no picture; the text names the file.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise NotFoundError(f"There is no image {path}. Check the path (current folder: {Path.cwd()}).") from error
    except OSError as error:
        raise SourceError(f"The image {path} cannot be read: {error.strerror or error}.") from error
    return decode_image(data, str(path))


def decode_image(data: bytes, name: str) -> Image:
    """Decodes the bytes of a picture file; see `read_image`.

    Args:
        data: content of the file.
        name: what to call it in an error.

    Raises:
        SourceError: the bytes are no whole picture.
    """
    if not data:
        raise SourceError(f"The image {name} is empty (0 bytes). Copy it again or remove it.")
    if not _jpeg_is_whole(data):
        raise SourceError(f"The image {name} is cut short: the JPEG data end too early. Copy it again or remove it.")
    image = _cv2_decode(data)
    if image is None and data[4:8] == b"ftyp":
        image = _pillow_decode(data, name)
    if image is None:
        raise SourceError(
            f"The image {name} cannot be decoded: it is damaged, cut short, or no picture ({len(data)} bytes). "
            "Save it again as JPEG or PNG, or remove it."
        )
    return image


def to_bgr(array: npt.NDArray[Any]) -> Image:
    """Converts a picture held as an array to BGR bytes.

    Args:
        array: (H, W), (H, W, 1), (H, W, 3) BGR or (H, W, 4) BGRA; uint8, uint16 (0…65535), bool, float
            (0…1, or 0…255 when a value exceeds 1) or another whole-number type (0…255).

    Returns:
        (H, W, 3) uint8; the array itself when it is that already. Alpha is dropped.

    Raises:
        SourceError: another shape or type, no pixels, or values that are not finite.
    """
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)) or not array.size:
        raise SourceError(
            f"An array of shape {array.shape} is no picture: give (height, width), or (height, width, channels) "
            "with 1, 3 (BGR) or 4 (BGRA) channels."
        )
    pixels = _to_bytes(array)
    if pixels.ndim == 2 or pixels.shape[2] == 1:
        return np.repeat(pixels.reshape(*pixels.shape[:2], 1), 3, axis=2)
    return np.ascontiguousarray(pixels[:, :, :3])


def _to_bytes(array: npt.NDArray[Any]) -> Image:
    kind = array.dtype.kind
    if array.dtype == np.uint8:
        return array
    if array.dtype == np.uint16:
        return (array >> 8).astype(np.uint8)
    if kind == "b":
        return array.astype(np.uint8) * 255
    if kind == "f":
        if not np.isfinite(array).all():
            raise SourceError("The picture array holds NaN or infinite values; replace them before prediction.")
        array = array * 255 if array.max() <= 1 else array
        return np.clip(np.rint(array), 0, 255).astype(np.uint8)
    if kind in "iu":
        return np.clip(array, 0, 255).astype(np.uint8)
    raise SourceError(f"A picture array of type {array.dtype} is not understood; give uint8 (0…255) or float (0…1).")


def _cv2_decode(data: bytes) -> Image | None:
    buffer = np.frombuffer(data, dtype=np.uint8)
    try:
        image: Any = cv2.imdecode(buffer, cv2.IMREAD_COLOR)
        if image is None and data[:2] in (b"II", b"MM"):
            # TIFF with float samples decodes only as it is
            image = cv2.imdecode(buffer, cv2.IMREAD_UNCHANGED)
            image = None if image is None else to_bgr(image)
    except (cv2.error, SourceError):
        return None
    return image


def _pillow_decode(data: bytes, name: str) -> Image:
    """HEIC and AVIF, where OpenCV was built without them."""
    advice = "Install the reader with `pip install pillow pillow-heif`, or save the picture as JPEG or PNG."
    try:
        pillow: Any = importlib.import_module("PIL.Image")
        operations: Any = importlib.import_module("PIL.ImageOps")
    except ImportError as error:
        raise SourceError(f"The image {name} is HEIC or AVIF, which OpenCV cannot read here. {advice}") from error
    with suppress(ImportError):  # Pillow itself reads AVIF since 11.3
        importlib.import_module("pillow_heif").register_heif_opener()
    try:
        with pillow.open(io.BytesIO(data)) as picture:
            return np.ascontiguousarray(np.asarray(operations.exif_transpose(picture).convert("RGB"))[:, :, ::-1])
    except Exception as error:  # plugins raise what they like
        raise SourceError(
            f"The image {name} is HEIC or AVIF and cannot be decoded: damaged, or without a reader for it. {advice}"
        ) from error


def _jpeg_is_whole(data: bytes) -> bool:
    """False for a JPEG without its end marker: some decoders would give a picture that is half grey.

    The header is walked to the start of the scan first, since a thumbnail inside it has an end marker too.
    """
    if data[:2] != b"\xff\xd8":
        return True
    at = 2
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            return True  # not how a JPEG goes on; the decoder decides
        marker = data[at + 1]
        if marker == 0xDA:
            return data.rfind(b"\xff\xd9", at) >= 0
        if marker == 0xFF:
            at += 1
        elif marker == 0x01 or 0xD0 <= marker <= 0xD8:
            at += 2
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return False
