"""Structure of JPEG files: stored size, and whether data are missing, which decoders fill with gray."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt

_NO_MARKER = -1
_SOI = b"\xff\xd8"
_EOI = b"\xff\xd9"
_RESTART = re.compile(rb"\xff[\xd0-\xd7]")
_SCAN = re.compile(rb"\xff\xda\x00[\x08-\x0e][\x01-\x04]")
_EXIF = b"Exif\0\0"
_APP1 = 0xE1
_TABLES = {0xDB, 0xC4}  # of quantization, Huffman codes
_ORIENTATION_TAG = 0x0112
_BASELINE = (0xC0, 0xC1)
_PROGRESSIVE = 0xC2
_GRAY = 128  # of blocks without data: all coefficients are 0
_BLOCK = 8  # side of a block, pixels
_MIN_BLOCK_BITS = 2  # a DC and an end-of-block code of one bit each
_SIDE = 4  # rows that must be gray, pixels
_CUT = 3  # bytes removed from the end of the scan; a row of gray blocks takes more


def jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Return the stored (height, width) of a JPEG, before EXIF orientation; None for other files."""
    for marker, position in _segments(data):
        if _is_frame(marker) and position + 9 <= len(data):
            return _number(data, position + 5), _number(data, position + 7)
    return None


def complete_jpeg_size(data: bytes, length: int) -> tuple[int, int] | None:
    """Return the (height, width) of an ordinary JPEG after EXIF orientation; None if it is incomplete or unusual.

    Args:
        data: the file, or its first bytes if the file ends with an end marker. These suffice for a baseline file
            without restart markers.
        length: bytes of the file.
    """
    frame = 0
    interval = 0
    tables: set[int] = set()
    app1: list[int] = []
    for marker, position in _segments(data):
        if marker == 0xDD and position + 6 <= len(data):  # restart interval
            interval = _number(data, position + 4)
        elif _is_frame(marker):
            if frame or marker not in (*_BASELINE, _PROGRESSIVE):
                return None
            frame = position
        elif marker == _APP1:
            app1.append(position)
        elif marker == 0xDA:  # start of scan
            return _checked_size(data, length, frame, position, interval, app1) if tables >= _TABLES else None
        tables.add(marker)
    return None


def _checked_size(
    data: bytes, length: int, frame: int, scan: int, interval: int, app1: list[int]
) -> tuple[int, int] | None:
    if not frame or frame + 9 >= len(data):
        return None
    height, width = _number(data, frame + 5), _number(data, frame + 7)
    is_usual = data[frame + 4] == 8 and data[frame + 9] in (1, 3)  # 8 bits; gray or color
    if not is_usual or not height or not width:
        return None
    is_transposed = _is_transposed(data, app1)
    if is_transposed is None and height != width:
        return None
    if len(data) == length:
        is_complete = is_complete_jpeg(data)
    else:
        is_single = scan + 4 < len(data) and data[scan + 4] == data[frame + 9]
        if interval or not is_single or data[frame + 1] not in _BASELINE:
            return None
        is_complete = _has_all_units(data, frame, scan, length - len(_EOI), 0)
    if not is_complete:
        return None
    return (width, height) if is_transposed else (height, width)


def _is_transposed(data: bytes, app1: list[int]) -> bool | None:
    """Return whether the EXIF orientation exchanges height and width; None if that is ambiguous.

    Args:
        data: the file.
        app1: positions of the APP1 segments, which contain EXIF or XMP.
    """
    exif = [position for position in app1 if data.startswith(_EXIF, position + 4)]
    if not exif:
        return None if app1 and data.find(_EXIF, app1[0]) >= 0 else False
    start = exif[0] + 4 + len(_EXIF)
    orientation = _orientation(data[start : exif[0] + 2 + _number(data, exif[0] + 2)])
    if orientation is None or (orientation > 4 and len(app1) > 1):
        return None
    return orientation > 4


def _orientation(tiff: bytes) -> int | None:
    """Return the orientation 1…8 in the first directory of EXIF data, 1 if there is none; None if malformed."""
    order: Literal["little", "big"] = "little" if tiff[:4] == b"II*\0" else "big"
    if order == "big" and tiff[:4] != b"MM\0*":
        return None
    start = int.from_bytes(tiff[4:8], order)
    count = int.from_bytes(tiff[start : start + 2], order)
    if start < 8 or start + 2 + 12 * count > len(tiff):
        return None
    for entry in range(start + 2, start + 2 + 12 * count, 12):
        if int.from_bytes(tiff[entry : entry + 2], order) == _ORIENTATION_TAG:
            is_short = int.from_bytes(tiff[entry + 2 : entry + 4], order) == 3
            value = int.from_bytes(tiff[entry + 8 : entry + 10], order)
            return value if is_short and 1 <= value <= 8 else None
    return 1


def is_complete_jpeg(data: bytes) -> bool:
    """Return False for a JPEG without end marker, or whose structure shows that data are missing before it.

    The end marker is searched for from the start of the scan, since an embedded thumbnail has an end marker too. The
    size of the image determines the least length of the scan, and the number of restart markers (network cameras,
    MJPEG); the scans of a progressive file must contain all coefficients.
    """
    if data[:2] != _SOI:
        return True
    interval = 0
    frame = 0
    for marker, position in _segments(data):
        if marker == 0xDD and position + 6 <= len(data):  # restart interval
            interval = _number(data, position + 4)
        elif _is_frame(marker):
            frame = position
        elif marker == 0xDA:  # start of scan
            end = data.rfind(_EOI, position)
            if end < 0 or not frame:
                return end >= 0
            if data[frame + 1] == _PROGRESSIVE:
                return _has_all_scans(data, frame, position, end)
            return _has_all_units(data, frame, position, end, interval)
        elif marker == _NO_MARKER:
            return True  # not a valid JPEG structure: the decoder decides
    return False


