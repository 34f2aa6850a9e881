"""`save_txt`: label files."""

from __future__ import annotations

from yolopose.predict.sinks.sink import Place, Sink
from yolopose.results.writing import append_lines, label_lines


class LabelFiles(Sink):
    """Writes `labels/NAME.txt`, for frames `labels/NAME_12.txt`; none where nothing was found.

    Args:
        save_conf: end each line with the confidence.
    """

    def __init__(self, save_conf: bool) -> None:
        self._save_conf = save_conf
        self._count = 0

    def write(self, place: Place) -> None:
        """Write the lines of one image."""
        boxes, points = place.result.boxes, place.result.keypoints
        lines = [] if boxes is None else label_lines(boxes, points, self._save_conf)
        append_lines(place.folder / "labels" / f"{place.name}.txt", lines, append=False)
        self._count += bool(lines)

    @property
    def words(self) -> str:
        """Of how many images."""
        return f"labels of {self._count}" if self._count else "no labels (nothing was found)"
