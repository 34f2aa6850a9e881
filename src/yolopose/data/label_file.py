"""Read and check one label file.

A row is `class cx cy w h` and, for each keypoint, `x y` or `x y v`; coordinates are normalized to 0…1 and values are
separated by blanks.

A keypoint is labeled if its v is not 0. v is 0 (not labeled), 1 (hidden), 2 (visible), or the confidence of a
prediction that serves as label. In rows without v, a keypoint is not labeled if a coordinate is negative. Training,
metrics, the COCO protocol and the conversion to COCO all use the v that is returned here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from yolopose.base.files import read_regular
from yolopose.base.text import one_line
from yolopose.schema import PoseSpec

MAX_LABEL_BYTES = 8 << 20
FloatArray = npt.NDArray[np.float32]
TOLERANCE = 0.01  # how far coordinates may leave 0…1: annotation tools round, and boxes touch the border
_BOX_COLUMNS = ("class", "cx", "cy", "w", "h")
_PLAIN_BYTES = b"0123456789.+-eE \t\r\n"  # of files that need no decoding as text
_MAX_CLASS = 1_000_000  # of files whose classes are all treated as one


@dataclass(frozen=True, slots=True)
class LabelIssue:
    """Why an image was refused.

    Attributes:
        file: the label file or image.
        row: line in the label file, from 1; None if the issue does not concern a line.
        column: value in that line, from 1, or None.
        kind: short description, equal for all issues of the same kind.
        reason: full description.
    """

    file: Path
    row: int | None
    column: int | None
    kind: str
    reason: str

    def __str__(self) -> str:
        row = "" if self.row is None else f", row {self.row}"
        column = "" if self.column is None else f", column {self.column}"
        return f"{one_line(self.file)}{row}{column}: {self.reason}"


class LabelError(Exception):
    """A label file, or its image, is not valid; attributes as of `LabelIssue`."""

    def __init__(self, kind: str, reason: str, row: int | None = None, column: int | None = None) -> None:
        super().__init__(reason)
        self.kind = kind
        self.reason = reason
        self.row = row
        self.column = column


@dataclass(frozen=True, slots=True)
class FileLabels:
    """The n instances of one label file.

    Attributes:
        classes: (n,) int32.
        boxes: (n, 4) cx, cy, w, h, normalized.
        keypoints: (n, K, 3) x, y, v, normalized; of the same type, float32 unless `precise`.
        warnings: short descriptions of unusual values that were accepted.
        rows: index of each instance among the rows of the file that are not blank; duplicates are dropped.
    """

    classes: npt.NDArray[np.int32]
    boxes: npt.NDArray[np.floating[Any]]
    keypoints: npt.NDArray[np.floating[Any]]
    warnings: tuple[str, ...] = ()
    rows: tuple[int, ...] = ()


def coco_visibility(v: float) -> int:
    """Return the visibility flag of COCO for the v of a label: 0, 1, or 2 also for the confidence of a prediction."""
    return int(v) if v in (0, 1) else 2


def read_label_file(path: Path, spec: PoseSpec, *, any_class: bool = False, precise: bool = False) -> FileLabels | None:
    """Read a label file; None if it does not exist.

    Args:
        path: the file.
        spec: number of classes and shape of the keypoints.
        any_class: accept classes that the spec does not have, since all are treated as one (`single_cls`).
        precise: return all digits, as float64.

    Raises:
        LabelError: the file cannot be read or is not valid.
    """
    data = read_label_bytes(path)
    return None if data is None else parse_labels(data, spec, any_class=any_class, precise=precise)


def read_label_bytes(path: str | Path) -> bytes | None:
    """Return the contents of a label file; None if it does not exist.

    Raises:
        LabelError: the file cannot be read.
    """
    try:
        return read_regular(path, MAX_LABEL_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise LabelError("unreadable", f"the file cannot be read ({error.strerror or error})") from error


def parse_labels(data: bytes, spec: PoseSpec, *, any_class: bool = False, precise: bool = False) -> FileLabels:
    """Parse the contents of a label file; see `read_label_file`."""
    lines, rows = _split_rows(data)
    count, dims = spec.keypoints.shape
    width = len(_BOX_COLUMNS) + count * dims
    for line, row in zip(lines, rows, strict=True):
        if len(row) != width:
            _raise_wrong_length(row, width, spec.keypoints.shape, line)
    values = _to_array(lines, rows, width)
    table = _to_float32(values)
    warnings: list[str] = []
    if not _ordinary_rows(table, spec).all():
        _check_values(table, lines, spec, any_class)
        warnings = _unusual_values(table, dims)
    # In reverse order, so that the first of equal rows is the one that remains. numpy.unique would take most of the
    # time of the whole parse.
    first_index = {row.tobytes(): index for index, row in reversed(list(enumerate(table)))}
    row_idx = sorted(first_index.values())
    if len(row_idx) < len(table):
        warnings.append("duplicate rows dropped")
    if precise:
        table = values
    table = table if len(row_idx) == len(table) else table[row_idx]
    return FileLabels(
        classes=table[:, 0].astype(np.int32),
        boxes=table[:, 1:5],
        keypoints=_keypoints(table, count, dims),
        warnings=tuple(warnings),
        rows=tuple(row_idx),
    )


def parse_label_files(
    contents: Sequence[bytes], spec: PoseSpec, *, any_class: bool = False
) -> list[FileLabels | LabelError]:
    """Parse the contents of many label files, several times as fast as one by one; see `read_label_file`.

    Args:
        contents: the files.
        spec: number of classes and shape of the keypoints.
        any_class: accept classes that the spec does not have.

    Returns:
        The same as `parse_labels` for each file, or the error that it raises.
    """
    count, dims = spec.keypoints.shape
    width = len(_BOX_COLUMNS) + count * dims
    tokens: list[bytes] = []
    sizes: list[int] = []  # rows of each file; -1 if it needs `parse_labels`
    for data in contents:
        rows = [row for row in map(bytes.split, data.split(b"\n")) if row]
        is_plain = not data.translate(None, _PLAIN_BYTES) and all(len(row) == width for row in rows)
        sizes.append(len(rows) if is_plain else -1)
        if is_plain:
            tokens += chain.from_iterable(rows)
    try:
        table = _to_float32(np.array([float(token) for token in tokens], dtype=np.float64).reshape(-1, width))
    except ValueError:  # a token such as 1-2, in any of the files
        table = np.zeros((0, width), dtype=np.float32)
        sizes = [-1] * len(contents)
    is_ordinary: list[bool] = _ordinary_rows(table, spec).tolist()
    row_keys = table.view(np.dtype((np.void, table.itemsize * width))).ravel().tolist()
    classes, boxes, keypoints = table[:, 0].astype(np.int32), table[:, 1:5], _keypoints(table, count, dims)
    results: list[FileLabels | LabelError] = []
    start = 0
    for data, size in zip(contents, sizes, strict=True):
        end = start + max(size, 0)
        if size >= 0 and all(is_ordinary[start:end]) and len(set(row_keys[start:end])) == size:
            rows = slice(start, end)
            results.append(FileLabels(classes[rows], boxes[rows], keypoints[rows], (), tuple(range(size))))
        else:
            results.append(_parse_or_error(data, spec, any_class))
        start = end
    return results


def _parse_or_error(data: bytes, spec: PoseSpec, any_class: bool) -> FileLabels | LabelError:
    try:
        return parse_labels(data, spec, any_class=any_class)
    except LabelError as error:
        return error


def _to_float32(values: npt.NDArray[np.float64]) -> FloatArray:
    with np.errstate(over="ignore", under="ignore"):  # 1e300 becomes infinite, which is refused
        return values.astype(np.float32)


def _split_rows(data: bytes) -> tuple[list[int], list[list[str]]]:
    """Return line numbers and values of all lines that are not blank."""
    try:
        text = data.decode("utf-8-sig")  # editors on Windows write a byte order mark
    except UnicodeDecodeError as error:
        row = data.count(b"\n", 0, error.start) + 1
        column = len((data[: error.start].rsplit(b"\n", 1)[-1] + b"x").split())
        raise LabelError("not UTF-8", "the file is not UTF-8 text; save it as UTF-8", row, column) from error
    rows = [(line, text_row.split()) for line, text_row in enumerate(text.split("\n"), 1)]
    return [line for line, row in rows if row], [row for _, row in rows if row]


def _raise_wrong_length(row: list[str], width: int, kpt_shape: tuple[int, int], line: int) -> NoReturn:
    count, dims = kpt_shape
    hint = ""
    if len(row) == len(_BOX_COLUMNS):
        hint = "; this is the format of detection labels, without keypoints"
    elif "," in row[0]:
        hint = "; separate them by blanks, not by commas"
    elif len(row) == width + 1:
        hint = "; the additional last value may be the confidence of predictions saved with save_conf=True"
    elif guess := _guess_kpt_shape(row):
        hint = f"; this matches `kpt_shape: {list(guess)}` in the data YAML"
    raise LabelError(
        "wrong number of values",
        f"the row has {len(row)} values, but kpt_shape [{count}, {dims}] needs 5 + {count}·{dims} = {width}{hint}",
        line,
        min(len(row), width) + 1,
    )


def _guess_kpt_shape(row: list[str]) -> tuple[int, int] | None:
    """Return the kpt_shape that a row has the right length for; x y v if every third value is 0, 1 or 2."""
    count = len(row) - len(_BOX_COLUMNS)
    has_visibility = all(_is_number(value) and float(value) in (0, 1, 2) for value in row[7::3])
    for dims in (3, 2) if has_visibility else (2, 3):
        if count > 0 and count % dims == 0:
            return count // dims, dims
    return None


def _to_array(lines: list[int], rows: list[list[str]], width: int) -> npt.NDArray[np.float64]:
    try:
        values = [[float(value) for value in row] for row in rows]
    except ValueError:
        for line, row in zip(lines, rows, strict=True):
            for column, value in enumerate(row, 1):
                if not _is_number(value):
                    raise LabelError("not a number", f"{value[:40]!r} is not a number", line, column) from None
        raise
    return np.array(values, dtype=np.float64).reshape(-1, width)


def _is_number(value: str) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return True


def _ordinary_rows(table: FloatArray, spec: PoseSpec) -> npt.NDArray[np.bool_]:
    """Return (n,) for which rows no check can fail and nothing is unusual: nearly all."""
    in_range = (table >= 0) & (table <= 1)  # False for NaN
    classes = table[:, 0]
    in_range[:, 0] = (classes >= 0) & (classes < spec.nc) & (classes == np.floor(classes))
    in_range[:, 3:5] &= table[:, 3:5] > 0
    if spec.keypoints.dims == 3:
        visibility = table[:, 7::3]
        in_range[:, 7::3] |= visibility == 2
        in_range[:, 7::3] &= visibility == np.floor(visibility)
    else:
        in_range[:, 5:] &= table[:, 5:] > 0
    return np.logical_and.reduce(in_range, axis=1)


def _check_values(table: FloatArray, lines: list[int], spec: PoseSpec, any_class: bool) -> None:
    """Raise for the first value that violates a rule, one rule after the other."""
    dims = spec.keypoints.dims
    classes = table[:, 0]
    negative = table < -TOLERANCE
    negative[:, 3:5] |= table[:, 3:5] < 0  # a size
    large = table > 1 + TOLERANCE
    large[:, 0] = False
    if dims == 3:
        visibility = table[:, 7::3]
        negative[:, 7::3] |= visibility < 0
        large[:, 7::3] = False  # not a coordinate
        # CVAT and others write coordinates outside the image for points that they declare as not labeled
        for outside in (negative, large):
            outside[:, 5::3] &= visibility != 0
            outside[:, 6::3] &= visibility != 0
    else:
        negative[:, 5:] = False  # a negative coordinate marks a keypoint that is not labeled
    last_class = _MAX_CLASS if any_class else spec.nc - 1
    wrong_class = np.zeros_like(negative)
    wrong_class[:, 0] = (classes != np.floor(classes)) | (classes < 0) | (classes > last_class)
    rules = (
        (~np.isfinite(table), "not finite", "is not finite"),
        (wrong_class, "wrong class", f"is not a class: classes are integers from 0 to {last_class}"),
        (negative, "negative value", "is negative"),
        (large, "above 1", "is above 1: coordinates are relative to the width and height of the image"),
    )
    for violated, kind, message in rules:
        if violated.any():
            row, column = (int(index) for index in np.argwhere(violated)[0])
            value = float(table[row, column])
            text = f"{value:.6g}" if math.isfinite(value) else str(value)
            raise LabelError(kind, f"{_column_name(column, dims)} {text} {message}", lines[row], column + 1)


def _column_name(column: int, dims: int) -> str:
    if column < len(_BOX_COLUMNS):
        return _BOX_COLUMNS[column]
    keypoint, part = divmod(column - len(_BOX_COLUMNS), dims)
    return f"{'xyv'[part]} of keypoint {keypoint}"


def _keypoints(table: npt.NDArray[Any], count: int, dims: int) -> npt.NDArray[Any]:
    """Return (n, K, 3) keypoints; the coordinates of a keypoint that is not labeled are 0 if they leave the image."""
    keypoints = table[:, len(_BOX_COLUMNS) :].reshape(-1, count, dims)
    xy = keypoints[..., :2]
    if dims == 2:
        labeled = (xy >= 0).all(axis=2, keepdims=True)
        return np.concatenate((keypoints, labeled.astype(table.dtype)), axis=2)
    outside = (keypoints[..., 2] == 0) & ((xy < -TOLERANCE) | (xy > 1 + TOLERANCE)).any(axis=2)
    if outside.any():
        keypoints = keypoints.copy()
        keypoints[outside] = 0
    return keypoints


def _unusual_values(table: FloatArray, dims: int) -> list[str]:
    warnings: list[str] = []
    if (table[:, 3:5] == 0).any():
        warnings.append("boxes without width or height (they count as instances)")
    x = table[:, 5::dims]
    y = table[:, 6::dims]
    if dims == 2:
        if ((x == 0) & (y == 0)).any():
            warnings.append("keypoints at 0 0 (they count as labeled: write -1 -1 for those that are not)")
        return warnings
    visibility = table[:, 7::3]
    if not np.isin(visibility, (0, 1, 2)).all():
        warnings.append("visibility other than 0, 1, 2 (all except 0 count as labeled)")
    unlabeled = visibility == 0
    if (unlabeled & ((x < -TOLERANCE) | (y < -TOLERANCE) | (x > 1 + TOLERANCE) | (y > 1 + TOLERANCE))).any():
        warnings.append("keypoints with v = 0 outside the image (their coordinates are ignored)")
    return warnings
