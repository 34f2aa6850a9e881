from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from yolopose.data.array_file import read_arrays, write_arrays

DTYPES = {"a": np.uint8, "b": np.float32, "c": np.int64}
ARRAYS = {
    "a": np.arange(5, dtype=np.uint8),
    "b": np.linspace(-1, 1, 12, dtype=np.float32).reshape(2, 3, 2),
    "c": np.zeros((0, 4), np.int64),
}


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "x"
    write_arrays(path, {"é": [1, None, "x"]}, ARRAYS)
    header, arrays = read_arrays(path, DTYPES)
    assert header == {"é": [1, None, "x"]}
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(arrays[name], array)
        assert arrays[name].dtype == array.dtype
    arrays["b"][:] = 0  # writable
    assert read_arrays(path, DTYPES)[1]["b"].max() == 1


def test_big_endian_and_transposed_arrays(tmp_path: Path) -> None:
    write_arrays(tmp_path / "x", None, {"b": ARRAYS["b"].astype(">f4").T})
    np.testing.assert_array_equal(read_arrays(tmp_path / "x", {"b": "f4"})[1]["b"], ARRAYS["b"].T)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"", lambda data: data[:10], lambda data: data[:20], lambda data: data[:-8],
        lambda data: data[:-3], lambda data: data + bytes(8), lambda data: data[:-44] + b"\xff" + data[-43:],
        lambda data: b"x" + data[1:], lambda data: data.replace(b"[2, 3, 2]", b"[2, 9, 2]"),
        lambda data: data.replace(b"[2, 3, 2]", b"[2, -3,2]"), lambda data: data.replace(b'"a"', b'"z"'),
        lambda data: data[:16] + b"\xff" * 8 + data[24:],
    ],
)  # fmt: skip
def test_damaged_files_are_errors(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "x"
    write_arrays(path, {}, ARRAYS)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises((ValueError, KeyError, OverflowError)):
        read_arrays(path, DTYPES)


def test_other_arrays_are_an_error(tmp_path: Path) -> None:
    write_arrays(tmp_path / "x", {}, ARRAYS)
    with pytest.raises(ValueError, match="other arrays"):
        read_arrays(tmp_path / "x", {"a": np.uint8})


def test_arrays_are_not_copied_while_they_are_written(tmp_path: Path) -> None:
    array = np.ones((1 << 17, 8), np.float64)
    tracemalloc.start()
    try:
        write_arrays(tmp_path / "x", {}, {"a": array, "b": array[:7, :3].astype(np.uint8)})
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < array.nbytes / 4
