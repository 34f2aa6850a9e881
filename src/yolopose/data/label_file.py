"""Read and check one label file.

A row is `class cx cy w h` and, for each keypoint, `x y` or `x y v`; coordinates are normalized to 0…1 and values are
separated by blanks.

A keypoint is labeled if its v is not 0. v is 0 (not labeled), 1 (hidden), 2 (visible), or the confidence of a
prediction that serves as label. In rows without v, a keypoint is not labeled if a coordinate is negative. Training,
metrics, the COCO protocol and the conversion to COCO all use the v that is returned here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
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
_USUAL_VISIBILITY = frozenset((0.0, 1.0, 2.0))
_BOX_COLUMNS = ("class", "cx", "cy", "w", "h")
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
    try:
        data = read_regular(path, MAX_LABEL_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise LabelError("unreadable", f"the file cannot be read ({error.strerror or error})") from error
    return parse_labels(data, spec, any_class=any_class, precise=precise)


def parse_labels(data: bytes, spec: PoseSpec, *, any_class: bool = False, precise: bool = False) -> FileLabels:
    """Parse the contents of a label file; see `read_label_file`."""
    lines, rows = _split_rows(data)
    count, dims = spec.keypoints.shape
    width = len(_BOX_COLUMNS) + count * dims
    for line, row in zip(lines, rows, strict=True):
        if len(row) != width:
            _raise_wrong_length(row, width, spec.keypoints.shape, line)
    values = _to_array(lines, rows, width)
    with np.errstate(over="ignore", under="ignore"):  # 1e300 becomes infinite, which is refused below
        table = values.astype(np.float32)
    warnings: list[str] = []
    if not _is_ordinary(table, spec):
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


def _is_ordinary(table: FloatArray, spec: PoseSpec) -> bool:
    """Return whether no check can fail and nothing is unusual, in a fraction of the time of the checks: most files."""
    if not len(table) or not (table.min() >= 0 and table[:, 3:5].min() > 0):  # False for NaN
        return False
    step = 3 if spec.keypoints.dims == 3 else 0
    values = table[:, 7::3].ravel().tolist() if step else []
    if not _USUAL_VISIBILITY.issuperset(values) or table[:, 1:5].max() > 1:
        return False
    coordinates = table[:, 5:]
    columns = (coordinates[:, ::3], coordinates[:, 1::3]) if step else (coordinates,)
    if any(column.max() > 1 for column in columns) or (not step and coordinates.min() <= 0):
        return False
    return all(cls.is_integer() and cls < spec.nc for cls in table[:, 0].tolist())


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
