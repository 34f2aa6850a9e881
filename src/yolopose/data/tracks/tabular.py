"""Tracks as a table of one row per instance: CSV as `save_csv` writes it, and Parquet with the same columns."""

from __future__ import annotations

import csv
import importlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from yolopose.base.errors import DataError, DependencyError
from yolopose.base.files import AtomicTextFile, atomic_path, discard, output_error
from yolopose.base.text import csv_field, from_csv_field
from yolopose.data.tracks.tracks import MAX_FRAME, NO_ID, Floats, TrackFrame, Tracks, TrackWriter, schema_of

_COLUMNS = ("path", "frame", "track_id", "class", "name", "confidence", "x1", "y1", "x2", "y2")
_TEXT_COLUMNS = ("path", "name")
_BOX = ("x1", "y1", "x2", "y2")
_FIELDS = ("x", "y", "conf")
_RAW = "_raw"
"""Ending of a keypoint's name in the columns of measured points, `nose_raw_x`, where the points are smoothed."""
_INTERPOLATED = "interpolated"
_DECIMALS = 5
_ROWS_PER_GROUP = 20_000
_METADATA = b"yolopose"
"""Key of the metadata of a Parquet file: JSON of `name`, `fps`, `size`, `frames`, `keypoints`, `classes`."""


def _columns(video: Tracks, has_raw: bool) -> list[str]:
    """Return the columns: those of `save_csv`, then measured points and `interpolated` of smoothed tracks."""
    names = list(video.keypoint_names)
    columns = [*_COLUMNS, *(f"{name}_{field}" for name in names for field in _FIELDS)]
    if has_raw:
        columns += [*(f"{name}{_RAW}_{field}" for name in names for field in _FIELDS), _INTERPOLATED]
    return columns


def _frame_columns(frame: TrackFrame, video: Tracks, has_raw: bool) -> list[Any]:
    """Return the values of each column as a list of length N; None for empty cells."""
    count = len(frame.ids)
    classes = frame.classes.tolist()
    values: list[Any] = [
        [video.name] * count,
        [frame.number] * count,
        [None if track_id == NO_ID else track_id for track_id in frame.ids.tolist()],
        classes,
        [video.class_names.get(index, f"class{index}") for index in classes],
        frame.scores.round(_DECIMALS).tolist(),
        *frame.boxes.round(_DECIMALS).T.tolist(),
        *_point_columns(frame.keypoints),
    ]
    if has_raw:
        raw = frame.keypoints if frame.raw_keypoints is None else frame.raw_keypoints
        filled = np.zeros(count, bool) if frame.interpolated is None else frame.interpolated
        values += [*_point_columns(raw), filled.astype(int).tolist()]
    return values


def _point_columns(points: Floats) -> list[list[float | None]]:
    flat = points.round(_DECIMALS).reshape(len(points), points.shape[1] * points.shape[2]).T
    return [[None if value != value else value for value in column] for column in flat.tolist()]  # NaN is not itself


class CsvWriter(TrackWriter):
    """Writes one row per instance; the file appears when it is closed.

    Args:
        path: final path.
        video: tracks whose name, class names and keypoint names are written; instances are ignored.
        has_raw: whether measured points are written beside smoothed ones.
    """

    def __init__(self, path: Path, video: Tracks, has_raw: bool) -> None:
        self._video = video
        self._has_raw = has_raw
        self._file = AtomicTextFile(path)
        self._writer = csv.writer(self._file, lineterminator="\n")
        self._writer.writerow([csv_field(name) for name in _columns(video, has_raw)])

    def write(self, frame: TrackFrame) -> None:
        """Add the instances of one frame."""
        columns = _frame_columns(frame, self._video, self._has_raw)
        names = _columns(self._video, self._has_raw)
        for name in _TEXT_COLUMNS:
            columns[names.index(name)] = [csv_field(value) for value in columns[names.index(name)]]
        self._writer.writerows(zip(*columns, strict=True))

    def next_video(self, video: Tracks) -> None:
        """Start another video, whose keypoints must be the same."""
        _check_keypoints(self._video, video)
        self._video = video

    def close(self) -> None:
        """Rename the file to its final path."""
        self._file.close()

    def discard(self) -> None:
        """Remove the temporary file."""
        self._file.discard()


