"""Images: files and arrays of any usual kind become (H, W, 3) uint8 BGR.

Files are decoded from their bytes, so that names in any script work on every platform, and an image
whose file ends early is an error, never a half gray image.
"""

from __future__ import annotations

import importlib
import io
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from yolopose.base.errors import NotFoundError, SourceError
from yolopose.data.dng import decode_dng, is_dng

Image = npt.NDArray[np.uint8]

IMAGE_SUFFIXES = frozenset(
    {".avif", ".bmp", ".dng", ".heic", ".heif", ".jp2", ".jpeg", ".jpg", ".mpo", ".png", ".tif", ".tiff", ".webp"}
)

_REDUCED = {2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4, 8: cv2.IMREAD_REDUCED_COLOR_8}
# TIFF and JPEG 2000 have packings and colors that Pillow knows and OpenCV does not
_WIDE = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"\0\0\0\x0c", b"\xff\x4f\xff\x51")
_IMAGE_BRANDS = (b"avif", b"avis", b"heic", b"heim", b"heis", b"heix", b"hevc", b"hevx", b"mif1", b"mif2", b"msf1")
_ODD = -1


def is_image(path: Path) -> bool:
    """Return by its name whether a file is an image; hidden files (`._x.jpg` of macOS) are none."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def read_image(path: str | Path) -> Image:
    """Read an image, turned as its EXIF orientation says.

    Args:
        path: the file.

    Returns:
        (H, W, 3) uint8 BGR; 16-bit and gray images are converted, an alpha channel is dropped.

    Raises:
        NotFoundError: there is no such file.
        SourceError: it is empty, cut short, damaged, or no image; the text names the file.
    """
    return decode_image(_content(Path(path)), str(path))


def read_reduced(path: str | Path, at_least: int) -> tuple[Image, tuple[int, int] | None]:
    """Read an image; a large JPEG is decoded at 1/2, 1/4 or 1/8 of its size, which takes a fraction of the time.

    Args:
        path: the file.
        at_least: pixels that the longer side keeps.

    Returns:
        The image as from `read_image`, and the (height, width) that the file has where it was reduced, else None.

    Raises:
        NotFoundError, SourceError: as `read_image`.
    """
    data = _content(Path(path))
    size = _jpeg_size(data)
    fitting = [factor for factor in _REDUCED if size is not None and -(-max(size) // factor) >= at_least]
    if size is None or not fitting or not _jpeg_is_whole(data):
        return decode_image(data, str(path)), None
    image: Any = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), _REDUCED[max(fitting)])
    if image is None:
        return decode_image(data, str(path)), None
    turned = image.shape[:2] != tuple(-(-side // max(fitting)) for side in size)  # by its EXIF, as read_image does
    return image, (size[1], size[0]) if turned else size


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise NotFoundError(f"There is no image {path}. Check the path (current folder: {Path.cwd()}).") from error
    except OSError as error:
        raise SourceError(f"The image {path} cannot be read: {error.strerror or error}.") from error


def decode_image(data: bytes, name: str) -> Image:
    """Decode the bytes of an image file; see `read_image`.

    Args:
        data: content of the file.
        name: what to call it in an error.

    Raises:
        SourceError: the bytes are no whole image.
    """
    if not data:
        raise SourceError(f"The image {name} is empty (0 bytes). Copy it again or remove it.")
    if not _jpeg_is_whole(data):
        raise SourceError(f"The image {name} is cut short: the JPEG data end too early. Copy it again or remove it.")
    if is_dng(data):
        return to_bgr(decode_dng(data, name))
    image = _cv2_decode(data)
    if data[4:8] == b"ftyp":
        return _as_marked(image, data) if image is not None else _modern(data, name)
    if image is None and data[:4] in _WIDE:
        image = _pillow_decode(data)
    if image is None:
        raise SourceError(
            f"The image {name} cannot be decoded: it is damaged, cut short, or no image ({len(data)} bytes). "
            "Save it again as JPEG or PNG, or remove it."
        )
    return image


def to_bgr(array: npt.NDArray[Any]) -> Image:
    """Convert an image held as an array to BGR bytes.

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
            f"An array of shape {array.shape} is no image: give (height, width), or (height, width, channels) "
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
            raise SourceError("The image array holds NaN or infinite values; replace them before prediction.")
        array = array * 255 if array.max() <= 1 else array
        return np.clip(np.rint(array), 0, 255).astype(np.uint8)
    if kind in "iu":
        return np.clip(array, 0, 255).astype(np.uint8)
    raise SourceError(f"An image array of type {array.dtype} is not understood; give uint8 (0…255) or float (0…1).")


