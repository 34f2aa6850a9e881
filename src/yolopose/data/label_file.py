"""One label file: its rows read and checked.

A row is `class cx cy w h` and for each keypoint `x y` or `x y v`, normalized 0…1, separated by blanks.
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
TOLERANCE = 0.01  # a coordinate may miss 0…1 by that much: annotation tools round, and boxes touch the border
_BOX = ("cx", "cy", "w", "h")


@dataclass(frozen=True, slots=True)
class LabelIssue:
    """Why an image was left out.

    Attributes:
        file: the label file or image at fault.
        row: line in the label file from 1, or None when it is no matter of a line.
        column: value in that line from 1, or None.
        kind: the fault in a few words, the same for all faults of its kind.
        reason: the fault in full.
    """

    file: Path
    row: int | None
    column: int | None
    kind: str
    reason: str

    def __str__(self) -> str:
        where = "".join(f", {word} {at}" for word, at in (("row", self.row), ("column", self.column)) if at is not None)
        return f"{self.file}{where}: {self.reason}"


class LabelError(Exception):
    """A label file breaks a rule."""

    def __init__(self, kind: str, reason: str, row: int | None = None, column: int | None = None) -> None:
        super().__init__(reason)
        self.kind, self.reason, self.row, self.column = kind, reason, row, column


@dataclass(frozen=True, slots=True)
class Rows:
    """Objects of one label file.

    Attributes:
        classes: (n,) int32.
        boxes: (n, 4) float32 cx, cy, w, h, normalized.
        keypoints: (n, K, 3) float32 x, y, v, normalized.
        notes: oddities that were accepted, each in a few words.
    """

    classes: npt.NDArray[np.int32]
    boxes: FloatArray
    keypoints: FloatArray
    notes: tuple[str, ...] = ()


def read_label_file(path: Path, spec: PoseSpec) -> Rows | None:
    """Read a label file; None when there is none.

    Args:
        path: the file.
        spec: number of classes and shape of the keypoints.

    Raises:
        RowError: the file breaks a rule; it holds row and column.
    """
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise LabelError("unreadable", f"the file cannot be read ({error.strerror or error})") from error
    return parse_rows(data, spec)


def parse_rows(data: bytes, spec: PoseSpec) -> Rows:
    """Parse the bytes of a label file; see `read_label_file`."""
    lines, tokens = _tokens(data)
    keypoints = spec.keypoints
    width = 5 + keypoints.count * keypoints.dims
    for line, row in zip(lines, tokens, strict=True):
        if len(row) != width:
            _refuse_length(row, width, keypoints.shape, line)
    table = _numbers(lines, tokens, width)
    _check(table, lines, spec)
    notes = _notes(table, keypoints.dims)
    # later rows first, so that the first of equal ones stays; numpy.unique would cost most of the whole parse
    first = {row.tobytes(): index for index, row in reversed(list(enumerate(table)))}
    if len(first) < len(table):
        table = table[sorted(first.values())]
        notes.append("duplicate rows dropped")
    return Rows(table[:, 0].astype(np.int32), table[:, 1:5], _points(table, spec), tuple(notes))


def _tokens(data: bytes) -> tuple[list[int], list[list[str]]]:
    """Line numbers and values of all lines that are not blank."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        row = data.count(b"\n", 0, error.start) + 1
        column = len((data[: error.start].rsplit(b"\n", 1)[-1] + b"x").split())
        raise LabelError("not UTF-8", "the file is not UTF-8 text; save it as UTF-8", row, column) from error
    rows = [(number, line.split()) for number, line in enumerate(text.split("\n"), 1)]
    return [number for number, row in rows if row], [row for _, row in rows if row]


