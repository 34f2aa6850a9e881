"""Decode DNG files (raw sensor data) with `rawpy` if it is installed, otherwise from the embedded preview.

OpenCV reads a DNG as a TIFF and returns its first image, which usually is a thumbnail of some hundred pixels.
"""

from __future__ import annotations

import importlib
import io
import struct
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from yolopose.base.errors import SourceError
from yolopose.base.log import warn_once
from yolopose.data.image_limits import limit_problem

Image = npt.NDArray[np.uint8]
Directory = dict[int, tuple[int, ...]]  # values by tag

# Tags of TIFF 6.0 and DNG 1.4
_NEW_SUBFILE_TYPE = 254
_IMAGE_WIDTH = 256
_IMAGE_LENGTH = 257
_COMPRESSION = 259
_PHOTOMETRIC = 262
_STRIP_OFFSETS = 273
_ORIENTATION = 274
_STRIP_BYTE_COUNTS = 279
_SUB_IFDS = 330
_DNG_VERSION = 50706

_PHOTOMETRIC_RENDERED = (1, 2, 6)  # grayscale, RGB, YCbCr; raw data have values above 32000
_YCBCR = 6
_JPEG_COMPRESSIONS = (6, 7)
_TAGS = frozenset({_NEW_SUBFILE_TYPE, _IMAGE_WIDTH, _IMAGE_LENGTH, _COMPRESSION, _PHOTOMETRIC, _STRIP_OFFSETS,
                   _ORIENTATION, _STRIP_BYTE_COUNTS, _SUB_IFDS, _DNG_VERSION})  # fmt: skip
_TYPE_FORMATS = {1: "B", 3: "H", 4: "I", 13: "I"}  # the integer types; the tags above use no others
_MAX_DIRECTORIES = 64
_MAX_ENTRIES = 1000  # of a directory
_MAX_VALUES = 1000  # of an entry; strips of a preview are one, directories some dozens
# EXIF orientation → (counterclockwise quarter turns, whether to flip left to right before)
_ORIENTATIONS = {2: (0, True), 3: (2, False), 4: (2, True), 5: (1, True), 6: (3, False), 7: (3, True), 8: (1, False)}


def is_dng(data: bytes) -> bool:
    """Return whether TIFF data are raw; a DNG whose first image has full size can be read as a TIFF."""
    if data[:4] not in (b"II*\0", b"MM\0*"):
        return False
    first = next(_directories(data), {})
    has_full_image = _value(first, _NEW_SUBFILE_TYPE) == 0 and _value(first, _PHOTOMETRIC) in _PHOTOMETRIC_RENDERED
    return _DNG_VERSION in first and not has_full_image


def decode_dng(data: bytes, name: str) -> Image:
    """Decode a DNG file to (H, W, 3) uint8 BGR, or (H, W, 1) for a monochrome sensor.

    Args:
        data: contents of the file.
        name: name of the image in error messages.

    Raises:
        SourceError: it is damaged, or `rawpy` is not installed and no preview has at least half the size.
    """
    try:
        rawpy: Any = importlib.import_module("rawpy")
    except ImportError:
        return _decode_preview(data, name)
    try:
        with rawpy.imread(io.BytesIO(data)) as raw:
            return np.ascontiguousarray(raw.postprocess(use_camera_wb=True, output_bps=8)[:, :, ::-1])
    except Exception as error:  # LibRaw has a separate error class for each reason
        raise SourceError(f"The DNG image {name} cannot be decoded ({error}). Save it as JPEG.") from error


def _decode_preview(data: bytes, name: str) -> Image:
    """Return the largest JPEG preview, with the orientation of the file applied."""
    directories = list(_directories(data))
    raw_side = max((max(_value(entry, _IMAGE_WIDTH), _value(entry, _IMAGE_LENGTH)) for entry in directories), default=0)
    largest: Image | None = None
    for entry in directories:
        is_jpeg = _value(entry, _PHOTOMETRIC) == _YCBCR and _value(entry, _COMPRESSION) in _JPEG_COMPRESSIONS
        if not is_jpeg or len(entry.get(_STRIP_OFFSETS, ())) > 1:
            continue
        start = _value(entry, _STRIP_OFFSETS)
        buffer = np.frombuffer(data[start : start + _value(entry, _STRIP_BYTE_COUNTS)], np.uint8)
        # the orientation is stored in the first directory, not in the preview
        flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
        image: Any = None
        if buffer.size and not limit_problem(buffer.tobytes()):
            with suppress(cv2.error):
                image = cv2.imdecode(buffer, flags)
        if image is not None and (largest is None or image.size > largest.size):
            largest = image
    if largest is None or 2 * max(largest.shape) < raw_side:
        raise SourceError(
            f"The image {name} is a DNG (raw sensor data) without a preview that is large enough. Run `pip install "
            "rawpy` to decode the raw data, or save it as JPEG."
        )
    warn_once("DNG: the preview in the file is used. Install `rawpy` to decode the raw data.")
    quarter_turns, flip = _ORIENTATIONS.get(_value(directories[0], _ORIENTATION), (0, False))
    if flip:
        largest = largest[:, ::-1]
    return np.ascontiguousarray(np.rot90(largest, quarter_turns))


def _value(directory: Directory, tag: int) -> int:
    """Return the first value of a tag; 0 if it is absent."""
    return directory.get(tag, (0,))[0]


def _directories(data: bytes) -> Iterator[Directory]:
    """Yield the directories of a TIFF file including nested ones; damaged directories are skipped."""
    order = "<" if data[:2] == b"II" else ">"
    queue = [_uint32(data, 4, order)]
    visited: set[int] = set()
    while queue and len(visited) < _MAX_DIRECTORIES:
        position = queue.pop(0)
        if position in visited or not 8 <= position <= len(data) - 6:
            continue
        visited.add(position)
        count = struct.unpack_from(f"{order}H", data, position)[0]
        end = position + 2 + 12 * count
        if end + 4 > len(data) or count > _MAX_ENTRIES:
            continue
        rows = (_read_entry(data, position + 2 + 12 * row, order) for row in range(count))
        directory = {tag: values for tag, values in rows if values}
        yield directory
        queue += [*directory.get(_SUB_IFDS, ()), _uint32(data, end, order)]


def _read_entry(data: bytes, position: int, order: str) -> tuple[int, tuple[int, ...]]:
    """Return tag and values of a directory entry; no values if the type is not an integer or the data end early."""
    tag, value_type, count = struct.unpack_from(f"{order}HHI", data, position)
    letter = _TYPE_FORMATS.get(value_type)
    if tag not in _TAGS or letter is None or count > _MAX_VALUES:
        return tag, ()
    layout = f"{order}{count}{letter}"
    size = struct.calcsize(layout)
    # up to 4 bytes are stored in the entry itself, more at the offset in it
    start = position + 8 if size <= 4 else _uint32(data, position + 8, order)
    return tag, struct.unpack_from(layout, data, start) if start + size <= len(data) else ()


def _uint32(data: bytes, position: int, order: str) -> int:
    return struct.unpack_from(f"{order}I", data, position)[0] if position + 4 <= len(data) else 0
