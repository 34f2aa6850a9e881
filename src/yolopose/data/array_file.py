"""Files of a JSON header and plain arrays, which are loaded with one read.

Layout: the mark, the length of the header (8 bytes), the header (UTF-8 JSON), then the arrays, each aligned to 8 bytes,
little-endian. The header states the shape of each array and a checksum; its type is known to the reader, so that a
modified file cannot choose it. Nothing is unpickled.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

_MARK = b"yolopose arrays\n"
_ALIGN = 8
_START = len(_MARK) + _ALIGN
Array = npt.NDArray[Any]


def write_arrays(path: Path, header: Any, arrays: Mapping[str, Array]) -> None:
    """Write arrays and a header.

    Args:
        path: the file; it is not written atomically.
        header: plain values.
        arrays: arrays of numbers by name.

    Raises:
        OSError: it cannot be written.
    """
    # views of the arrays: copies would need several times their memory
    parts = [_bytes_view(array) for array in arrays.values()]
    shapes = {name: list(array.shape) for name, array in arrays.items()}
    total = sum(map(_checksum, parts)) % 2**64
    text = json.dumps({"header": header, "shapes": shapes, "sum": total}).encode()
    text += b" " * (-len(text) % _ALIGN)
    with path.open("wb") as file:
        file.write(_MARK + len(text).to_bytes(_ALIGN, "little") + text)
        for part in parts:
            file.write(part.data)
            file.write(bytes(-len(part) % _ALIGN))


def read_arrays(path: Path, dtypes: Mapping[str, npt.DTypeLike]) -> tuple[Any, dict[str, Array]]:
    """Read a file of `write_arrays`.

    Args:
        path: the file.
        dtypes: type of each array that is expected, by name, in the order in which they were written.

    Returns:
        The header, and the arrays, which share memory.

    Raises:
        ValueError: it is damaged, or another file.
        OSError: it cannot be read.
    """
    data = np.fromfile(path, np.uint8)
    if data[: len(_MARK)].tobytes() != _MARK or len(data) < _START:
        raise ValueError("the mark of the format is missing")
    start = _START + int.from_bytes(data[len(_MARK) : _START].tobytes(), "little")
    content = json.loads(data[_START:start].tobytes())
    if not isinstance(content, dict) or list(content["shapes"]) != list(dtypes) or start % _ALIGN:
        raise ValueError("other arrays than expected")
    if content["sum"] != _checksum(data[start:]):
        raise ValueError("the checksum differs")
    arrays: dict[str, Array] = {}
    for name, dtype in dtypes.items():
        kind = np.dtype(dtype).newbyteorder("<")
        shape = [int(side) for side in content["shapes"][name]]
        size = math.prod(shape) * kind.itemsize
        if min(shape, default=0) < 0 or start + size > len(data):
            raise ValueError(f"the array {name} has an impossible shape")
        arrays[name] = data[start : start + size].view(kind).reshape(shape)
        start += size + -size % _ALIGN
    if start != len(data):
        raise ValueError("the length differs")
    return content["header"], arrays


def _bytes_view(array: Array) -> npt.NDArray[np.uint8]:
    """Return the bytes of an array, little-endian; they share memory with a contiguous array of this machine."""
    return np.ascontiguousarray(array, array.dtype.newbyteorder("<")).reshape(-1).view(np.uint8)


def _checksum(data: npt.NDArray[np.uint8]) -> int:
    """Return the sum of the 8-byte words, ten times as fast to compute as a CRC; the last word is padded with zeros."""
    whole = len(data) // _ALIGN * _ALIGN
    rest = int.from_bytes(data[whole:].tobytes(), "little")
    return (int(data[:whole].view("<u8").sum(dtype=np.uint64)) + rest) % 2**64