def _check_keypoints(first: Tracks, second: Tracks) -> None:
    if first.keypoint_names != second.keypoint_names:
        raise DataError(
            f"A table holds videos with the same keypoints, but those of {second.name!r} are "
            f"{', '.join(second.keypoint_names) or 'none'}, not {', '.join(first.keypoint_names) or 'none'}."
        )


def require_pyarrow() -> Any:
    """Import pyarrow with its Parquet module.

    Raises:
        DependencyError: it is not installed.
    """
    try:
        importlib.import_module("pyarrow.parquet")
        return importlib.import_module("pyarrow")
    except ImportError as error:
        raise DependencyError(
            'Parquet files need pyarrow, which is not installed. Install with: pip install "yolopose[parquet]", or use '
            "another format (.jsonl, .csv)."
        ) from error


class ParquetWriter(TrackWriter):
    """Writes one row per instance with zstd compression; the file appears when it is closed.

    Args:
        path: final path.
        video: tracks whose name, rate, size, class names and keypoint names are written; instances are ignored.
        has_raw: whether measured points are written beside smoothed ones.

    Raises:
        DependencyError: pyarrow is not installed.
    """

    def __init__(self, path: Path, video: Tracks, has_raw: bool) -> None:
        self._arrow = require_pyarrow()
        self._path = path
        self._video = video
        self._has_raw = has_raw
        self._names = _columns(video, has_raw)
        self._buffer: list[list[Any]] = [[] for _ in self._names]
        self._numbers: list[int] = []
        self._num_videos = 1
        self._schema = self._arrow.schema([(name, self._type(name)) for name in self._names])
        with ExitStack() as stack:
            temporary = stack.enter_context(atomic_path(path))
            writer = self._arrow.parquet.ParquetWriter(temporary, self._schema, compression="zstd")
            self._writer = stack.enter_context(writer)
            self._stack = stack.pop_all()
        self._is_open = True

    def _type(self, name: str) -> Any:
        kinds = {"path": "string", "name": "string", "frame": "int64", "track_id": "int64", "class": "int32"}
        return self._arrow.int8() if name == _INTERPOLATED else getattr(self._arrow, kinds.get(name, "float64"))()

    def write(self, frame: TrackFrame) -> None:
        """Add the instances of one frame."""
        self._numbers.append(frame.number)
        for column, values in zip(self._buffer, _frame_columns(frame, self._video, self._has_raw), strict=True):
            column += values
        if len(self._buffer[0]) >= _ROWS_PER_GROUP:
            self._flush()

    def next_video(self, video: Tracks) -> None:
        """Start another video, whose keypoints must be the same."""
        _check_keypoints(self._video, video)
        self._video = video
        self._num_videos += 1

    def _flush(self) -> None:
        try:
            self._writer.write_table(self._arrow.table(self._buffer, schema=self._schema))
        except OSError as error:
            self.discard()
            raise output_error(self._path, error) from error
        self._buffer = [[] for _ in self._names]

    def close(self) -> None:
        """Write the last rows and the metadata, and rename the file to its final path."""
        if not self._is_open:
            return
        self._flush()
        self._is_open = False
        self._writer.add_key_value_metadata({_METADATA: json.dumps(self._metadata()).encode()})
        self._stack.close()

    def _metadata(self) -> dict[str, Any]:
        video = self._video
        numbers = np.array(self._numbers, dtype=np.int64)
        is_range = len(numbers) > 0 and np.array_equal(numbers, np.arange(1, len(numbers) + 1))
        if self._num_videos > 1:  # the frames of one video are not those of another
            return {}
        return {
            "name": video.name,
            "fps": video.fps,
            "size": None if video.size is None else list(video.size),
            "frames": len(numbers) if is_range else numbers.tolist(),
            "keypoints": list(video.keypoint_names) if video.schema is not None and video.schema.names else None,
            "classes": {str(index): name for index, name in video.class_names.items()},
        }

    def discard(self) -> None:
        """Remove the temporary file."""
        if self._is_open:
            self._is_open = False
            discard(self._stack)