def _cv2_decode(data: bytes) -> Image | None:
    buffer = np.frombuffer(data, dtype=np.uint8)
    try:
        image: Any = cv2.imdecode(buffer, cv2.IMREAD_COLOR)
        if image is None and data[:2] in (b"II", b"MM"):
            # TIFF with float samples decodes only as it is
            image = cv2.imdecode(buffer, cv2.IMREAD_UNCHANGED)
            image = None if image is None else to_bgr(_deep(image))
    except (cv2.error, SourceError):
        return None
    return image


def _deep(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """16-bit images that are held as 32-bit whole numbers."""
    wide = array.dtype.kind in "iu" and array.itemsize > 2 and array.max() > 255
    return np.clip(array, 0, 65535).astype(np.uint16) if wide else array


def _as_marked(image: Image, data: bytes) -> Image:
    """Turn an AVIF as its marks say, which OpenCV does not; they stand before the pixels."""
    head = data[: max(data.find(b"mdat"), 0)]
    turn, mirror = head.find(b"\0\0\0\x09irot"), head.find(b"\0\0\0\x09imir")
    if turn >= 0:
        image = np.rot90(image, head[turn + 8] & 3)
    if mirror >= 0:
        image = image[:, ::-1] if head[mirror + 8] & 1 else image[::-1]
    return np.ascontiguousarray(image)


def _modern(data: bytes, name: str) -> Image:
    """HEIC and AVIF, where OpenCV was built without them."""
    if data[8:12] not in _IMAGE_BRANDS:
        raise SourceError(f"The image {name} holds a video. Give it as a file whose name ends so, for example in .mp4.")
    image = _pillow_decode(data)
    if image is None:
        raise SourceError(
            f"The image {name} is HEIC or AVIF and cannot be decoded: damaged, or without a reader for it. Install the "
            "reader with `pip install pillow pillow-heif`, or save the image as JPEG or PNG."
        )
    return image


def _pillow_decode(data: bytes) -> Image | None:
    """What OpenCV cannot decode; None where Pillow, or its plug-in for the format, is not installed or fails too."""
    try:
        pillow: Any = importlib.import_module("PIL.Image")
        operations: Any = importlib.import_module("PIL.ImageOps")
    except ImportError:
        return None
    with suppress(ImportError):  # Pillow itself reads AVIF since 11.3
        importlib.import_module("pillow_heif").register_heif_opener()
    try:
        with pillow.open(io.BytesIO(data)) as img:
            return np.ascontiguousarray(np.asarray(operations.exif_transpose(img).convert("RGB"))[:, :, ::-1])
    except Exception:  # plug-ins raise what they like
        return None


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    """(height, width) of a JPEG as stored, before its EXIF turns it; None for another file."""
    for marker, at in _jpeg_segments(data):
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC) and at + 9 <= len(data):
            return int.from_bytes(data[at + 5 : at + 7], "big"), int.from_bytes(data[at + 7 : at + 9], "big")
    return None


def _jpeg_is_whole(data: bytes) -> bool:
    """False for a JPEG without its end marker: some decoders would give an image that is half gray.

    The header is walked to the start of the scan first, since a thumbnail inside it has an end marker too.
    """
    if data[:2] != b"\xff\xd8":
        return True
    for marker, at in _jpeg_segments(data):
        if marker == 0xDA:
            return data.rfind(b"\xff\xd9", at) >= 0
        if marker == _ODD:
            return True  # not how a JPEG goes on; the decoder decides
    return False


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int]]:
    """Marker and place of each segment of a JPEG, to the start of the scan; `_ODD` where no marker stands."""
    at = 2
    while data[:2] == b"\xff\xd8" and at + 4 <= len(data):
        marker = data[at + 1] if data[at] == 0xFF else _ODD
        if marker == 0xFF:
            at += 1
            continue
        yield marker, at
        if marker in (0xDA, _ODD):
            return
        at += 2 if marker == 0x01 or 0xD0 <= marker <= 0xD8 else 2 + int.from_bytes(data[at + 2 : at + 4], "big")
