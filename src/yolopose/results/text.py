"""Text on images, with OpenCV's built-in font or a TrueType font through Pillow.

OpenCV 5 supports all scripts, OpenCV 4 only ASCII: other texts are drawn by Pillow if it is installed, else their
letters are replaced by `?`.
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

# Tried in this order if no font is given; they have more than Latin letters.
_FONTS = ("NotoSansCJK-Regular.ttc", "msyh.ttc", "PingFang.ttc", "Arial Unicode.ttf", "DejaVuSans.ttf", "arial.ttf")


class TextWriter(Protocol):
    """Measures and draws lines of text of a fixed size."""

    def measure(self, text: str) -> tuple[int, int]:
        """Return (width, height) of a line, pixels."""
        ...

    def write(self, img: Image, text: str, left: int, top: int, color: Color) -> None:
        """Draw a line with the given upper left corner."""
        ...


class OpenCVText:
    """Draws text with OpenCV.

    Args:
        size: height of a line, pixels.
        ascii_only: whether other letters are replaced by `?`.
    """

    def __init__(self, size: int, ascii_only: bool) -> None:
        self._ascii_only = ascii_only
        self._scale = size / 32
        self._thickness = 1 if size < 16 else max(2, round(size / 14))

    def _to_supported(self, text: str) -> str:
        return text.encode("ascii", "replace").decode() if self._ascii_only else text

    def _size(self, text: str) -> tuple[int, int, int]:
        """Return width, height above the baseline, and height below it."""
        (width, height), below = cv2.getTextSize(
            self._to_supported(text), cv2.FONT_HERSHEY_SIMPLEX, self._scale, self._thickness
        )
        return width, height, below

    def measure(self, text: str) -> tuple[int, int]:
        """Return (width, height) of a line, pixels."""
        width, height, below = self._size(text)
        return width, height + below

    def write(self, img: Image, text: str, left: int, top: int, color: Color) -> None:
        """Draw a line with the given upper left corner."""
        origin = (left, top + self._size(text)[1])
        text = self._to_supported(text)
        cv2.putText(img, text, origin, cv2.FONT_HERSHEY_SIMPLEX, self._scale, color, self._thickness, cv2.LINE_AA)


class PillowText:
    """Draws text with Pillow and a TrueType font."""

    def __init__(self, draw: Any, image: Any, font: Any) -> None:
        self._draw = draw
        self._image = image
        self._font = font

    def measure(self, text: str) -> tuple[int, int]:
        """Return (width, height) of a line, pixels."""
        ascent, descent = self._font.getmetrics()
        return int(self._font.getlength(text)) + 1, int(ascent + descent)

    def write(self, img: Image, text: str, left: int, top: int, color: Color) -> None:
        """Draw a line with the given upper left corner."""
        width, height = self.measure(text)
        rows = slice(max(top, 0), top + height)
        columns = slice(max(left, 0), left + width)
        part = img[rows, columns]
        if part.size:
            # Convert only the part under the text; the order of the channels does not matter to Pillow.
            patch = self._image.fromarray(np.ascontiguousarray(part))
            corner = (left - columns.start, top - rows.start)
            self._draw.Draw(patch).text(corner, text, font=self._font, fill=color)
            part[:] = np.asarray(patch)


def get_text_writer(texts: Sequence[str], size: int, font: str | Path | None = None) -> TextWriter:
    """Return a writer that can draw the given texts.

    Args:
        texts: the texts.
        size: height of a line, pixels.
        font: path or name of a TrueType font; None for the built-in one.

    Raises:
        UsageError: the font does not exist.
        DependencyError: a font is given, but Pillow is not installed.
    """
    size = max(int(size), 1)
    opencv_suffices = int(cv2.__version__.split(".")[0]) >= 5 or all(text.isascii() for text in texts)
    if font is None and opencv_suffices:
        return OpenCVText(size, ascii_only=False)
    try:
        image, draw, fonts = (importlib.import_module(f"PIL.{name}") for name in ("Image", "ImageDraw", "ImageFont"))
    except ImportError as error:
        if font is None:
            return OpenCVText(size, ascii_only=True)
        raise DependencyError(f"The font {font} needs Pillow, which is not installed: `pip install pillow`.") from error
    return PillowText(draw, image, _load_font(fonts, font, round(size * 0.8)))


def _load_font(fonts: Any, font: str | Path | None, size: int) -> Any:
    for name in _FONTS if font is None else (font,):
        try:
            return fonts.truetype(str(name), max(size, 1))
        except OSError:
            continue
    if font is not None:
        raise UsageError(f"The font {font} cannot be read. Use a TrueType file (.ttf, .ttc), or omit `font`.")
    return fonts.load_default(max(size, 1))