def _refuse_length(row: list[str], width: int, shape: tuple[int, int], line: int) -> NoReturn:
    count, dims = shape
    hint = ""
    if len(row) == 5:
        hint = "; this looks like a label for boxes alone"
    elif "," in row[0]:
        hint = "; they are separated by blanks, not by commas"
    elif len(row) == width + 1:
        hint = "; a last value too many is the confidence that predictions saved with save_conf=True end with"
    elif fitting := _fitting_shape(row):
        hint = f"; that fits `kpt_shape: {list(fitting)}` in the data YAML"
    raise LabelError(
        "wrong number of values",
        f"the row holds {len(row)} values, but kpt_shape [{count}, {dims}] asks for 5 + {count}·{dims} = {width}{hint}",
        line,
        min(len(row), width) + 1,
    )


def _fitting_shape(row: list[str]) -> tuple[int, int] | None:
    """The shape of keypoints that a row has the right length for; x y v where every third number is 0, 1 or 2."""
    left = len(row) - 5
    seen = all(_is_number(token) and float(token) in (0, 1, 2) for token in row[7::3])
    for dims in (3, 2) if seen else (2, 3):
        if left > 0 and left % dims == 0:
            return left // dims, dims
    return None


def _numbers(lines: list[int], tokens: list[list[str]], width: int) -> FloatArray:
    try:
        values = [[float(token) for token in row] for row in tokens]
    except ValueError:
        for line, row in zip(lines, tokens, strict=True):
            for column, token in enumerate(row, 1):
                if not _is_number(token):
                    raise LabelError("no number", f"{token[:40]!r} is no number", line, column) from None
        raise
    with np.errstate(over="ignore"):  # 1e300 becomes infinite and is refused as such
        return np.array(values, dtype=np.float32).reshape(-1, width)


def _is_number(token: str) -> bool:
    try:
        float(token)
    except ValueError:
        return False
    return True


def _check(table: FloatArray, lines: list[int], spec: PoseSpec) -> None:
    """Refuse the first value that breaks a rule, rule by rule."""
    dims = spec.keypoints.dims
    classes, sizes = table[:, 0], table[:, 3:5]
    low = table < -TOLERANCE
    low[:, 3:5] |= sizes < 0
    high = table > 1 + TOLERANCE
    high[:, 0] = False
    if dims == 3:
        high[:, 7::3] = False  # visibility is no coordinate
    else:
        low[:, 5:] = False  # a negative coordinate says that the point is not labeled
    class_only = np.zeros_like(low)
    class_only[:, 0] = (classes != np.floor(classes)) | (classes < 0) | (classes >= spec.nc)
    rules = (
        (~np.isfinite(table), "no finite number", "is no finite number"),
        (class_only, "wrong class", f"is no class: classes are whole numbers from 0 to {spec.nc - 1}"),
        (low, "negative value", "is negative"),
        (high, "beyond 1", "is beyond 1: coordinates are shares of the image's width and height"),
    )
    for bad, kind, words in rules:
        if bad.any():
            row, column = (int(at) for at in np.argwhere(bad)[0])
            value = float(table[row, column])
            raise LabelError(kind, f"{_column(column, dims)} {_short(value)} {words}", lines[row], column + 1)


def _column(column: int, dims: int) -> str:
    if column < 5:
        return ("class", *_BOX)[column]
    point, part = divmod(column - 5, dims)
    return f"{'xyv'[part]} of keypoint {point}"


def _short(value: float) -> str:
    return f"{value:.6g}" if math.isfinite(value) else str(value)


def _points(table: FloatArray, spec: PoseSpec) -> FloatArray:
    """(n, K, 3); for x, y alone v is 0 where a coordinate is negative, else 1."""
    count, dims = spec.keypoints.shape
    points = table[:, 5:].reshape(-1, count, dims)
    if dims == 3:
        return points
    labeled = (points >= 0).all(axis=2, keepdims=True).astype(np.float32)
    return np.concatenate((points, labeled), axis=2)


def _notes(table: FloatArray, dims: int) -> list[str]:
    notes: list[str] = []
    if (table[:, 3:5] == 0).any():
        notes.append("boxes of no width or height (they count as objects)")
    visibility = table[:, 7::3] if dims == 3 else table[:, :0]
    if ((visibility != 0) & (visibility != 1) & (visibility != 2)).any():
        notes.append("visibility other than 0, 1, 2 (all but 0 counts as labeled)")
    return notes
