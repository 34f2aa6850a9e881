"""`save_csv`: one row for each detection."""

from __future__ import annotations

import csv
from typing import Any

import numpy as np

from yolopose.predict.sinks.growing import GrowingFile
from yolopose.predict.sinks.sink import Place, Sink, counted
from yolopose.results import Results
from yolopose.results.arrays import host
from yolopose.results.tables import class_name

NAME = "predictions.csv"
_FIRST = ["path", "frame", "track_id", "class", "name", "confidence", "x1", "y1", "x2", "y2"]
_DIGITS = 5


class Table(Sink):
    """Writes `predictions.csv`; it stands there when the run ends. The first image decides the columns."""

    def __init__(self) -> None:
        self._file: GrowingFile | None = None
        self._count = 0

    def write(self, place: Place) -> None:
        """Add the detections of one image."""
        first = self._file is None
        self._file = self._file or GrowingFile(place.folder / NAME)
        writer = csv.writer(self._file, lineterminator="\n")
        if first:
            writer.writerow(header(place.result))
        for row in rows(place.result):
            writer.writerow(row)
            self._count += 1

    def close(self) -> None:
        """Put the file in its place."""
        if self._file and not self._file.closed:
            self._file.close()

    @property
    def words(self) -> str:
        """The file and what it holds."""
        if self._file is None or self._file.failed:
            return ""
        return f"{NAME} ({counted(self._count, 'row') or 'no rows'})"


def header(result: Results) -> list[str]:
    """Return the columns: `NAME_x, NAME_y, NAME_conf` for each keypoint, `keypoint_0_x` where names are unknown.

    Where σ is told, `NAME_sigma_x, NAME_sigma_y` follow them.

    Names are unknown, too, where they differ between the classes.
    """
    if result.keypoints is None:
        return _FIRST
    count, dims = result.keypoints.shape[1:]
    known = set(result.schema.names.values()) if result.schema else set()
    names = known.pop() if len(known) == 1 else [f"keypoint_{index}" for index in range(count)]
    parts = [*("x", "y", "conf")[:dims], *(() if result.keypoints.sigma is None else ("sigma_x", "sigma_y"))]
    return [*_FIRST, *(f"{name}_{part}" for name in names for part in parts)]


def rows(result: Results) -> list[list[Any]]:
    """Return a row for each detection; numbers have five digits after the point."""
    if result.boxes is None:
        return []
    frame = "" if result.frame is None else result.frame.number
    values = host(result.boxes.data).astype(float)
    points = None if result.keypoints is None else host(result.keypoints.data).astype(float)
    if points is not None and result.keypoints is not None and result.keypoints.sigma is not None:
        points = np.concatenate((points, host(result.keypoints.sigma).astype(float)), 2)
    found: list[list[Any]] = []
    for index, box in enumerate(values.round(_DIGITS).tolist()):
        track = int(box[4]) if result.boxes.is_track else ""
        numbers = [] if points is None else points[index].reshape(-1).round(_DIGITS).tolist()
        cls = int(box[-1])
        found.append([result.path, frame, track, cls, class_name(result.names, cls), box[-2], *box[:4], *numbers])
    return found
