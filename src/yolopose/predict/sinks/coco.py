"""`save_json`: COCO results."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from yolopose.predict.sinks.growing import GrowingFile
from yolopose.predict.sinks.sink import Place, Sink, counted
from yolopose.results import Results
from yolopose.results.arrays import host
from yolopose.results.coco import CocoResultsWriter, Row, coco_results

NAME = "predictions.json"


class CocoResults(Sink):
    """Writes `predictions.json`, detection by detection; it stands there when the run ends.

    The image's name is its `image_id`, as a number when it is one; a frame's is `NAME_12`, and `frame` its number.
    """

    def __init__(self) -> None:
        self._file: GrowingFile | None = None
        self._rows: CocoResultsWriter | None = None

    def write(self, place: Place) -> None:
        """Add the detections of one image."""
        if self._rows is None:
            self._file = GrowingFile(place.folder / NAME)
            self._rows = CocoResultsWriter(self._file)
        self._rows.add(_rows(place.result, place.name))

    def close(self) -> None:
        """End the list and puts the file in its place."""
        if self._file and self._rows and not self._file.closed:
            self._rows.close()
            self._file.close()

    @property
    def words(self) -> str:
        """The file and what it holds."""
        if self._file is None or self._rows is None or self._file.failed:
            return ""
        return f"{NAME} ({counted(self._rows.count, 'detection') or 'no detections'})"


def _rows(result: Results, name: str) -> list[Row]:
    if result.boxes is None:
        return []
    values = host(result.boxes.data)
    points = np.zeros((len(values), 0, 3)) if result.keypoints is None else host(result.keypoints.data)
    rows = coco_results(name, Path(result.path).name, values[:, :4], values[:, -2], values[:, -1], points)
    if result.frame is not None:
        rows = [{**row, "frame": result.frame.number} for row in rows]
    return rows
