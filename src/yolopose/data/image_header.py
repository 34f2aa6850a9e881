"""Size of an image from its header, and whether its file is complete, without decoding the pixels.

A decoder needs 10 to 100 times as long. What these checks cannot decide is left to it: `complete_image_size` returns
None. Damage inside the compressed data of a JPEG or WebP file of the right length is not noticed.
"""

from __future__ import annotations

import os
import zlib
from pathlib import Path

from yolopose.base.files import open_regular, read_up_to
from yolopose.data.image_limits import MAX_PIXELS, MAX_SIDE
from yolopose.data.jpeg import complete_jpeg_size

MAX_IMAGE_BYTES = 512 << 20
_HEAD = 16 << 10  # bytes; contains all headers of most files, except those with a preview
_TAIL = 2  # bytes of the end marker of a JPEG
_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_HEADERS = 33  # bytes
_PNG_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}  # by color type
_WEBP_ANIMATED, _WEBP_EXIF = 0x02, 0x08


def complete_image_size(path: str | Path) -> tuple[int, int] | None:
    """Return the (height, width) of a complete image after EXIF orientation; None if it must be decoded to know.

    JPEG: the headers, the end marker, the least length of the pixel data for this size, the number of restart markers,
    and the scans of progressive files are checked. PNG: all chunks with their checksums. WebP: the length.

    Args:
        path: the file; links are followed.

    Raises:
        OSError: as from `read_regular`.
    """
    handle, length = open_regular(path, MAX_IMAGE_BYTES)
    try:
        head = os.read(handle, _HEAD)
        size: tuple[int, int] | None = None
        if head[:2] == b"\xff\xd8":
            size = _jpeg_size(handle, head, length)
        elif head[:8] == _PNG:
            size = _png_size(_read_rest(handle, head, length))
        elif head[:4] == b"RIFF" and head[8:12] == b"WEBP":
            size = _webp_size(head, length)
    finally:
        os.close(handle)
    if size is None or max(size) > MAX_SIDE or size[0] * size[1] > MAX_PIXELS or not min(size):
        return None
    return size


def _read_rest(handle: int, head: bytes, length: int) -> bytes:
    return head if len(head) == length else head + read_up_to(handle, length - len(head), MAX_IMAGE_BYTES)


def _jpeg_size(handle: int, head: bytes, length: int) -> tuple[int, int] | None:
    """Check a JPEG by its head and its last bytes if these suffice, otherwise by the whole file."""
    if len(head) == length:
        return complete_jpeg_size(head, length)
    os.lseek(handle, length - _TAIL, os.SEEK_SET)
    if os.read(handle, _TAIL) == b"\xff\xd9":
        size = complete_jpeg_size(head, length)
        if size is not None:
            return size
    os.lseek(handle, len(head), os.SEEK_SET)
    return complete_jpeg_size(_read_rest(handle, head, length), length)


def _png_size(data: bytes) -> tuple[int, int] | None:
    if len(data) < _PNG_HEADERS or data[12:16] != b"IHDR" or data[8:12] != b"\0\0\0\x0d":
        return None
    if data[24] not in _PNG_DEPTHS.get(data[25], ()):
        return None
    position = len(_PNG)
    kinds: set[bytes] = set()
    view = memoryview(data)
    while position + 12 <= len(data):
        content_end = position + 8 + int.from_bytes(data[position : position + 4], "big")
        kind = data[position + 4 : position + 8]
        if zlib.crc32(view[position + 4 : content_end]) != int.from_bytes(data[content_end : content_end + 4], "big"):
            return None
        if kind in (b"eXIf", b"acTL") or data.startswith(b"Raw profile type", position + 8):  # orientation, animation
            return None
        if kind == b"IEND":
            is_complete = b"IDAT" in kinds and (data[25] != 3 or b"PLTE" in kinds)
            return (_big(data, 20), _big(data, 16)) if is_complete else None
        kinds.add(kind)
        position = content_end + 4
    return None


def _big(data: bytes, position: int) -> int:
    return int.from_bytes(data[position : position + 4], "big")


def _webp_size(head: bytes, length: int) -> tuple[int, int] | None:
    if len(head) < 30 or int.from_bytes(head[4:8], "little") + 8 > length:
        return None
    kind = head[12:16]
    if kind == b"VP8 " and head[23:26] == b"\x9d\x01\x2a":
        return int.from_bytes(head[28:30], "little") & 0x3FFF, int.from_bytes(head[26:28], "little") & 0x3FFF
    if kind == b"VP8L" and head[20] == 0x2F:
        bits = int.from_bytes(head[21:25], "little")
        return (bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1
    if kind == b"VP8X" and not head[20] & (_WEBP_ANIMATED | _WEBP_EXIF):
        return int.from_bytes(head[27:30], "little") + 1, int.from_bytes(head[24:27], "little") + 1
    return None
