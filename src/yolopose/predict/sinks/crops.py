"""`save_crop`: the part of the image inside each box."""

from __future__ import annotations

from yolopose.predict.sinks.sink import Place, Sink, counted


class Crops(Sink):
    """Writes `crops/CLASS/NAME.jpg`, `NAME-2.jpg`, …; for frames the name holds the number."""

    def __init__(self) -> None:
        self._count = 0

    def write(self, place: Place) -> None:
        """Write the crops of one image."""
        self._count += len(place.result.save_crop(place.folder / "crops", f"{place.name}.jpg"))

    @property
    def words(self) -> str:
        """How many."""
        return counted(self._count, "crop")
