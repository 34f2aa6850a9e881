"""results.csv: one row an epoch, with the public columns."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from yolopose.base.errors import DataError
from yolopose.base.files import write_text
from yolopose.base.log import LOGGER

_EXACT = 2**53  # whole numbers below this are exact as a float
_METRICS = ("precision", "recall", "mAP50", "mAP50-95")


def results_columns(terms: Iterable[str], groups: int = 3) -> tuple[str, ...]:
    """Return the columns of a run with these losses and so many groups of parameters."""
    losses = [f"{term}_loss" for term in terms]
    return (
        "epoch",
        "time",
        *(f"train/{name}" for name in losses),
        *(f"metrics/{name}({kind})" for kind in "BP" for name in _METRICS),
        *(f"val/{name}" for name in losses),
        *(f"lr/pg{group}" for group in range(groups)),
    )


COLUMNS = results_columns(("box", "pose", "kobj", "cls", "dfl"))


class History:
    """The rows of a run; the file is written whole each time, so that it never ends within a row.

    Args:
        path: the file.
        rows: those that are there.
        columns: their names; the public ones, unless a network has other losses.
    """

    def __init__(self, path: Path, rows: Sequence[Mapping[str, float]] = (), columns: Sequence[str] = COLUMNS) -> None:
        self.path = path
        self.columns = tuple(columns)
        self.rows = [self._whole(row) for row in rows]

    def add(self, row: Mapping[str, float]) -> None:
        """Add a row and writes the file.

        Args:
            row: a number for each of `columns`; NaN where nothing was measured. `epoch` counts from 1.

        Raises:
            KeyError: a column is missing, or one is not of `columns`.
            OutputError: the file cannot be written; the row is kept, and the next write holds it too.
        """
        self.rows.append(self._whole(row))
        self.write()

    def write(self) -> None:
        """Write all rows.

        Raises:
            OutputError: the file cannot be written; what was there stands.
        """
        lines = [",".join(self.columns), *(",".join(map(_text, one.values())) for one in self.rows)]
        write_text(self.path, "\n".join(lines) + "\n")

    def _whole(self, row: Mapping[str, float]) -> dict[str, float]:
        """Return a row in the order of the file; anything but exactly its columns is a fault of the caller."""
        unknown = row.keys() - set(self.columns)
        if unknown:
            raise KeyError(f"no columns of results.csv: {sorted(unknown)}")
        return {name: row[name] for name in self.columns}

    def column(self, name: str) -> list[float]:
        """Return the numbers of a column."""
        return [row[name] for row in self.rows]

    @classmethod
    def read(cls, path: Path, until: int | None = None, columns: Sequence[str] = COLUMNS) -> History:
        """Read the rows of the epochs done; later ones, and what is no row, are left aside.

        Args:
            path: the file; where there is none the history is empty.
            until: the last epoch that counts, from 1; all when left out.
            columns: names of the columns.

        Raises:
            DataError: the file is no text.
        """
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return cls(path, columns=columns)
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(
                f"{path} cannot be read ({error}): move it away, and the run goes on without it."
            ) from error
        rows: dict[int, dict[str, float]] = {}
        for cells in csv.DictReader(lines, skipinitialspace=True):
            row = _row(cells, columns)
            if row is None:
                LOGGER.warning(f"{path}: a row is damaged and left out.")
            elif until is None or row["epoch"] <= until:
                rows[int(row["epoch"])] = row
        return cls(path, [rows[epoch] for epoch in sorted(rows)], columns)


def _row(cells: Mapping[str | None, str | None], columns: Sequence[str]) -> dict[str, float] | None:
    """Return the numbers of a line; None where cells are missing, too many or no numbers, or the epoch is none."""
    if None in cells:  # where csv puts what is beyond the last column
        return None
    row: dict[str, float] = {}
    for name in columns:
        text = cells.get(name)
        try:
            row[name] = math.nan if text == "" else float(text or "?")
        except ValueError:
            return None
    return row if row["epoch"] >= 1 and row["epoch"].is_integer() else None


def _text(value: float) -> str:
    """A number with six digits; whole ones, as epochs are, with all of theirs; NaN is an empty cell.

    What is read back and written again reads the same, so a resumed run's file is that of an unbroken one.
    """
    if math.isnan(value):
        return ""
    rounded = value if float(value).is_integer() else float(f"{value:.6g}")
    return str(int(rounded)) if float(rounded).is_integer() and abs(rounded) < _EXACT else f"{value:.6g}"
