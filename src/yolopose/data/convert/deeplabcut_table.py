"""Tables of DeepLabCut: CSV files with several header rows, and the same tables in HDF5 files.

A table has one row per image and the columns scorer, individuals (multi-animal projects only), bodyparts, coords. The
image is written in one field (`labeled-data/VIDEO/img001.png`) or, since DeepLabCut 2.2, in three.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from yolopose.base.errors import DataError

MAX_BYTES = 2 << 30  # of a CSV or HDF5 file; 200 000 frames of 100 points have about 0.5 GB
MAX_COLUMNS = 60_000
_LEVELS = ("scorer", "individuals", "bodyparts", "coords")
UNIQUE = "single"  # the individual of `uniquebodyparts`, and of tables without individuals


@dataclass(frozen=True, slots=True)
class Column:
    """What a column contains.

    Attributes:
        individual: name of the individual; `single` where the table has none.
        bodypart: name of the keypoint.
        coord: `x`, `y` or `likelihood`.
    """

    individual: str
    bodypart: str
    coord: str


@dataclass(frozen=True, slots=True)
class Row:
    """The values of one image.

    Attributes:
        line: line in the CSV file, or row of an HDF5 table, from 1; for messages.
        image: the image as written, folders separated by `/`; the number of the frame in tables of a video.
        values: one number per column, NaN where nothing is labeled.
    """

    line: int
    image: str
    values: Sequence[float]


@dataclass(frozen=True, slots=True)
class Table:
    """A table whose rows are read one after the other.

    Attributes:
        path: the file.
        scorer: who labeled the images, or the network that predicted the points.
        columns: contents of the columns.
        rows: the rows; they can be iterated once.
    """

    path: Path
    scorer: str
    columns: Sequence[Column]
    rows: Iterator[Row]

    @property
    def has_individuals(self) -> bool:
        """Whether the table has individuals besides `single`."""
        return any(column.individual != UNIQUE for column in self.columns)

    @property
    def has_likelihood(self) -> bool:
        """Whether the values are predictions of a network, with a likelihood for each point."""
        return any(column.coord == "likelihood" for column in self.columns)


def check_size(path: Path) -> None:
    """Check that a file exists and is not larger than `MAX_BYTES`.

    Raises:
        DataError: it is not.
    """
    try:
        size = path.stat().st_size
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error
    if not path.is_file():
        raise DataError(f"{path} is not a regular file.")
    if size > MAX_BYTES:
        raise DataError(f"{path} has {size >> 20} MiB; tables of up to {MAX_BYTES >> 20} MiB are read. Split it.")


def make_columns(path: Path, levels: Mapping[str, Sequence[str]]) -> tuple[str, list[Column]]:
    """Return the scorer and the columns of a table.

    Args:
        path: the file, for messages.
        levels: names of the columns, by level (`scorer`, `individuals`, `bodyparts`, `coords`).

    Raises:
        DataError: a level is missing, a name is empty, or two columns are equal.
    """
    missing = [level for level in ("bodyparts", "coords") if level not in levels]
    if missing:
        raise DataError(
            f"{path} is not a table of DeepLabCut: it has no header row {missing[0]!r}. The first rows must be scorer, "
            "individuals (multi-animal projects only), bodyparts and coords."
        )
    bodyparts = levels["bodyparts"]
    individuals = levels.get("individuals") or [UNIQUE] * len(bodyparts)
    coords = levels["coords"]
    if not bodyparts or not len(bodyparts) == len(individuals) == len(coords):
        raise DataError(f"{path} is not a table of DeepLabCut: its header rows have different numbers of columns.")
    if len(bodyparts) > MAX_COLUMNS:
        raise DataError(f"{path} has {len(bodyparts)} columns; tables of up to {MAX_COLUMNS} columns are read.")
    columns = [Column(*names) for names in zip(individuals, bodyparts, coords, strict=True)]
    for number, column in enumerate(columns, 1):
        if not column.bodypart or not column.individual or column.coord not in ("x", "y", "likelihood"):
            raise DataError(
                f"{path}: the header of column {number} is individual {column.individual!r}, body part "
                f"{column.bodypart!r}, coordinate {column.coord!r}; names must not be empty, and coords must be x, y "
                "or likelihood."
            )
    _check_columns(path, columns)
    scorers = levels.get("scorer") or [""]
    return scorers[0], columns


def _check_columns(path: Path, columns: Sequence[Column]) -> None:
    """Check that no column occurs twice and that each x has a y."""
    unique = set(columns)
    if len(unique) < len(columns):
        column = next(column for column in columns if columns.count(column) > 1)
        raise DataError(f"{path}: the column {column.individual}, {column.bodypart}, {column.coord} occurs twice.")
    for column in columns:
        for coord in ("x", "y"):
            if Column(column.individual, column.bodypart, coord) not in unique:
                raise DataError(f"{path}: {column.individual}, {column.bodypart} has no column {coord}.")


def read_csv_table(path: Path) -> Table:
    """Read a CSV table; its header now, its rows when they are iterated.

    Raises:
        DataError: the file cannot be read, or its header is not that of DeepLabCut. Iterating raises it for a row with
            too few values or a value that is not a number.
    """
    check_size(path)
    records = _csv_records(path)
    levels: dict[str, Sequence[str]] = {}
    width = 0
    for _, record in records:
        width = width or len(record)
        name = record[0].strip().lower() if record else ""
        if name not in _LEVELS or len(record) != width:
            break
        levels[name] = [field.strip() for field in record[1:]]
        if name == "coords":
            break
    coords = levels.get("coords", ())
    # fields of the image: one, or three of which the header names the first
    index_fields = 1 + next((number for number, field in enumerate(coords) if field), 0)
    levels = {name: fields[index_fields - 1 :] for name, fields in levels.items()}
    scorer, columns = make_columns(path, levels)
    return Table(path, scorer, columns, _csv_rows(path, records, index_fields, columns))


def _csv_records(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the line number and the fields of each record that is not blank."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            for record in reader:
                if any(field.strip() for field in record):
                    yield reader.line_num, record
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not a table of DeepLabCut: it is not UTF-8 text.") from error
    except csv.Error as error:
        raise DataError(f"{path} is not a CSV file: {error}.") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error


def _csv_rows(
    path: Path, records: Iterable[tuple[int, list[str]]], index_fields: int, columns: Sequence[Column]
) -> Iterator[Row]:
    for line, record in records:
        fields = record[index_fields:]
        if len(fields) != len(columns):
            raise DataError(f"{path}, line {line}: the row has {len(fields)} values, but the header {len(columns)}.")
        image = "/".join(field.strip().replace("\\", "/").strip("/") for field in record[:index_fields])
        yield Row(line, image, _to_numbers(path, line, fields, columns))


def _to_numbers(path: Path, line: int, fields: Sequence[str], columns: Sequence[Column]) -> list[float]:
    try:
        values = [float(field) if field.strip() else math.nan for field in fields]
    except ValueError:
        values = []
    if values and not any(math.isinf(value) for value in values):
        return values
    for field, column in zip(fields, columns, strict=True):
        if not _is_number(field):
            raise DataError(
                f"{path}, line {line}: {column.coord} of {column.bodypart} ({column.individual}) is {field[:40]!r}, "
                "which is not a finite number. Leave the field empty if the point is not labeled."
            )
    return values


def _is_number(field: str) -> bool:
    try:
        return not field.strip() or not math.isinf(float(field))
    except ValueError:
        return False


def read_hdf5_table(path: Path) -> Table:
    """Read an HDF5 table; it has the same content as the CSV file of its name.

    Raises:
        DataError: the file is not a table of DeepLabCut.
        DependencyError: h5py is not installed.
    """
    from yolopose.data.convert.pandas_hdf5 import read_frame

    check_size(path)
    frame = read_frame(path)
    names: Sequence[str] = [name.lower() for name in frame.levels]
    if not set(names) <= set(_LEVELS):
        names = []
    if len(set(names)) != len(frame.levels):  # some versions of pandas do not store the names of the levels
        names = _LEVELS if len(frame.levels) == len(_LEVELS) else ("scorer", "bodyparts", "coords")
    if len(names) != len(frame.levels):
        raise DataError(
            f"{path} is not a table of DeepLabCut: its columns have {len(frame.levels)} levels, not 3 or 4."
        )
    levels = {name: [column[number] for column in frame.columns] for number, name in enumerate(names)}
    scorer, columns = make_columns(path, levels)
    rows = (
        Row(number, "/".join(name.replace("\\", "/").strip("/") for name in index), values.tolist())
        for number, (index, values) in enumerate(zip(frame.index, frame.values, strict=True), 1)
    )
    return Table(path, scorer, columns, rows)
