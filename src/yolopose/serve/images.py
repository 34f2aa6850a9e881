"""Images of clients: formats and sizes are checked by the header before anything is decoded."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from yolopose.base.errors import SourceError
from yolopose.data.images import decode_image
from yolopose.data.jpeg import jpeg_size
from yolopose.serve.errors import RequestError

Image = npt.NDArray[np.uint8]

ACCEPTED = "JPEG, PNG, WebP or BMP"
_NAME = "of this request"
_PNG = b"\x89PNG\r\n\x1a\n"
_MAX_SCANS = 64  # of a progressive JPEG: a few bytes per scan make a decoder process all pixels again
_MAX_PNG_TEXT = 1 << 20  # bytes of compressed metadata in a PNG
_MAX_PNG_CHUNKS = 20_000


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """Largest image that is decoded.

    Attributes:
        max_pixels: height times width.
    """

    max_pixels: int

    def check(self, data: bytes) -> None:
        """Check an image by its header.

        Raises:
            RequestError: it is empty, of another format, damaged or too large.
        """
        if not data:
            raise RequestError(400, "empty_image", f"The request has no image: send the bytes of a {ACCEPTED} file.")
        height, width = image_size(data)
        if height <= 0 or width <= 0:
            raise _damaged()
        if height * width > self.max_pixels:
            raise RequestError(
                413,
                "image_too_large",
                f"The image has {width} × {height} pixels; at most {self.max_pixels / 1e6:g} million are accepted. "
                "Send a smaller image.",
            )
        if data[:2] == b"\xff\xd8" and data.count(b"\xff\xda") > _MAX_SCANS:
            raise RequestError(
                400, "image_damaged", f"The JPEG has more than {_MAX_SCANS} scans. Save it again as a usual JPEG."
            )


def image_size(data: bytes) -> tuple[int, int]:
    """Return the (height, width) in the header of an image, before EXIF orientation.

    Raises:
        RequestError: the format is not accepted, or the header is damaged.
    """
    try:
        if data[:2] == b"\xff\xd8":
            size = jpeg_size(data)
        elif data[:8] == _PNG:
            size = _png_size(data)
        elif data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            size = _webp_size(data)
        elif data[:2] == b"BM":
            size = _bmp_size(data)
        else:
            raise RequestError(
                415, "unsupported_image", f"The data are not an image in an accepted format: send {ACCEPTED}."
            )
    except (struct.error, IndexError):
        size = None
    if size is None:
        raise _damaged()
    return size


def _png_size(data: bytes) -> tuple[int, int] | None:
    """Return the size of a PNG whose metadata are small, since they are compressed too."""
    if data[12:16] != b"IHDR":
        return None
    position = len(_PNG)
    chunks = 0
    text = 0
    while position + 8 <= len(data):
        (length,) = struct.unpack_from(">I", data, position)
        if data[position + 4 : position + 8] in (b"zTXt", b"iTXt", b"iCCP"):
            text += length
        chunks += 1
        if chunks > _MAX_PNG_CHUNKS or text > _MAX_PNG_TEXT:
            return None
        position += 12 + length
    width, height = struct.unpack_from(">II", data, 16)
    return height, width


def _webp_size(data: bytes) -> tuple[int, int] | None:
    kind = data[12:16]
    if kind == b"VP8 " and data[23:26] == b"\x9d\x01\x2a":
        width, height = struct.unpack_from("<HH", data, 26)
        return height & 0x3FFF, width & 0x3FFF
    if kind == b"VP8L" and data[20] == 0x2F:
        (bits,) = struct.unpack_from("<I", data, 21)
        return (bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1
    if kind == b"VP8X" and len(data) >= 30:
        return int.from_bytes(data[27:30], "little") + 1, int.from_bytes(data[24:27], "little") + 1
    return None


def _bmp_size(data: bytes) -> tuple[int, int] | None:
    (header,) = struct.unpack_from("<I", data, 14)
    if header == 12:
        width, height = struct.unpack_from("<HH", data, 18)
    elif header >= 40:
        width, height = struct.unpack_from("<ii", data, 18)
    else:
        return None
    return abs(height), width


def decode(data: bytes, limits: ImageLimits, *, alpha: bool = False) -> Image:
    """Decode an image of a client.

    Args:
        data: contents of the file.
        limits: what is accepted; checked before decoding.
        alpha: keep a fourth channel.

    Returns:
        (H, W, 3) uint8 BGR, with the EXIF orientation applied; with `alpha`, (H, W, 4) if the file has four channels.

    Raises:
        RequestError: it is not accepted, or cannot be decoded.
    """
    limits.check(data)
    try:
        image = decode_image(data, _NAME, alpha=alpha)
    except (SourceError, MemoryError) as error:
        raise _damaged() from error
    if image.shape[0] * image.shape[1] > limits.max_pixels:
        raise _damaged()
    return image


def _damaged() -> RequestError:
    return RequestError(
        400,
        "image_damaged",
        f"The image cannot be decoded: it is damaged or cut short. Send the complete bytes of a {ACCEPTED} file.",
    )


def encode_jpeg(image: npt.NDArray[Any]) -> bytes:
    """Return a drawn image as JPEG."""
    from yolopose.results.writing import encode_image

    return encode_image(image, ".jpg")
