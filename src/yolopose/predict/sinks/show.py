"""`show`: a window for each picture, one for all frames of a video."""

from __future__ import annotations

from yolopose.predict.sinks.sink import Place, Sink
from yolopose.results.display import show_picture


class Window(Sink):
    """Shows pictures until a key is pressed, frames as they come."""

    def write(self, place: Place) -> None:
        """Shows one picture."""
        show_picture(place.drawn, place.result.path, wait=place.result.frame is None)

    @property
    def words(self) -> str:
        """Nothing: no file is written."""
        return ""
