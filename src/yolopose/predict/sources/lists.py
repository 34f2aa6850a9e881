"""List files: one source on each line."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable
from pathlib import Path

from yolopose.base.errors import SourceError, YoloposeError
from yolopose.predict.sources.addresses import is_url
from yolopose.predict.sources.parts import Part

LIST_SUFFIXES = frozenset({".csv", ".streams", ".txt"})

_HEADINGS = ("path", "file", "filename", "file_name", "filepath", "file_path", "image", "image_path", "video", "source")


def open_list(path: Path, open_line: Callable[[str], list[Part]]) -> list[Part]:
    """Read a list; `./…` is beside the list, other relative paths are too where the current folder has none.

    Args:
        path: .txt and .streams (lines that begin with # are left out), or .csv (the column that is headed `path`,
            `file`, `image`, … or else the first).
        open_line: opens what one line names.

    Raises:
        SourceError: the list cannot be read, or holds nothing.
        YoloposeError: as `open_line`, with list and line.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise SourceError(f"The list {path} is not UTF-8 text ({error.reason} at byte {error.start}).") from error
    except OSError as error:
        raise SourceError(f"The list {path} cannot be read: {error.strerror or error}.") from error
    parts: list[Part] = []
    for number, line in enumerate(_cells(text) if path.suffix.lower() == ".csv" else _lines(text), start=1):
        if line:
            parts += _open(line, path, number, open_line)
    if not parts:
        one = "address or camera number" if path.suffix.lower() == ".streams" else "image file"
        raise SourceError(f"The list {path} holds no path. Give one {one} on each line.")
    return parts


def _lines(text: str) -> list[str]:
    lines = [line.strip() for line in text.splitlines()]
    return ["" if line.startswith("#") and not os.path.exists(line) else line for line in lines]


def _cells(text: str) -> list[str]:
    """The column of paths in a CSV text; a first row with a known heading, or without any path, is its header."""
    rows = [[cell.strip() for cell in row] for row in csv.reader(io.StringIO(text))]
    names = [cell.lower() for cell in rows[0]] if rows else []
    known = [names.index(heading) for heading in _HEADINGS if heading in names]
    column = known[0] if known else 0
    cells = [row[column] if len(row) > column else "" for row in rows]
    if cells and (known or not _may_be_source(cells[0])):
        cells[0] = ""
    return cells


def _may_be_source(cell: str) -> bool:
    return bool(Path(cell).suffix) or is_url(cell) or cell.isdigit() or os.path.exists(cell)


def _open(line: str, path: Path, number: int, open_line: Callable[[str], list[Part]]) -> list[Part]:
    beside = os.path.join(path.parent, line.removeprefix("./"))
    if line.startswith("./") or (not os.path.exists(os.path.expanduser(line)) and os.path.exists(beside)):
        line = beside
    try:
        return open_line(line)
    except YoloposeError as error:
        raise type(error)(f"{path}, line {number}: {error}") from error
