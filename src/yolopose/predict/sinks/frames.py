"""`save_frames`: the frames of videos and streams as they are, as images."""

from __future__ import annotations

from yolopose.predict.sinks.sink import Place, Sink, counted
from yolopose.results import Results
from yolopose.results.canvas import as_bgr
from yolopose.results.writing import save_image


class Frames(Sink):
    """Writes `NAME_frames/12.jpg`, with nothing drawn in."""

    def __init__(self) -> None:
        self._count = 0

    def takes(self, result: Results) -> bool:
        """Frames alone."""
        return result.error is None and result.frame is not None

    def write(self, place: Place) -> None:
        """Write one frame."""
        assert place.result.frame is not None  # noqa: S101  # `takes` has asked
        image = as_bgr(place.result.orig_img)
        save_image(image, place.folder / f"{place.stem}_frames" / f"{place.result.frame.number}.jpg")
        self._count += 1

    @property
    def words(self) -> str:
        """How many."""
        return counted(self._count, "frame")
