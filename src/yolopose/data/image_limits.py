"""What an image file promises is checked before a decoder allocates it: pixels, directory entries, scans.

A file of 100 bytes can promise 65 500 × 65 500 pixels, or 60 000 directory entries that all point to the same bytes.
Only the types of files that yolopose reads are passed to a decoder.
"""

from __future__ import annotations

import re
import struct

from yolopose.data.jpeg import jpeg_size

MAX_PIXELS = 210_000_000
"""The largest cameras have 200 megapixels: 630 MB as (H, W, 3)."""
MAX_SIDE = 1 << 20  # limit of OpenCV
_MAX_DECODED_BYTES = 3 * MAX_PIXELS  # of TIFF files, whose pixels may have any number of bytes
_MAX_ENTRIES = 1000  # of a TIFF directory; honest ones have some dozens
_MAX_SCANS = 100  # of a progressive JPEG; honest ones have about ten, and each is a pass over all pixels
_JPEG_HEADERS = 1 << 16
_TIFF_MARKS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_TYPE_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_WIDTH, _LENGTH, _BITS, _SAMPLES = 256, 257, 258, 277
_PNM = re.compile(rb"P[1-6]\s(?:\s*#[^\n]*\n)*\s*(\d{1,20})\s(?:\s*#[^\n]*\n)*\s*(\d{1,20})\s")