def _has_all_units(data: bytes, frame: int, scan: int, end: int, interval: int) -> bool:
    """Check length and restart markers of the only scan of a baseline file; True for other files.

    Args:
        data: the file.
        frame: position of the start of frame.
        scan: position of the start of scan.
        end: position of the end marker.
        interval: number of units (MCU) between restart markers; 0 without them.
    """
    components = _components(data, frame)
    height, width = _number(data, frame + 5), _number(data, frame + 7)
    is_single = scan + 4 < len(data) and data[scan + 4] == len(components)
    if data[frame + 1] not in _BASELINE or not is_single or not components or not height:
        return True
    factors = [(1, 1)] if len(components) == 1 else [(value >> 4, value & 15) for value in components.values()]
    horizontal, vertical = max(h for h, _ in factors), max(v for _, v in factors)
    if not horizontal or not vertical:
        return True
    units = -(-width // (_BLOCK * horizontal)) * -(-height // (_BLOCK * vertical))
    blocks = units * sum(h * v for h, v in factors)
    if (end - scan) * 8 < blocks * _MIN_BLOCK_BITS:
        return False
    return not interval or len(_RESTART.findall(data, scan, end)) >= -(-units // interval) - 1


def _has_all_scans(data: bytes, frame: int, first: int, end: int) -> bool:
    """Check that the scans of a progressive file contain every coefficient of every component to its last bit."""
    missing = {(component, band) for component in _components(data, frame) for band in range(64)}
    for match in _SCAN.finditer(data, first, end):
        position = match.start()
        count = data[position + 4]
        parameters = position + 5 + 2 * count
        if parameters + 2 >= len(data) or _number(data, position + 2) != 6 + 2 * count:
            continue  # not a start of scan
        start, stop, low_bit = data[parameters], data[parameters + 1], data[parameters + 2] & 15
        if low_bit == 0:
            scanned = data[position + 5 : parameters : 2]
            missing -= {(component, band) for component in scanned for band in range(start, min(stop, 63) + 1)}
    return not missing


def _components(data: bytes, frame: int) -> dict[int, int]:
    """Return the sampling factors of each component of a frame, by its id."""
    count = data[frame + 9] if frame + 9 < len(data) else 0
    starts = [frame + 10 + 3 * index for index in range(count)]
    return {data[start]: data[start + 1] for start in starts if start + 2 < len(data)}


def lacks_rows(data: bytes, image: npt.NDArray[Any]) -> bool:
    """Return whether the scan of a baseline JPEG ends before its last rows, although the file has an end marker.

    Decoders fill missing blocks with gray and report no error. An image whose last rows are really gray has data for
    them: without the last bytes of the scan, only gray blocks change. If others change, the last bytes belong to them,
    and the data of the gray blocks are missing.

    Args:
        data: the file.
        image: (H, W, 3) the decoded image, at any scale.
    """
    is_baseline = data[:2] == _SOI and any(marker in _BASELINE for marker, _ in _segments(data))
    if not is_baseline or not _has_gray_side(image):
        return False
    end = data.rfind(_EOI)
    full = _decode(data)
    if full is not None and not (full[-_SIDE:] == _GRAY).all():
        return False
    shorter = _decode(data[: end - _CUT].rstrip(b"\xff") + _EOI)
    if full is None or shorter is None:
        return True
    gray = (full == _GRAY).all(axis=2)
    # the color of a block is interpolated into the pixels around it
    near_gray = cv2.dilate(gray.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool)
    return bool(((full != shorter).any(axis=2) & ~near_gray).any())


def _decode(data: bytes) -> npt.NDArray[Any] | None:
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    image: Any = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), flags)
    return image


def _has_gray_side(image: npt.NDArray[Any]) -> bool:
    """Return whether the outermost rows or columns of a side are gray; EXIF orientation decides which is the last."""
    sides = (image[-_SIDE:], image[:_SIDE], image[:, -_SIDE:], image[:, :_SIDE])
    return any(bool((side == _GRAY).all()) for side in sides)


def _is_frame(marker: int) -> bool:
    # start-of-frame markers are C0…CF, except those of Huffman tables, extensions and arithmetic coding
    return 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)


def _number(data: bytes, position: int) -> int:
    return int.from_bytes(data[position : position + 2], "big")


def _segments(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield marker and position of each JPEG segment up to the start of scan; `_NO_MARKER` if the structure ends."""
    position = 2
    while data[:2] == _SOI and position + 4 <= len(data):
        marker = data[position + 1] if data[position] == 0xFF else _NO_MARKER
        if marker == 0xFF:  # fill byte
            position += 1
            continue
        yield marker, position
        if marker in (0xDA, _NO_MARKER):
            return
        # TEM and RST0…RST7 consist of the marker only; other segments store their length
        has_length = not (marker == 0x01 or 0xD0 <= marker <= 0xD8)
        position += 2 + (_number(data, position + 2) if has_length else 0)
