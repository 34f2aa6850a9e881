"""`save`: images with what was found drawn in."""

from __future__ import annotations

from pathlib import Path

from yolopose.predict.sinks.sink import Place, Sink, counted
from yolopose.results import Results
from yolopose.results.writing import save_image

# formats that every build of OpenCV writes; images of other kinds are saved as JPEG
_WRITTEN = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})


class Images(Sink):
    """Writes `NAME.jpg`, with the suffix of the source where that can be written."""

    def __init__(self) -> None:
        self._count = 0

    def takes(self, result: Results) -> bool:
        """Images of their own; frames go into a video."""
        return result.error is None and result.frame is None

    def write(self, place: Place) -> None:
        """Write one image."""
        suffix = Path(place.result.path).suffix
        suffix = suffix if suffix.lower() in _WRITTEN else ".jpg"
        save_image(place.drawn, place.folder / f"{place.stem}{suffix}")
        self._count += 1

    @property
    def words(self) -> str:
        """How many."""
        return counted(self._count, "image")
