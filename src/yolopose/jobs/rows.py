"""Rows of the output: one for each image or frame, as Parquet; writing, and reading as numpy arrays."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from yolopose.base.errors import DependencyError
from yolopose.results import Results
from yolopose.results.arrays import to_numpy

SCHEMA_VERSION = 1
METADATA = b"yolopose"
"""Key of the metadata of each output file: JSON of `ShardInfo`."""
_ROWS_PER_GROUP = 2000
_COMPRESSION = "zstd"


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
            'Jobs write Parquet files with pyarrow, which is not installed. Install with: pip install "yolopose[jobs]"'
        ) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardInfo:
    """What an output file contains; stored in its metadata.

    Attributes:
        job: SHA-256 of the network and of the options that change predictions.
        shard: number of the file.
        inputs: SHA-256 of the paths of its inputs.
        model: file name of the network.
        model_sha256: SHA-256 of the network.
        classes: class names by index.
        keypoints: keypoint names of each class by its index; empty if the network stores none.
        kpt_shape: (K, D): number of keypoints, and of values for each (2: x, y; 3: x, y, confidence).
        version: of the columns.
    """

    job: str
    shard: int
    inputs: str
    model: str
    model_sha256: str
    classes: Mapping[int, str]
    keypoints: Mapping[int, Sequence[str]]
    kpt_shape: tuple[int, int]
    version: int = SCHEMA_VERSION

    def to_json(self) -> str:
        """Return the values as JSON, always in the same order."""
        return json.dumps(asdict(self), sort_keys=True)


def row_schema(info: ShardInfo | None = None) -> Any:
    """Return the Arrow schema of the rows.

    Args:
        info: stored as metadata, or None.
    """
    arrow = require_pyarrow()
    floats = arrow.list_(arrow.float32())
    fields = [
        ("path", arrow.string()),
        ("frame", arrow.int32()),
        ("time", arrow.float64()),
        ("width", arrow.int32()),
        ("height", arrow.int32()),
        ("boxes", arrow.list_(floats)),
        ("scores", floats),
        ("classes", arrow.list_(arrow.int32())),
        ("keypoints", arrow.list_(arrow.list_(floats))),
        ("ids", arrow.list_(arrow.int64())),
        ("model", arrow.string()),
        ("error", arrow.string()),
    ]
    metadata = None if info is None else {METADATA: info.to_json().encode()}
    return arrow.schema(fields, metadata=metadata)


@dataclass(frozen=True, slots=True)
class _Row:
    path: str
    frame: int | None
    time: float | None
    size: tuple[int, int] | None
    error: str | None
    boxes: npt.NDArray[np.float32]
    keypoints: npt.NDArray[np.float32]
    has_ids: bool


class RowBuffer:
    """Collects rows, and converts them to an Arrow table.

    Args:
        info: metadata of the rows.

    Attributes:
        schema: Arrow schema of the table.
        rows: number of rows added since the start.
        errors: number of those with an error.
    """

    def __init__(self, info: ShardInfo) -> None:
        self._arrow = require_pyarrow()
        self._info = info
        self._buffer: list[_Row] = []
        self._no_points = np.zeros((0, *info.kpt_shape), np.float32)
        self._no_boxes = np.zeros((0, 6), np.float32)
        self.schema = row_schema(info)
        self.rows = 0
        self.errors = 0

    def __len__(self) -> int:
        return len(self._buffer)

    def add(self, path: str, result: Results) -> None:
        """Add the row of a result.

        Args:
            path: path of the input.
            result: its result, or that of one of its frames.
        """
        if result.error is not None:
            self.add_error(path, result.error)
            return
        boxes = to_numpy(result.boxes.data)
        points = to_numpy(result.keypoints.data)
        if not points.size:
            points = np.zeros((len(boxes), *self._info.kpt_shape), np.float32)
        frame = result.frame
        number, time = (None, None) if frame is None else (frame.number, frame.seconds)
        self._append(
            _Row(
                path,
                number,
                time,
                result.orig_shape,
                None,
                boxes.astype(np.float32, copy=False),
                points.astype(np.float32, copy=False),
                boxes.shape[1] == 7,
            )
        )

    def add_error(self, path: str, error: str) -> None:
        """Add the row of an input that could not be predicted."""
        self._append(_Row(path, None, None, None, error, self._no_boxes, self._no_points, False))
        self.errors += 1

    def _append(self, row: _Row) -> None:
        self.rows += 1
        self._buffer.append(row)

    def take_table(self) -> Any:
        """Return the collected rows as a table, and forget them."""
        arrow = self._arrow
        rows = self._buffer
        self._buffer = []
        if not rows:
            return self.schema.empty_table()
        counts = np.array([len(row.boxes) for row in rows])
        failed = np.array([row.error is not None for row in rows], dtype=bool)
        columns = [
            arrow.array([_valid_text(row.path) for row in rows]),
            arrow.array([row.frame for row in rows], arrow.int32()),
            arrow.array([row.time for row in rows], arrow.float64()),
            arrow.array([row.size and row.size[1] for row in rows], arrow.int32()),
            arrow.array([row.size and row.size[0] for row in rows], arrow.int32()),
            *self._instances(rows, counts, failed),
            arrow.array([self._info.model_sha256] * len(rows)),
            arrow.array([row.error and _valid_text(row.error) for row in rows], arrow.string()),
        ]
        arrays = [column.cast(field.type) for column, field in zip(columns, self.schema, strict=True)]
        return arrow.Table.from_arrays(arrays, schema=self.schema)

    def _instances(self, rows: list[_Row], counts: npt.NDArray[Any], failed: npt.NDArray[np.bool_]) -> Iterator[Any]:
        """Yield the columns `boxes`, `scores`, `classes`, `keypoints` and `ids`."""
        boxes = np.concatenate([row.boxes[:, :4] for row in rows])
        points = np.concatenate([row.keypoints for row in rows])
        num_points, dims = self._info.kpt_shape
        yield self._lists(counts, failed, self._chunks(boxes.ravel(), 4, len(boxes)))
        yield self._lists(counts, failed, np.concatenate([row.boxes[:, -2] for row in rows]))
        yield self._lists(counts, failed, np.concatenate([row.boxes[:, -1] for row in rows]).astype(np.int32))
        values = self._chunks(points.ravel(), dims, len(points) * num_points)
        yield self._lists(counts, failed, self._chunks(values, num_points, len(points)))
        untracked = np.array([not row.has_ids for row in rows], dtype=bool)
        ids = np.concatenate([row.boxes[:, 4] if row.has_ids else self._no_boxes[:, 0] for row in rows])
        yield self._lists(np.where(untracked, 0, counts), untracked, ids)

    def _lists(self, counts: npt.NDArray[Any], nulls: npt.NDArray[np.bool_], values: Any) -> Any:
        """Return a list for each row, null where `nulls`."""
        offsets = np.concatenate(([0], np.cumsum(counts))).astype(np.int32)
        return self._arrow.ListArray.from_arrays(
            self._arrow.array(offsets), self._arrow.array(values), mask=self._arrow.array(nulls)
        )

    def _chunks(self, values: Any, size: int, count: int) -> Any:
        """Return `count` lists of `size` values each."""
        offsets = np.arange(count + 1, dtype=np.int32) * size
        return self._arrow.ListArray.from_arrays(self._arrow.array(offsets), self._arrow.array(values))


class RowWriter(RowBuffer):
    """Writes the rows of one shard; at most some thousand rows are in memory.

    Args:
        file: binary file, written from start to end.
        info: metadata of the shard.
    """

    def __init__(self, file: Any, info: ShardInfo) -> None:
        super().__init__(info)
        self._writer = require_pyarrow().parquet.ParquetWriter(file, self.schema, compression=_COMPRESSION)

    def __enter__(self) -> RowWriter:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None:
            self.close()
            return
        with suppress(Exception):  # the file is discarded
            self._writer.close()

    def _append(self, row: _Row) -> None:
        super()._append(row)
        if len(self) == _ROWS_PER_GROUP:
            self._writer.write_table(self.take_table())

    def close(self) -> None:
        """Write the remaining rows and the end of the file."""
        if len(self) or not self.rows:
            self._writer.write_table(self.take_table())
        self._writer.close()


def _valid_text(text: str) -> str:
    """Return text as valid UTF-8: bytes of file names in other encodings become escapes."""
    return text.encode("utf-8", "backslashreplace").decode()


def read_file(file: Any) -> Iterator[dict[str, Any]]:
    """Yield the rows of an output file in order.

    Args:
        file: path or open binary file.

    Yields:
        The columns by name; `boxes` as (N, 4), `scores`, `classes` and `ids` as (N,), `keypoints` as (N, K, D) arrays;
        None where a row has no value.
    """
    opened = require_pyarrow().parquet.ParquetFile(file)
    info = read_info(opened)
    kpt_shape = tuple(info["kpt_shape"])
    for batch in opened.iter_batches(_ROWS_PER_GROUP):
        columns = {name: batch.column(name) for name in batch.schema.names}
        for index in range(batch.num_rows):
            row: dict[str, Any] = {}
            for name, column in columns.items():
                row[name] = _value(name, column[index], kpt_shape)
            yield row


def _value(name: str, scalar: Any, kpt_shape: tuple[int, ...]) -> Any:
    if not scalar.is_valid or name not in _ARRAYS:
        return scalar.as_py()
    dtype, shape = _ARRAYS[name]
    values = scalar.values
    while hasattr(values, "offsets"):
        values = values.flatten()
    tail = kpt_shape if name == "keypoints" else shape
    return values.to_numpy(zero_copy_only=False).astype(dtype, copy=False).reshape(-1, *tail)


_ARRAYS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "boxes": (np.float32, (4,)),
    "scores": (np.float32, ()),
    "classes": (np.int32, ()),
    "keypoints": (np.float32, ()),
    "ids": (np.int64, ()),
}


def read_info(opened: Any) -> dict[str, Any]:
    """Return the metadata of an open `pyarrow.parquet.ParquetFile`; empty if it is not an output of a job."""
    metadata: Mapping[bytes, bytes] = opened.schema_arrow.metadata or {}
    return json.loads(metadata.get(METADATA, b"{}"))
