"""Text on images: OpenCV's own font, or a TrueType one through Pillow.

OpenCV 5 writes every script; OpenCV 4 only ASCII, so other names go through Pillow when it is
installed, else their letters become `?`.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import numpy.typing as npt

from yolopose.base.errors import DependencyError, UsageError
from yolopose.results.palette import Color

Image = npt.NDArray[np.uint8]

# tried in this order where the caller names no font; these hold more than Latin letters
_FONTS = ("NotoSansCJK-Regular.ttc", "msyh.ttc", "PingFang.ttc", "Arial Unicode.ttf", "DejaVuSans.ttf", "arial.ttf")


class TextWriter(Protocol):
    """Measures and writes lines of text of one size."""

    def measure(self, text: str) -> tuple[int, int]:
        """Return (width, height) of a line, pixels."""
        ...

    def write(self, img: Image, text: str, left: int, top: int, color: Color) -> None:
        """Write a line whose upper left corner is (left, top)."""
        ...


class OpenCVText:
    """Writes with OpenCV.

    Args:
        size: height of a line, pixels.
        ascii_only: whether other letters become `?`.
    """

    def __init__(self, size: int, ascii_only: bool) -> None:
        self._ascii = ascii_only
        self._scale = size / 32
        self._thickness = 1 if size < 16 else max(2, round(size / 14))

    def _spelled(self, text: str) -> str:
        return text.encode("ascii", "replace").decode() if self._ascii else text

    def _size(self, text: str) -> tuple[int, int, int]:
        (width, height), below = cv2.getTextSize(
            self._spelled(text), cv2.FONT_HERSHEY_SIMPLEX, self._scale, self._thickness
        )
        return width, height, below

    def measure(self, text: str) -> tuple[int, int]:
        """Return (width, height) of a line, pixels."""
        width, height, below = self._size(text)
        return width, height + below

    def write(self, img: Image, text: str, left: int, top: int, color: Color) -> None:
        """Write a line whose upper left corner is (left, top)."""
        origin = (left, top + self._size(text)[1])
        face, smooth = cv2.FONT_HERSHEY_SIMPLEX, cv2.LINE_AA
        cv2.putText(img, self._spelled(text), origin, face, self._scale, color, self._thickness, smooth)


class PillowText:
    """Writes with Pillow and a TrueType font."""

    def __init__(self, draw: Any, image: Any, font: Any) -> None:
        self._draw, self._image, self._font = draw, image, font

    def measure(self, text: str) -> tuple[int, int]:
        """Return (width, height) of a line, pixels."""
        ascent, descent = self._font.getmetrics()
        return int(self._font.getlength(text)) + 1, int(ascent + descent)

    def write(self, img: Image, text: str, left: int, top: int, color: Color) -> None:
        """Write a line whose upper left corner is (left, top)."""
        width, height = self.measure(text)
        rows = slice(max(top, 0), top + height)
        columns = slice(max(left, 0), left + width)
        part = img[rows, columns]
        if part.size:
            # only the piece under the text goes to Pillow and back; the channels' order does not matter to it
            patch = self._image.fromarray(np.ascontiguousarray(part))
            corner = (left - columns.start, top - rows.start)
            self._draw.Draw(patch).text(corner, text, font=self._font, fill=color)
            part[:] = np.asarray(patch)


def get_text_writer(texts: Sequence[str], size: int, font: str | Path | None = None) -> TextWriter:
    """Choose how to write some texts.

    Args:
        texts: what will be written.
        size: height of a line, pixels.
        font: path or name of a TrueType font; None for the built-in one.

    Raises:
        UsageError: there is no such font.
        DependencyError: a font is named, but Pillow is not installed.
    """
    size = max(int(size), 1)
    native = int(cv2.__version__.split(".")[0]) >= 5 or all(text.isascii() for text in texts)
    if font is None and native:
        return OpenCVText(size, ascii_only=False)
    try:
        image, draw, fonts = (importlib.import_module(f"PIL.{name}") for name in ("Image", "ImageDraw", "ImageFont"))
    except ImportError as fault:
        if font is None:
            return OpenCVText(size, ascii_only=True)
        raise DependencyError(f"The font {font} needs Pillow, which is not installed: `pip install pillow`.") from fault
    return PillowText(draw, image, _load_font(fonts, font, round(size * 0.8)))


def _load_font(fonts: Any, font: str | Path | None, size: int) -> Any:
    for name in _FONTS if font is None else (font,):
        try:
            return fonts.truetype(str(name), max(size, 1))
        except OSError:
            continue
    if font is not None:
        raise UsageError(f"The font {font} cannot be read. Name a TrueType file (.ttf, .ttc), or leave `font` out.")
    return fonts.load_default(max(size, 1))
