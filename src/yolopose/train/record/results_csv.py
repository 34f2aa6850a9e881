"""results.csv: one row per epoch, with the public columns."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from yolopose.base.errors import DataError
from yolopose.base.files import write_text
from yolopose.base.log import LOGGER
from yolopose.evaluate import PIXEL_KEYS, VISIBILITY_KEYS

_EXACT_INTEGERS = 2**53  # floats below this represent every integer
_METRICS = ("precision", "recall", "mAP50", "mAP50-95")


def results_columns(
    losses: Iterable[str], groups: int = 3, states: int = 2, train_only: Iterable[str] = ()
) -> tuple[str, ...]:
    """Return the columns of a run, first the public ones.

    Args:
        losses: names of the loss terms.
        groups: number of parameter groups.
        states: states of visibility of the network; with 3 their accuracies are columns, too.
        train_only: names of further losses, which validation does not have.
    """
    names = [f"{loss}_loss" for loss in losses]
    return (
        "epoch",
        "time",
        *(f"train/{name}" for name in names),
        *(f"metrics/{metric}({kind})" for kind in "BP" for metric in _METRICS),
        *(f"val/{name}" for name in names),
        *(f"lr/pg{group}" for group in range(groups)),
        *PIXEL_KEYS,
        *(VISIBILITY_KEYS if states == 3 else ()),
        *(f"train/{loss}_loss" for loss in train_only),
    )


COLUMNS = results_columns(("box", "pose", "kobj", "cls", "dfl"))


class History:
    """The rows of a run. The file is rewritten atomically each time, so that it never ends in the middle of a row.

    Args:
        path: the file.
        rows: existing rows.
        columns: names of the columns; other networks than the usual ones have other losses.
    """

    def __init__(self, path: Path, rows: Sequence[Mapping[str, float]] = (), columns: Sequence[str] = COLUMNS) -> None:
        self.path = path
        self.columns = tuple(columns)
        self.rows = [self._ordered(row) for row in rows]

    def add(self, row: Mapping[str, float]) -> None:
        """Append a row and write the file.

        Args:
            row: a value for each of `columns`; NaN for what was not measured. `epoch` counts from 1.

        Raises:
            KeyError: a column is missing or unknown.
            OutputError: the file cannot be written. The row is kept, and the next write includes it.
        """
        self.rows.append(self._ordered(row))
        self.write()

    def write(self) -> None:
        """Write all rows.

        Raises:
            OutputError: the file cannot be written; the existing one is unchanged.
        """
        lines = [",".join(self.columns), *(",".join(map(_format_value, row.values())) for row in self.rows)]
        write_text(self.path, "\n".join(lines) + "\n")

    def column(self, name: str) -> list[float]:
        """Return the values of a column."""
        return [row[name] for row in self.rows]

    def _ordered(self, row: Mapping[str, float]) -> dict[str, float]:
        """Return a row in the order of the columns; both must have the same names."""
        unknown = row.keys() - set(self.columns)
        if unknown:
            raise KeyError(f"unknown columns of results.csv: {sorted(unknown)}")
        return {name: row[name] for name in self.columns}

    @classmethod
    def read(cls, path: Path, until: int | None = None, columns: Sequence[str] = COLUMNS) -> History:
        """Read the rows of finished epochs; damaged rows are skipped with a warning.

        Args:
            path: the file; if it is missing the history is empty.
            until: the last epoch to read, from 1. Default: all.
            columns: names of the columns.

        Raises:
            DataError: the file cannot be read as text.
        """
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return cls(path, columns=columns)
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{path} cannot be read ({error}). Move it away to continue the run without it.") from error
        rows: dict[int, dict[str, float]] = {}
        reader = csv.DictReader(lines, skipinitialspace=True)
        # an older version wrote fewer columns
        missing = dict.fromkeys(set(PIXEL_KEYS) - set(reader.fieldnames or ()), "")
        for record in reader:
            row = _parse_row({**record, **missing}, columns)
            if row is None:
                LOGGER.warning(f"{path}: skipped a damaged row.")
            elif until is None or row["epoch"] <= until:
                # a later row of the same epoch replaces the earlier one
                rows[int(row["epoch"])] = row
        return cls(path, [rows[epoch] for epoch in sorted(rows)], columns)


def _parse_row(record: Mapping[str | None, str | None], columns: Sequence[str]) -> dict[str, float] | None:
    """Return the values of a line, or None if values are missing, surplus or not numbers, or the epoch is invalid."""
    if None in record:  # csv collects surplus values under this key
        return None
    row: dict[str, float] = {}
    for name in columns:
        text = record.get(name)
        try:
            row[name] = math.nan if text == "" else float(text or "?")
        except ValueError:
            return None
    return row if row["epoch"] >= 1 and row["epoch"].is_integer() else None


def _format_value(value: float) -> str:
    """Format a value with six significant digits, integers such as epochs with all of theirs, NaN as empty.

    A value that was read is written as it was, so the file of a resumed run equals that of an uninterrupted one.
    """
    if math.isnan(value):
        return ""
    rounded = value if float(value).is_integer() else float(f"{value:.6g}")
    is_exact_integer = float(rounded).is_integer() and abs(rounded) < _EXACT_INTEGERS
    return str(int(rounded)) if is_exact_integer else f"{value:.6g}"