def limit_problem(data: bytes, *, alpha: bool = False) -> str:
    """Return why an image must not be decoded; an empty text if it may be.

    Args:
        data: contents of the file.
        alpha: whether a fourth channel is decoded too, which takes twice the memory.
    """
    if data[:2] == b"\xff\xd8":
        return _size_problem(jpeg_size(data)) or _scans_problem(data)
    if data[:4] in _TIFF_MARKS:
        return _tiff_problem(data)
    try:
        size = _header_size(data)
    except (struct.error, IndexError):
        return "its header is cut short"
    if size is None:
        return "it is not an image of a supported type"
    return _size_problem(size, MAX_PIXELS // 2 if alpha else MAX_PIXELS)


def _size_problem(size: tuple[int, int] | None, limit: int = MAX_PIXELS) -> str:
    if size is None:
        return ""
    height, width = size
    if height * width > limit or max(size) > MAX_SIDE:
        return f"its header states {width} × {height} pixels, more than the limit of {limit / 1e6:.0f} megapixels"
    return ""


def _scans_problem(data: bytes) -> str:
    is_progressive = data.find(b"\xff\xc2", 0, _JPEG_HEADERS) >= 0
    if is_progressive and (scans := data.count(b"\xff\xda")) > _MAX_SCANS:
        return f"it is a progressive JPEG of {scans} scans, more than the limit of {_MAX_SCANS}"
    return ""


def _header_size(data: bytes) -> tuple[int, int] | None:
    """Return the (height, width) in a header, (0, 0) where only the decoder knows it, None for unknown types."""
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        width, height = struct.unpack_from(">II", data, 16)
        return height, width
    if data[:2] == b"BM":
        return _bmp_size(data)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return _webp_size(data)
    if data[:4] == b"GIF8":
        width, height = struct.unpack_from("<HH", data, 6)
        return height, width
    if data[:1] == b"P" and data[1:2] in b"123456":
        match = _PNM.match(data[:4096])
        return (int(match[2]), int(match[1])) if match else None
    if data[:3] == b"P7\n":
        sides = dict(re.findall(rb"^(WIDTH|HEIGHT) (\d{1,20})\s*$", data[:4096], re.MULTILINE))
        return int(sides.get(b"HEIGHT", 0)), int(sides.get(b"WIDTH", 0))
    if data[:4] == b"\xff\x4f\xff\x51":
        return _codestream_size(data, 4)
    if data[:4] == b"\0\0\0\x0c" or data[4:8] == b"ftyp":
        return _boxes_size(data)
    return None


def _bmp_size(data: bytes) -> tuple[int, int]:
    if struct.unpack_from("<I", data, 14)[0] == 12:
        width, height = struct.unpack_from("<HH", data, 18)
    else:
        width, height = struct.unpack_from("<ii", data, 18)
    return abs(height), abs(width)


def _webp_size(data: bytes) -> tuple[int, int]:
    kind = data[12:16]
    if kind == b"VP8X":
        return int.from_bytes(data[27:30], "little") + 1, int.from_bytes(data[24:27], "little") + 1
    if kind == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return (bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1
    return int.from_bytes(data[28:30], "little") & 0x3FFF, int.from_bytes(data[26:28], "little") & 0x3FFF


def _codestream_size(data: bytes, position: int) -> tuple[int, int]:
    """Return the size in the SIZ segment of JPEG 2000, whose marker ends at a position."""
    width, height = struct.unpack_from(">II", data, position + 4)
    return height, width


def _boxes_size(data: bytes) -> tuple[int, int]:
    """Return the largest size stated in the boxes of a JPEG 2000, HEIC or AVIF file; (0, 0) without any."""
    sizes = [(0, 0)]
    siz = data.find(b"\xff\x4f\xff\x51")
    if siz >= 0:
        sizes.append(_codestream_size(data, siz + 4))
    head = data[: 1 << 20]
    for match in re.finditer(rb"ihdr|ispe", head):
        first, second = struct.unpack_from(">II", head, match.end() + (4 if match[0] == b"ispe" else 0))
        sizes.append((second, first) if match[0] == b"ispe" else (first, second))
    return max(sizes, key=lambda size: size[0] * size[1])


def _tiff_problem(data: bytes) -> str:
    """Check the first directory, the only one that is decoded; BigTIFF has longer fields."""
    order = "<" if data[:2] == b"II" else ">"
    big = data[2:4] in (b"+\0", b"\0+")
    try:
        position = struct.unpack_from(f"{order}Q", data, 8)[0] if big else struct.unpack_from(f"{order}I", data, 4)[0]
        count = struct.unpack_from(f"{order}{'Q' if big else 'H'}", data, position)[0]
        if count > _MAX_ENTRIES:
            return f"its TIFF directory has {count} entries, more than the limit of {_MAX_ENTRIES}"
        start, step, layout = (position + 8, 20, f"{order}HHQ") if big else (position + 2, 12, f"{order}HHI")
        sides = {_WIDTH: 0, _LENGTH: 0, _BITS: 1, _SAMPLES: 1}
        total = 0
        for row in range(count):
            at = start + row * step
            tag, kind, number = struct.unpack_from(layout, data, at)
            total += number * _TYPE_SIZES.get(kind, 1)
            if tag in sides:
                sides[tag] = max(sides[tag], _tiff_value(data, at + (12 if big else 8), order, kind, number, big))
    except (struct.error, OverflowError):
        return "its TIFF directory is cut short"
    if total > 2 * len(data):
        return "its TIFF directory states more bytes than the file has"
    size = sides[_LENGTH] * sides[_WIDTH] * sides[_SAMPLES] * -(-sides[_BITS] // 8)
    if size > _MAX_DECODED_BYTES or max(sides[_WIDTH], sides[_LENGTH]) > MAX_SIDE:
        return f"its header states {sides[_WIDTH]} × {sides[_LENGTH]} pixels, {size / 1e6:.0f} MB, which is too large"
    return ""


def _tiff_value(data: bytes, position: int, order: str, kind: int, number: int, big: bool) -> int:
    """Return the first value of an entry; 0 for other types than integers."""
    letter = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q"}.get(kind)
    if letter is None or number < 1:
        return 0
    if number * _TYPE_SIZES[kind] > (8 if big else 4):
        position = struct.unpack_from(f"{order}{'Q' if big else 'I'}", data, position)[0]
    return struct.unpack_from(f"{order}{letter}", data, position)[0]
