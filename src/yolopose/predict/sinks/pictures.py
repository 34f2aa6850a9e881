"""`save`: pictures with what was found drawn in."""

from __future__ import annotations

from pathlib import Path

from yolopose.predict.sinks.sink import Place, Sink, counted
from yolopose.results import Results
from yolopose.results.writing import save_picture

# formats that every build of OpenCV writes; pictures of other kinds are saved as JPEG
_WRITTEN = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})


class Pictures(Sink):
    """Writes `NAME.jpg`, with the suffix of the source where that can be written."""

    def __init__(self) -> None:
        self._count = 0

    def takes(self, result: Results) -> bool:
        """Pictures of their own; frames go into a video."""
        return result.error is None and result.frame is None

    def write(self, place: Place) -> None:
        """Writes one picture."""
        suffix = Path(place.result.path).suffix
        suffix = suffix if suffix.lower() in _WRITTEN else ".jpg"
        save_picture(place.drawn, place.folder / f"{place.stem}{suffix}")
        self._count += 1

    @property
    def words(self) -> str:
        """How many."""
        return counted(self._count, "picture")
