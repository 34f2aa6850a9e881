"""Tracks as JSON Lines, one frame per line: the files that `save_jsonl` of predict and track writes."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from yolopose.base.errors import DataError
from yolopose.base.files import AtomicTextFile
from yolopose.base.log import LOGGER
from yolopose.data.tracks.tracks import NO_ID, Floats, TrackFrame, Tracks, TrackWriter, schema_of

_DECIMALS = 5
_COLUMNS = ("x", "y", "visible")


class JsonLinesWriter(TrackWriter):
    """Writes one line per frame, also for frames without instances; the file appears when it is closed.

    Args:
        path: final path.
        video: tracks whose name, size, class names and keypoint names are written; instances are ignored.
    """

    def __init__(self, path: Path, video: Tracks) -> None:
        self._video = video
        self._file = AtomicTextFile(path)

    def write(self, frame: TrackFrame) -> None:
        """Add one line."""
        record = frame_record(frame, self._video)
        self._file.write(json.dumps(record, separators=(",", ":"), ensure_ascii=False, allow_nan=False) + "\n")

    def next_video(self, video: Tracks) -> None:
        """Start another video."""
        self._video = video

    def close(self) -> None:
        """Rename the file to its final path."""
        self._file.close()

    def discard(self) -> None:
        """Remove the temporary file."""
        self._file.discard()


def frame_record(frame: TrackFrame, video: Tracks) -> dict[str, Any]:
    """Return a frame as plain values, in the form of `save_jsonl`.

    Smoothed instances have their measured points as `keypoints_raw`; instances that were filled into a gap have
    `interpolated: true` and no `keypoints_raw`.
    """
    height, width = video.size or (None, None)
    return {
        "path": video.name,
        "frame": frame.number,
        "seconds": None if frame.seconds is None else round(frame.seconds, 4),
        "width": width,
        "height": height,
        "detections": [_detection(frame, row, video) for row in range(len(frame.ids))],
    }


def _detection(frame: TrackFrame, row: int, video: Tracks) -> dict[str, Any]:
    index = int(frame.classes[row])
    corners = _to_json(frame.boxes[row])
    record: dict[str, Any] = {
        "name": video.class_names.get(index, f"class{index}"),
        "class": index,
        "confidence": _to_json(frame.scores[row : row + 1])[0],
        "box": dict(zip(("x1", "y1", "x2", "y2"), corners, strict=True)),
    }
    if frame.ids[row] != NO_ID:
        record["track_id"] = int(frame.ids[row])
    if frame.keypoints.shape[1]:
        record["keypoints"] = _points(frame.keypoints[row], video)
    is_filled = frame.interpolated is not None and bool(frame.interpolated[row])
    if is_filled:
        record["interpolated"] = True
    elif frame.raw_keypoints is not None:
        record["keypoints_raw"] = _points(frame.raw_keypoints[row], video)
    return record


def _to_json(values: Floats) -> list[float | None]:
    """Return rounded values; None for NaN and infinity, which JSON does not have."""
    return [value if math.isfinite(value) else None for value in values.round(_DECIMALS).tolist()]


def _points(points: Floats, video: Tracks) -> dict[str, Any]:
    values = [_to_json(point) for point in points]
    if video.schema is None or not video.schema.names:
        return dict(zip(_COLUMNS, map(list, zip(*values, strict=True)), strict=True))
    named = (dict(zip(_COLUMNS, point, strict=True)) for point in values)
    return dict(zip(video.schema.keypoint_names(0), named, strict=True))


def read_json_lines(path: Path) -> list[Tracks]:
    """Read the tracks of each video in a file, in the order in which they appear.

    Lines of images (without a frame number) are the frames of one video, in their order. An incomplete last line,
    which an interrupted run leaves, is ignored with a warning.

    Raises:
        DataError: a line is not such a record; the message has its number.
    """
    videos: dict[str, _VideoRows] = {}
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                where = f"{path}, line {number}"
                record = _parse(line, where)
                if record is None:
                    LOGGER.warning(f"{where} is incomplete, as after an interruption, and was ignored.")
                    continue
                is_image = record.get("frame") is None
                name = str(Path(str(record.get("path", ""))).parent) if is_image else str(record.get("path", ""))
                videos.setdefault(name, _VideoRows(name, str(path))).add(record, where)
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not a text file in UTF-8 ({error.reason}).") from error
    return [rows.build() for rows in videos.values()]


def _parse(line: str, where: str) -> Mapping[str, Any] | None:
    try:
        record = json.loads(line)
    except ValueError as error:
        if not line.endswith("\n"):
            return None
        raise DataError(f"{where}: not valid JSON ({error}).") from error
    if not isinstance(record, Mapping) or not isinstance(record.get("detections"), list):
        raise DataError(f"{where}: not a frame of JSON Lines; it needs `frame` and a list `detections`.")
    return record


class _VideoRows:
    """Collects the instances of one video."""

    def __init__(self, name: str, file: str) -> None:
        self._name = name
        self._file = file
        self._numbers: list[int] = []
        self._rows: list[tuple[int, int, int, float, list[float]]] = []  # frame, id, class, confidence, box
        self._points: list[list[list[float]]] = []
        self._raw_points: list[list[list[float]] | None] = []
        self._filled: list[bool] = []
        self._names: tuple[str, ...] | None = None
        self._count: int | None = None
        self._class_names: dict[int, str] = {}
        self._times: list[tuple[int, float]] = []
        self._size: tuple[int, int] | None = None

    def add(self, record: Mapping[str, Any], where: str) -> None:
        try:
            frame = record.get("frame")
            number = len(self._numbers) + 1 if frame is None else int(frame)
            self._numbers.append(number)
            if record.get("seconds") is not None:
                self._times.append((number, float(record["seconds"])))
            if record.get("width") and record.get("height"):
                self._size = int(record["height"]), int(record["width"])
            for detection in record["detections"]:
                self._add_detection(number, detection)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            raise DataError(
                f"{where}: not a frame of JSON Lines ({reason}). A detection is "
                '{"track_id": 1, "class": 0, "confidence": 0.9, "box": {"x1": …, "y1": …, "x2": …, "y2": …}, '
                '"keypoints": {…}}.'
            ) from error

    def _add_detection(self, number: int, detection: Mapping[str, Any]) -> None:
        box = [float("nan" if detection["box"][key] is None else detection["box"][key]) for key in
               ("x1", "y1", "x2", "y2")]  # fmt: skip
        index = int(detection.get("class", 0))
        if "name" in detection:
            self._class_names[index] = str(detection["name"])
        track_id = detection.get("track_id")
        confidence = detection.get("confidence")
        score = 1.0 if confidence is None else float(confidence)
        self._rows.append((number, NO_ID if track_id is None else int(track_id), index, score, box))
        points = self._read_points(detection.get("keypoints"))
        self._points.append(points)
        raw = detection.get("keypoints_raw")
        self._raw_points.append(None if raw is None else self._read_points(raw))
        self._filled.append(bool(detection.get("interpolated", False)))

    def _read_points(self, values: Mapping[str, Any] | None) -> list[list[float]]:
        if values is None:
            values = {}
        if isinstance(values.get("x"), list):
            points = [list(point) for point in zip(*(values[key] for key in _COLUMNS if key in values), strict=True)]
        else:
            points = [[point[key] for key in _COLUMNS if key in point] for point in values.values()]
            if values and self._names is not None and self._names != tuple(values):
                raise ValueError("the keypoints have other names than in earlier lines")
            self._names = tuple(values) or self._names
        if self._count is not None and len(points) != self._count:
            raise ValueError(f"{len(points)} keypoints, but {self._count} in earlier lines")
        self._count = len(points)
        nan = float("nan")
        numbers = [[nan if value is None else float(value) for value in point] for point in points]
        return [point if len(point) == 3 else [*point, 1.0] for point in numbers]

    def build(self) -> Tracks:
        count = len(self._rows)
        points = np.array(self._points, dtype=np.float64).reshape(count, self._count or 0, 3)
        raw = None
        if any(values is not None for values in self._raw_points):
            raw = np.full_like(points, np.nan)
            for row, values in enumerate(self._raw_points):
                if values is not None:
                    raw[row] = values
        return Tracks.build(
            frames=[row[0] for row in self._rows],
            ids=[row[1] for row in self._rows],
            classes=[row[2] for row in self._rows],
            scores=[row[3] for row in self._rows],
            boxes=[row[4] for row in self._rows],
            keypoints=points,
            raw_keypoints=raw,
            interpolated=self._filled,
            frame_numbers=self._numbers,
            name=self._name or Path(self._file).stem,
            fps=self._fps(),
            size=self._size,
            class_names=self._class_names,
            schema=schema_of(self._names, self._count or 0),
            where=self._file,
        )

    def _fps(self) -> float:
        """Return the frame rate that the times imply; 0 if they are missing.

        Times are rounded to 0.1 ms, so the rate with the fewest decimals that agrees with them is returned.
        """
        if len(self._times) < 2:
            return 0.0
        (first, start), (last, end) = self._times[0], self._times[-1]
        if end <= start or last <= first:
            return 0.0
        rate = (last - first) / (end - start)
        tolerance = rate * 1.01e-4 / (end - start)
        return next((round(rate, digits) for digits in range(4) if abs(round(rate, digits) - rate) <= tolerance), rate)
