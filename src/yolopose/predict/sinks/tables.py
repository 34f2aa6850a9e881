"""Tables of results: JSON Lines (`save_jsonl`) and CSV (`save_csv`)."""

from __future__ import annotations

import csv
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from yolopose.base.files import AtomicTextFile, output_error
from yolopose.base.text import csv_field
from yolopose.predict.sinks.base import Sink, WriteContext, format_count
from yolopose.results import Results
from yolopose.results.arrays import to_numpy
from yolopose.results.tables import class_name, keypoint_columns, to_json

JSON_LINES_FILE = "predictions.jsonl"
CSV_FILE = "predictions.csv"

_COLUMNS = ["path", "frame", "track_id", "class", "name", "confidence", "x1", "y1", "x2", "y2"]
_DECIMALS = 5


class JsonLines(Sink):
    """Writes `predictions.jsonl`, which can be read during the run; images with an error have a line, too."""

    def __init__(self) -> None:
        self._file: _LineFile | None = None
        self._count = 0
        self._is_replaying = False

    def accepts(self, result: Results) -> bool:
        """Accept all results."""
        return True

    def write(self, context: WriteContext) -> None:
        """Append one line."""
        self._file = self._file or _LineFile(context.folder / JSON_LINES_FILE)
        if self._is_replaying:
            self._is_replaying = False
            self._file.truncate()
        self._file.append(to_json(json_record(context.result)))
        self._count += 1

    def replay(self, context: WriteContext) -> None:
        """Write a line over itself; lines after the last one remain until a new one is written."""
        self._file = self._file or _LineFile(context.folder / JSON_LINES_FILE, keep=True)
        self._is_replaying = True
        self._file.append(to_json(json_record(context.result)))
        self._count += 1

    def close(self) -> None:
        """Close the file, which is already complete."""
        if self._file:
            self._file.close()

    @property
    def summary(self) -> str:
        """File and number of lines."""
        return f"{JSON_LINES_FILE} ({format_count(self._count, 'line')})" if self._count else ""


def json_record(result: Results) -> dict[str, Any]:
    """Return a result as plain values.

    Returns:
        `{path, frame, seconds, width, height, detections}`, and `error` for an image that could not be read. `frame`
        and `seconds` are None for an image. Detections are as in `Results.summary`, but keypoints are keyed by name if
        the names are known: `{"nose": {"x": …, "y": …, "visible": …}, …}`. Smoothed detections have the measured
        keypoints as `keypoints_raw`.
    """
    height, width = result.orig_shape
    frame = result.frame
    record: dict[str, Any] = {
        "path": result.path,
        "frame": None if frame is None else frame.number,
        "seconds": None if frame is None or frame.seconds is None else round(frame.seconds, 4),
        "width": width,
        "height": height,
    }
    if result.error is not None:
        record["error"] = result.error
    record["detections"] = [_key_by_name(row, result) for row in result.summary()]
    if result.raw_keypoints is not None:
        measured = result.copy_with(result.raw_keypoints).summary()
        for detection, row in zip(record["detections"], measured, strict=True):
            detection["keypoints_raw"] = _key_by_name(row, result)["keypoints"]
    return record


def _key_by_name(row: dict[str, Any], result: Results) -> dict[str, Any]:
    schema = result.schema
    if schema is None or not schema.names or "keypoints" not in row:
        return row
    names = schema.keypoint_names(row.get("class", 0))
    if len(set(names)) < len(names):  # a doubled name would hide a keypoint
        return row
    columns = row["keypoints"]
    points = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    return {**row, "keypoints": dict(zip(names, points, strict=True))}


class _LineFile:
    """A file of complete lines: a line that cannot be written entirely is removed.

    Args:
        path: the file.
        keep: whether to write over the content of an existing file, which is removed otherwise.
    """

    def __init__(self, path: Path, keep: bool = False) -> None:
        self._path = path
        self._size = 0
        try:
            self._file = path.open("r+b" if keep and path.exists() else "wb", buffering=0)
        except OSError as error:
            raise output_error(path, error) from error

    def append(self, line: str) -> None:
        data = memoryview(f"{line}\n".encode())
        try:
            written = 0
            while written < len(data):  # an unbuffered write may be partial
                written += self._file.write(data[written:])
        except OSError as error:
            with suppress(OSError):
                self._file.truncate(self._size)
                self._file.seek(self._size)
            raise output_error(self._path, error) from error
        self._size += len(data)

    def truncate(self) -> None:
        try:
            self._file.truncate(self._size)
        except OSError as error:
            raise output_error(self._path, error) from error

    def close(self) -> None:
        self._file.close()


class CsvTable(Sink):
    """Writes `predictions.csv`, one row per detection; the file appears when the run ends.

    The first image determines the columns.
    """

    def __init__(self) -> None:
        self._file: AtomicTextFile | None = None
        self._count = 0

    def write(self, context: WriteContext) -> None:
        """Add the detections of one image."""
        is_first = self._file is None
        self._file = self._file or AtomicTextFile(context.folder / CSV_FILE)
        writer = csv.writer(self._file, lineterminator="\n")
        if is_first:
            writer.writerow([csv_field(name) for name in _csv_header(context.result)])
        rows = _csv_rows(context.result)
        writer.writerows(rows)
        self._count += len(rows)

    def close(self) -> None:
        """Rename the file to its final path."""
        if self._file and not self._file.closed:
            self._file.close()

    @property
    def summary(self) -> str:
        """File and number of rows."""
        if self._file is None or self._file.failed:
            return ""
        return f"{CSV_FILE} ({format_count(self._count, 'row') or 'no rows'})"


def _csv_header(result: Results) -> list[str]:
    return [*_COLUMNS, *keypoint_columns(result.keypoints, result.schema)]


def _csv_rows(result: Results) -> list[list[Any]]:
    frame = "" if result.frame is None else result.frame.number
    boxes = to_numpy(result.boxes.data).astype(float).round(_DECIMALS)
    points = to_numpy(result.keypoints.data).astype(float)
    if result.keypoints.sigma is not None:
        points = np.concatenate((points, to_numpy(result.keypoints.sigma).astype(float)), 2)
    flat = points.round(_DECIMALS).reshape(len(boxes), points.shape[1] * points.shape[2])
    rows: list[list[Any]] = []
    for box, values in zip(boxes.tolist(), flat.tolist(), strict=True):
        track_id = int(box[4]) if result.boxes.is_track else ""
        cls = int(box[-1])
        name = csv_field(class_name(result.names, cls))
        rows.append([csv_field(result.path), frame, track_id, cls, name, box[-2], *box[:4], *values])
    return rows
