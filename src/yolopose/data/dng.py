"""DNG files: raw data of a sensor, developed by `rawpy` where it is installed, else the image that lies beside it.

To OpenCV a DNG is a TIFF, of which it reads the first image: mostly a thumbnail of some hundred pixels.
"""

from __future__ import annotations

import importlib
import io
import struct
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from yolopose.base.errors import SourceError
from yolopose.base.log import warn_once

Image = npt.NDArray[np.uint8]
Directory = dict[int, tuple[int, ...]]

_SUBFILE, _WIDTH, _HEIGHT, _PACKING, _COLORS, _OFFSETS, _TURNED, _LENGTHS = 254, 256, 257, 259, 262, 273, 274, 279
_INNER, _DNG_VERSION = 330, 50706
_SIZES = {1: "B", 3: "H", 4: "I", 13: "I"}  # whole numbers; other kinds of values are not needed here
_MOST = 64  # directories that are looked at
# EXIF orientation: quarter turns against the clock, after a mirroring left to right
_TURNS = {2: (0, True), 3: (2, False), 4: (2, True), 5: (1, True), 6: (3, False), 7: (3, True), 8: (1, False)}


def is_dng(data: bytes) -> bool:
    """Whether the bytes of a TIFF file hold raw data; a DNG whose first image is the whole one is read as TIFF."""
    if data[:4] not in (b"II*\0", b"MM\0*"):
        return False
    first = next(_directories(data), {})
    return _DNG_VERSION in first and not (
        first.get(_SUBFILE, (0,))[0] == 0 and first.get(_COLORS, (0,))[0] in (1, 2, 6)
    )


def decode_dng(data: bytes, name: str) -> Image:
    """Return the image of a DNG file as (H, W, 3) uint8 BGR, or (H, W, 1) from a sensor without colors.

    Raises:
        SourceError: `rawpy` is not installed and no preview of at least half the size is there, or it is damaged.
    """
    try:
        raw: Any = importlib.import_module("rawpy")
    except ImportError:
        return _preview(data, name)
    try:
        with raw.imread(io.BytesIO(data)) as opened:
            return np.ascontiguousarray(opened.postprocess(use_camera_wb=True, output_bps=8)[:, :, ::-1])
    except Exception as error:  # LibRaw has an error class for each of its reasons
        raise SourceError(f"The image {name} is a DNG that cannot be developed ({error}). Save it as JPEG.") from error


def _preview(data: bytes, name: str) -> Image:
    directories = list(_directories(data))
    raw = max((max(_side(one, _WIDTH), _side(one, _HEIGHT)) for one in directories), default=0)
    best: Image | None = None
    for one in directories:
        start, length = one.get(_OFFSETS, (0,)), one.get(_LENGTHS, (0,))
        if one.get(_COLORS, (0,))[0] != 6 or one.get(_PACKING, (0,))[0] not in (6, 7) or len(start) != 1:
            continue
        buffer = np.frombuffer(data[start[0] : start[0] + length[0]], np.uint8)
        image: Any = cv2.imdecode(buffer, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION) if buffer.size else None
        if image is not None and (best is None or image.size > best.size):
            best = image
    if best is None or 2 * max(best.shape) < raw:
        raise SourceError(
            f"The image {name} is a DNG: raw data of a sensor, without an image beside them that is large enough. "
            "Install the developer with `pip install rawpy`, or save it as JPEG."
        )
    warn_once("DNG: the preview in the file is used. Install `rawpy` to have the raw data developed.")
    turns, mirrored = _TURNS.get(directories[0].get(_TURNED, (1,))[0], (0, False))
    best = best[:, ::-1] if mirrored else best
    return np.ascontiguousarray(np.rot90(best, turns))


def _side(directory: Directory, tag: int) -> int:
    return directory.get(tag, (0,))[0]


def _directories(data: bytes) -> Iterator[Directory]:
    """The directories of a TIFF file, those inside others included; nothing where it is damaged."""
    order = "<" if data[:2] == b"II" else ">"
    queue, seen = [_number(data, 4, order)], set[int]()
    while queue and len(seen) < _MOST:
        at = queue.pop(0)
        if at in seen or not 8 <= at <= len(data) - 6:
            continue
        seen.add(at)
        count = struct.unpack_from(f"{order}H", data, at)[0]
        if at + 2 + 12 * count + 4 > len(data):
            continue
        rows = (_value(data, at + 2 + 12 * row, order) for row in range(count))
        found = {tag: values for tag, values in rows if values}
        yield found
        queue += [*found.get(_INNER, ()), _number(data, at + 2 + 12 * count, order)]


def _value(data: bytes, at: int, order: str) -> tuple[int, tuple[int, ...]]:
    tag, kind, count = struct.unpack_from(f"{order}HHI", data, at)
    letter = _SIZES.get(kind)
    if letter is None or count > 100_000:
        return tag, ()
    form = f"{order}{count}{letter}"
    place = at + 8 if struct.calcsize(form) <= 4 else _number(data, at + 8, order)
    return tag, struct.unpack_from(form, data, place) if place + struct.calcsize(form) <= len(data) else ()


def _number(data: bytes, at: int, order: str) -> int:
    return struct.unpack_from(f"{order}I", data, at)[0] if at + 4 <= len(data) else 0
