from __future__ import annotations

import struct
import sys
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import pytest

from yolopose.base.errors import SourceError
from yolopose.data.dng import is_dng
from yolopose.data.images import decode_image

Row = tuple[int, str, Sequence[int]]


def tiff(directories: Sequence[Sequence[Row]], blobs: Sequence[bytes]) -> bytes:
    """A TIFF of a first directory, others inside it, and blobs whose place is the value -1 - index."""
    body = bytearray(b"II*\0\x08\0\0\0")
    sizes = [2 + 12 * (len(rows) + (1 if not number else 0)) + 4 for number, rows in enumerate(directories)]
    starts = [8 + sum(sizes[:number]) for number in range(len(sizes))]
    extra, at = bytearray(), 8 + sum(sizes)
    places = []
    for blob in blobs:
        places.append(at + len(extra))
        extra += blob + b"\0" * (len(blob) % 2)
    for number, rows in enumerate(directories):
        inner = [(330, "I", starts[1:])] if not number else []
        found = sorted([*rows, *inner])
        body += struct.pack("<H", len(found))
        for tag, letter, values in found:
            values = [places[-1 - value] if value < 0 else value for value in values]
            packed = struct.pack(f"<{len(values)}{letter}", *values)
            if len(packed) > 4:
                place = at + len(extra)
                extra += packed
                packed = struct.pack("<I", place)
            body += struct.pack("<HHI", tag, {"B": 1, "H": 3, "I": 4}[letter], len(values)) + packed.ljust(4, b"\0")
        body += b"\0\0\0\0"
    return bytes(body + extra)


def dng(preview: np.ndarray | None, raw: tuple[int, int] = (400, 600), turned: int = 1) -> bytes:
    """Thumbnail first, as cameras write it; then the raw data, then perhaps a preview in JPEG."""
    thumb = np.full((16, 24, 3), 9, np.uint8).tobytes()
    blobs = [thumb, bytes(2 * raw[0] * raw[1])]
    first: list[Row] = [
        (254, "I", [1]), (256, "I", [24]), (257, "I", [16]), (258, "H", [8, 8, 8]), (259, "H", [1]), (262, "H", [2]),
        (273, "I", [-1]), (274, "H", [turned]), (277, "H", [3]), (278, "I", [16]), (279, "I", [len(thumb)]),
        (50706, "B", [1, 4, 0, 0]),
    ]  # fmt: skip
    sensor: list[Row] = [
        (254, "I", [0]), (256, "I", [raw[1]]), (257, "I", [raw[0]]), (258, "H", [16]), (259, "H", [1]),
        (262, "H", [32803]), (273, "I", [-2]), (277, "H", [1]), (278, "I", [raw[0]]), (279, "I", [len(blobs[1])]),
    ]  # fmt: skip
    inside: list[list[Row]] = [sensor]
    if preview is not None:
        blobs.append(cv2.imencode(".jpg", preview)[1].tobytes())
        inside.append(
            [
                (254, "I", [1]), (256, "I", [preview.shape[1]]), (257, "I", [preview.shape[0]]), (259, "H", [7]),
                (262, "H", [6]), (273, "I", [-3]), (279, "I", [len(blobs[2])]),
            ]
        )  # fmt: skip
    return tiff([first, *inside], blobs)


@pytest.fixture(autouse=True)
def _without_rawpy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rawpy", None)


def test_decodes_the_preview_not_the_thumbnail(capsys: pytest.CaptureFixture[str]) -> None:
    img = np.zeros((400, 600, 3), np.uint8)
    img[:200] = 200
    image = decode_image(dng(img), "a.dng")
    assert np.abs(image.astype(int) - img).mean() < 3
    turned = decode_image(dng(img, turned=6), "a.dng")
    assert np.abs(turned.astype(int) - cv2.rotate(img, cv2.ROTATE_90_CLOCKWISE)).mean() < 3


@pytest.mark.parametrize("preview", [None, np.zeros((100, 150, 3), np.uint8)])
def test_refuses_dng_without_large_preview(preview: np.ndarray | None) -> None:
    with pytest.raises(SourceError, match=r"a\.dng is a DNG.*pip install rawpy"):
        decode_image(dng(preview), "a.dng")


@pytest.mark.parametrize(("developed", "pixel"), [((1, 2, 3), [3, 2, 1]), ((7,), [7, 7, 7])])
def test_decodes_with_rawpy(monkeypatch: pytest.MonkeyPatch, developed: tuple[int, ...], pixel: list[int]) -> None:
    class Raw:
        def __enter__(self) -> Raw:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def postprocess(self, **_: Any) -> np.ndarray:
            return np.full((4, 6, len(developed)), developed, np.uint8)

    class Module:
        @staticmethod
        def imread(_: object) -> Raw:
            return Raw()

    monkeypatch.setitem(sys.modules, "rawpy", Module)  # type: ignore[arg-type]
    assert decode_image(dng(None), "a.dng")[0, 0].tolist() == pixel


def test_is_dng_for_damaged_and_other_tiffs() -> None:
    whole = dng(None)
    for size in (8, 20, 100, 200, 300):
        assert is_dng(whole[:size]) in (True, False)
    assert not is_dng(cv2.imencode(".tiff", np.zeros((4, 4, 3), np.uint8))[1].tobytes())
    loop = bytearray(whole)
    loop[4:8] = struct.pack("<I", len(loop))
    assert not is_dng(bytes(loop))
