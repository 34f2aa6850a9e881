"""Read and check one label file.

A row is `class cx cy w h` and, for each keypoint, `x y` or `x y v`; coordinates are normalized to 0…1 and values are
separated by blanks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
import numpy.typing as npt

from yolopose.schema import PoseSpec

FloatArray = npt.NDArray[np.float32]
TOLERANCE = 0.01  # how far coordinates may leave 0…1: annotation tools round, and boxes touch the border
_BOX_COLUMNS = ("class", "cx", "cy", "w", "h")


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
        return f"{self.file}{row}{column}: {self.reason}"


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
        boxes: (n, 4) float32 cx, cy, w, h, normalized.
        keypoints: (n, K, 3) float32 x, y, v, normalized.
        warnings: short descriptions of unusual values that were accepted.
    """

    classes: npt.NDArray[np.int32]
    boxes: FloatArray
    keypoints: FloatArray
    warnings: tuple[str, ...] = ()


def read_label_file(path: Path, spec: PoseSpec) -> FileLabels | None:
    """Read a label file; None if it does not exist.

    Args:
        path: the file.
        spec: number of classes and shape of the keypoints.

    Raises:
        LabelError: the file cannot be read or is not valid.
    """
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise LabelError("unreadable", f"the file cannot be read ({error.strerror or error})") from error
    return parse_labels(data, spec)


def parse_labels(data: bytes, spec: PoseSpec) -> FileLabels:
    """Parse the contents of a label file; see `read_label_file`."""
    lines, rows = _split_rows(data)
    dims = spec.keypoints.dims
    width = len(_BOX_COLUMNS) + spec.keypoints.count * dims
    for line, row in zip(lines, rows, strict=True):
        if len(row) != width:
            _raise_wrong_length(row, width, spec.keypoints.shape, line)
    table = _to_array(lines, rows, width)
    _check_values(table, lines, spec)
    warnings = _unusual_values(table, dims)
    # In reverse order, so that the first of equal rows is the one that remains. numpy.unique would take most of the
    # time of the whole parse.
    first_index = {row.tobytes(): index for index, row in reversed(list(enumerate(table)))}
    if len(first_index) < len(table):
        table = table[sorted(first_index.values())]
        warnings.append("duplicate rows dropped")
    return FileLabels(
        classes=table[:, 0].astype(np.int32),
        boxes=table[:, 1:5],
        keypoints=_keypoints(table, spec),
        warnings=tuple(warnings),
    )


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


def _to_array(lines: list[int], rows: list[list[str]], width: int) -> FloatArray:
    try:
        values = [[float(value) for value in row] for row in rows]
    except ValueError:
        for line, row in zip(lines, rows, strict=True):
            for column, value in enumerate(row, 1):
                if not _is_number(value):
                    raise LabelError("not a number", f"{value[:40]!r} is not a number", line, column) from None
        raise
    with np.errstate(over="ignore"):  # 1e300 becomes infinite, which is refused below
        return np.array(values, dtype=np.float32).reshape(-1, width)


def _is_number(value: str) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return True


def _check_values(table: FloatArray, lines: list[int], spec: PoseSpec) -> None:
    """Raise for the first value that violates a rule, one rule after the other."""
    dims = spec.keypoints.dims
    classes = table[:, 0]
    sizes = table[:, 3:5]
    negative = table < -TOLERANCE
    negative[:, 3:5] |= sizes < 0
    large = table > 1 + TOLERANCE
    large[:, 0] = False
    if dims == 3:
        large[:, 7::3] = False  # visibility is not a coordinate
    else:
        negative[:, 5:] = False  # a negative coordinate marks a keypoint that is not labeled
    wrong_class = np.zeros_like(negative)
    wrong_class[:, 0] = (classes != np.floor(classes)) | (classes < 0) | (classes >= spec.nc)
    rules = (
        (~np.isfinite(table), "not finite", "is not finite"),
        (wrong_class, "wrong class", f"is not a class: classes are integers from 0 to {spec.nc - 1}"),
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


def _keypoints(table: FloatArray, spec: PoseSpec) -> FloatArray:
    """Return (n, K, 3) keypoints; with D = 2, v is 0 where a coordinate is negative, otherwise 1."""
    count, dims = spec.keypoints.shape
    keypoints = table[:, len(_BOX_COLUMNS) :].reshape(-1, count, dims)
    if dims == 3:
        return keypoints
    labeled = (keypoints >= 0).all(axis=2, keepdims=True).astype(np.float32)
    return np.concatenate((keypoints, labeled), axis=2)


def _unusual_values(table: FloatArray, dims: int) -> list[str]:
    warnings: list[str] = []
    if (table[:, 3:5] == 0).any():
        warnings.append("boxes without width or height (they count as instances)")
    visibility = table[:, 7::3] if dims == 3 else table[:, :0]
    if not np.isin(visibility, (0, 1, 2)).all():
        warnings.append("visibility other than 0, 1, 2 (all except 0 count as labeled)")
    return warnings