def read_csv(path: Path) -> list[Tracks]:
    """Read the tracks of each video (column `path`) in a file of `save_csv`.

    Frames without instances are not in the file. Rows of images (without a frame number) are grouped by folder and
    numbered by image.

    Raises:
        DataError: a column is missing or a cell is not a number; the message has the line.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            header = [from_csv_field(name) for name in next(reader, [])]
            rows = [row for row in reader if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is not a CSV file ({error}).") from error
    _check_header(path, header)
    for number, row in enumerate(rows, 2):
        if len(row) != len(header):
            raise DataError(f"{path}, line {number}: {len(row)} columns, expected {len(header)}.")
    columns = {name: [row[index] for row in rows] for index, name in enumerate(header)}
    for name in _TEXT_COLUMNS:
        columns[name] = [from_csv_field(text) for text in columns[name]]
    return _build(path, columns, lambda name: _to_numbers(path, name, columns[name]), {})


def _to_numbers(path: Path, name: str, texts: Sequence[str]) -> Floats:
    values: list[float] = []
    for number, text in enumerate(texts, 2):
        try:
            values.append(float(text) if text.strip() else np.nan)
        except ValueError:
            raise DataError(f"{path}, line {number}: {name} is {text!r}, which is not a number.") from None
    return np.array(values, dtype=np.float64)


def read_parquet(path: Path) -> list[Tracks]:
    """Read the tracks of each video in a Parquet file with the columns of `save_csv`.

    Raises:
        DataError: it is not a Parquet file, or a column is missing.
        DependencyError: pyarrow is not installed.
    """
    arrow = require_pyarrow()
    try:
        with arrow.parquet.ParquetFile(path) as file:
            table = file.read()
            stored = file.metadata.metadata or {}
    except (arrow.ArrowInvalid, arrow.ArrowException, OSError) as error:
        raise DataError(f"{path} is not a Parquet file ({error}).") from error
    _check_header(path, table.column_names)
    metadata = _read_metadata(path, stored.get(_METADATA, b"{}"))
    columns = {name: table.column(name).to_pylist() for name in ("path", "name")}

    def numbers(name: str) -> Floats:
        try:
            return np.array(table.column(name).cast(arrow.float64()).fill_null(np.nan).to_numpy(), dtype=np.float64)
        except arrow.ArrowException as error:
            raise DataError(f"{path}: the column {name} does not hold numbers ({error}).") from error

    return _build(path, columns, numbers, metadata, header=table.column_names)


def _read_metadata(path: Path, text: bytes) -> dict[str, Any]:
    """Return the metadata of a Parquet file of this package; empty for files of others."""
    try:
        values = json.loads(text)
        size, fps = values.get("size"), float(values.get("fps") or 0)
        frames = values.get("frames")
        return {
            "name": str(values.get("name", path.stem)),
            "fps": fps,
            "size": None if size is None else (int(size[0]), int(size[1])),
            "frames": np.arange(1, min(frames, MAX_FRAME) + 1) if isinstance(frames, int) else frames,
            "classes": {int(key): str(value) for key, value in values.get("classes", {}).items()},
        }
    except (ValueError, TypeError, AttributeError, KeyError, IndexError, OverflowError) as error:
        raise DataError(f"{path}: the metadata {text[:80]!r} are damaged ({error}).") from error


def _check_header(path: Path, header: Sequence[str]) -> None:
    missing = [name for name in _COLUMNS if name not in header]
    if missing:
        raise DataError(
            f"{path} is not a table of tracks: the columns {', '.join(missing)} are missing. It needs "
            f"{', '.join(_COLUMNS)}, and NAME_x, NAME_y, NAME_conf for each keypoint."
        )


def _build(
    path: Path,
    columns: Mapping[str, Sequence[Any]],
    numbers: Callable[[str], Floats],
    metadata: Mapping[str, Any],
    header: Sequence[str] | None = None,
) -> list[Tracks]:
    """Return the tracks of each video.

    Args:
        path: the file, for error messages.
        columns: at least `path` and `name`, as text.
        numbers: returns the values of a column.
        metadata: of a Parquet file.
        header: names of all columns; those of `columns` by default.
    """
    header = list(columns) if header is None else header
    keypoints = [name[:-2] for name in header if name.endswith("_x") and not name.endswith(("_sigma_x", f"{_RAW}_x"))]
    points = _read_points(header, keypoints, numbers)
    has_raw = any(name.endswith(f"{_RAW}_x") for name in header)
    raw = _read_points(header, [f"{name}{_RAW}" for name in keypoints], numbers) if has_raw else None
    filled = numbers(_INTERPOLATED) == 1 if _INTERPOLATED in header else np.zeros(len(points), bool)
    if raw is not None:
        raw[filled] = np.nan
    boxes = np.stack([numbers(name) for name in _BOX], axis=1)
    ids, classes, frames = numbers("track_id"), np.nan_to_num(numbers("class")), numbers("frame")
    scores = numbers("confidence")
    videos, frames = _video_rows([str(name) for name in columns["path"]], frames)
    generic = tuple(f"keypoint_{index}" for index in range(len(keypoints)))
    names = tuple(keypoints) if tuple(keypoints) != generic else None
    result: list[Tracks] = []
    for name, rows in videos.items() or {str(metadata.get("name", path.stem)): np.zeros(0, np.int64)}.items():
        labels = {int(classes[row]): str(columns["name"][row]) for row in rows.tolist()}
        tracks = Tracks.build(
            frames=frames[rows],
            ids=np.where(np.isnan(ids), NO_ID, ids)[rows],
            boxes=boxes[rows],
            scores=np.where(np.isnan(scores), 1.0, scores)[rows],
            classes=classes[rows],
            keypoints=points[rows],
            raw_keypoints=None if raw is None else raw[rows],
            interpolated=filled[rows],
            frame_numbers=metadata.get("frames") if len(videos) <= 1 else None,
            name=name,
            fps=metadata.get("fps", 0.0),
            size=metadata.get("size"),
            class_names=metadata.get("classes", {}) | labels,
            schema=schema_of(names, len(keypoints)),
            where=str(path),
        )
        result.append(tracks)
    return result


def _read_points(header: Sequence[str], names: Sequence[str], numbers: Callable[[str], Floats]) -> Floats:
    """Return (N, K, 3) points of columns; confidence 1 where the column is missing."""
    count = len(numbers("x1"))
    points = np.ones((count, len(names), 3))
    for index, name in enumerate(names):
        for axis, field in enumerate(_FIELDS):
            if f"{name}_{field}" in header:
                points[:, index, axis] = numbers(f"{name}_{field}")
    return points


def _video_rows(paths: list[str], frames: Floats) -> tuple[dict[str, np.ndarray], Floats]:
    """Return the row indices of each video, and frame numbers in which images are numbered within their folder."""
    frames = frames.copy()
    images: dict[str, dict[str, int]] = {}
    rows: dict[str, list[int]] = {}
    for row, name in enumerate(paths):
        if np.isnan(frames[row]):
            folder = str(Path(name).parent)
            numbers = images.setdefault(folder, {})
            frames[row] = numbers.setdefault(name, len(numbers) + 1)
            rows.setdefault(folder, []).append(row)
        else:
            rows.setdefault(name, []).append(row)
    return {name: np.array(indices, dtype=np.int64) for name, indices in rows.items()}, frames
