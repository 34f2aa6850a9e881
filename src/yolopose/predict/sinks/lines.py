"""`save_jsonl`: one line of JSON for each image or frame, there as soon as it is predicted."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from yolopose.base.files import output_error
from yolopose.predict.sinks.sink import Place, Sink, counted
from yolopose.results import Results
from yolopose.results.tables import to_json

NAME = "predictions.jsonl"


class JsonLines(Sink):
    """Writes `predictions.jsonl`, which can be read while the run goes on; images that failed have their line too."""

    def __init__(self) -> None:
        self._file: _Lines | None = None
        self._count = 0

    def takes(self, result: Results) -> bool:
        """All."""
        return True

    def write(self, place: Place) -> None:
        """Add a line."""
        self._file = self._file or _Lines(place.folder / NAME)
        self._file.add(to_json(record(place.result)))
        self._count += 1

    def close(self) -> None:
        """Close the file, which is whole already."""
        if self._file:
            self._file.close()

    @property
    def words(self) -> str:
        """The file and what it holds."""
        return f"{NAME} ({counted(self._count, 'line')})" if self._count else ""


def record(result: Results) -> dict[str, Any]:
    """Return a result as plain values.

    Returns:
        `{path, frame, seconds, width, height, detections}`, and `error` for an image that could not be read. `frame`
        and `seconds` are None for an image of its own. Detections are as in `Results.summary`, but keypoints go by
        name where names are known: `{"nose": {"x": …, "y": …, "visible": …}, …}`.
    """
    height, width = result.orig_shape
    frame = result.frame
    values: dict[str, Any] = {
        "path": result.path,
        "frame": None if frame is None else frame.number,
        "seconds": None if frame is None or frame.seconds is None else round(frame.seconds, 4),
        "width": width,
        "height": height,
    }
    if result.error is not None:
        values["error"] = result.error
    values["detections"] = [_by_name(row, result) for row in result.summary()]
    return values


def _by_name(row: dict[str, Any], result: Results) -> dict[str, Any]:
    schema = result.schema
    if schema is None or not schema.names or "keypoints" not in row:
        return row
    columns = row["keypoints"]
    points = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    return {**row, "keypoints": dict(zip(schema.keypoint_names(row.get("class", 0)), points, strict=True))}


class _Lines:
    """A file that holds whole lines, whatever happens."""

    def __init__(self, path: Path) -> None:
        self._path, self._size = path, 0
        try:
            self._file = path.open("wb", buffering=0)
        except OSError as error:
            raise output_error(path, error) from error

    def add(self, line: str) -> None:
        data = memoryview(f"{line}\n".encode())
        try:
            done = 0
            while done < len(data):
                done += self._file.write(data[done:])
        except OSError as error:
            with suppress(OSError):
                self._file.truncate(self._size)
                self._file.seek(self._size)
            raise output_error(self._path, error) from error
        self._size += len(data)

    def close(self) -> None:
        self._file.close()
