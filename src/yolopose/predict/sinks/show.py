"""`show`: a window for each image, one for all frames of a video."""

from __future__ import annotations

from yolopose.predict.sinks.sink import Place, Sink
from yolopose.results.display import show_image


class Window(Sink):
    """Shows images until a key is pressed, frames as they come."""

    def write(self, place: Place) -> None:
        """Show one image."""
        show_image(place.drawn, place.result.path, wait=place.result.frame is None)

    @property
    def words(self) -> str:
        """Nothing: no file is written."""
        return ""
