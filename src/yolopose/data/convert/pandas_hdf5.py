"""Tables that pandas wrote to HDF5 files (`DataFrame.to_hdf`), read with h5py only.

`pandas.read_hdf` unpickles attributes and object arrays, which lets a file run code. This reader interprets the few
opcodes that lists of names need and refuses all others; it never unpickles.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from yolopose.base.errors import DataError, DependencyError

_MAX_NAMES = 1 << 22  # of the columns and rows of a table


class Frame:
    """A table of numbers with named rows and columns.

    Attributes:
        columns: names of each column, one per level.
        levels: names of the levels; empty strings where the file has none.
        index: names of each row, one per level.
        values: (rows, columns) float64.
    """

    def __init__(
        self,
        columns: list[tuple[str, ...]],
        levels: tuple[str, ...],
        index: list[tuple[str, ...]],
        values: npt.NDArray[np.float64],
    ) -> None:
        self.columns = columns
        self.levels = levels
        self.index = index
        self.values = values


def read_frame(path: Path) -> Frame:
    """Read the only table of an HDF5 file.

    Args:
        path: the file.

    Raises:
        DataError: the file is not an HDF5 file, contains no table or several, or values other than numbers.
        DependencyError: h5py is not installed.
    """
    try:
        import h5py
    except ImportError as error:
        raise DependencyError(
            'HDF5 files are read with h5py: pip install "yolopose[hdf5]". DeepLabCut writes the same table as a CSV '
            "file beside it, which needs nothing else."
        ) from error
    try:
        with h5py.File(path, "r") as file:
            groups = [group for group in file.values() if "pandas_type" in group.attrs]
            if len(groups) != 1:
                raise DataError(f"{path} contains {len(groups)} tables of pandas; it must contain one.")
            return _read_group(path, groups[0])
    except DataError:
        raise
    except Exception as error:  # h5py raises many kinds for damaged files
        raise DataError(f"{path} is not an HDF5 table of pandas ({error}).") from error


def _read_group(path: Path, group: Any) -> Frame:
    kind = _text(group.attrs["pandas_type"])
    if kind == "frame":
        return _read_fixed(path, group)
    if kind in ("frame_table", "appendable_frame"):
        return _read_appendable(path, group)
    raise DataError(f"{path} contains a pandas object of type {kind!r}; it must be a DataFrame.")


def _read_fixed(path: Path, group: Any) -> Frame:
    """Read the fixed format: `axis0` names the columns, `axis1` the rows, each block has some of the columns."""
    columns, levels = _read_axis(path, group, "axis0")
    index, _ = _read_axis(path, group, "axis1")
    position = {name: number for number, name in enumerate(columns)}
    values = np.full((len(index), len(columns)), np.nan)
    for block in range(int(group.attrs["nblocks"])):
        items, _ = _read_axis(path, group, f"block{block}_items")
        dataset = group[f"block{block}_values"]
        if dataset.dtype.kind not in "fiu":
            raise DataError(f"{path}: the columns {', '.join(items[0])}, … do not contain numbers.")
        block_values = np.asarray(dataset[()], dtype=np.float64)
        if block_values.shape != (len(index), len(items)):
            raise DataError(f"{path}: block {block} has shape {block_values.shape}, not {(len(index), len(items))}.")
        values[:, [position[item] for item in items]] = block_values
    return Frame(columns, levels, index, values)


def _read_axis(path: Path, group: Any, name: str) -> tuple[list[tuple[str, ...]], tuple[str, ...]]:
    """Return the names along an axis, and those of its levels."""
    variety = _text(group.attrs.get(f"{name}_variety", b"regular"))
    if variety == "regular":
        return [(value,) for value in _strings(path, group[name])], ("",)
    if variety != "multi":
        raise DataError(f"{path}: the axis {name} has the variety {variety!r}, which is not supported.")
    count = int(group.attrs[f"{name}_nlevels"])
    levels: list[list[str]] = []
    names: list[str] = []
    for level in range(count):
        texts = np.array([*_strings(path, group[f"{name}_level{level}"]), ""], dtype=object)
        codes = np.asarray(group[f"{name}_label{level}"][()], dtype=np.int64)
        if codes.size > _MAX_NAMES or (codes.size and not -1 <= codes.min() <= codes.max() < len(texts) - 1):
            raise DataError(f"{path}: the axis {name} refers to names that do not exist.")
        levels.append(list(texts[codes]))  # code -1: the empty name
        names.append(_text(group.attrs.get(f"{name}_name{level}", b"")))
    return list(zip(*levels, strict=True)), tuple(names)


def _strings(path: Path, dataset: Any) -> list[str]:
    if dataset.size > _MAX_NAMES:
        raise DataError(f"{path}: {dataset.name} has {dataset.size} names, more than {_MAX_NAMES}.")
    if dataset.dtype.kind in "iu":
        return [str(value) for value in dataset[()]]
    if dataset.dtype.kind != "S":
        raise DataError(
            f"{path}: {dataset.name} contains Python objects, which are never loaded. Use the CSV file of the same "
            "table, or write the table again with names that are text only."
        )
    return [_text(value) for value in dataset[()]]


def _read_appendable(path: Path, group: Any) -> Frame:
    """Read the table format: one record per row; the names of the columns are a pickled attribute."""
    axes = _parse_names(path, group.attrs["non_index_axes"])
    columns = [name if isinstance(name, tuple) else (name,) for name in axes[0][1]]
    table = group["table"]
    fields = [name for name in table.dtype.names if name.startswith("values_block_")]
    position = {name: number for number, name in enumerate(columns)}
    values = np.full((len(table), len(columns)), np.nan)
    for field in fields:
        if table.dtype[field].base.kind not in "fiu":
            raise DataError(f"{path}: the column block {field} does not contain numbers.")
        items = _parse_names(path, table.attrs.get(f"{field}_kind", group.attrs.get(f"{field}_kind")))
        names = [item if isinstance(item, tuple) else (item,) for item in items]
        block_values = np.asarray(table[field], dtype=np.float64).reshape(len(table), -1)
        values[:, [position[name] for name in names]] = block_values
    index = [(_text(value) if isinstance(value, bytes) else str(value),) for value in table["index"]]
    return Frame(columns, ("",) * len(columns[0]), index, values)


def _text(value: Any) -> str:
    if isinstance(value, bytes | np.bytes_):
        return bytes(value).decode("utf-8", "strict")
    return "" if value is None else str(value)


def _parse_names(path: Path, attribute: Any) -> Any:
    """Interpret a pickled attribute that contains lists, tuples, texts and integers only.

    Raises:
        DataError: it contains anything else.
    """
    if not isinstance(attribute, bytes | np.bytes_):
        raise DataError(f"{path}: the names of the columns are not stored as a list of names.")
    try:
        return _interpret(pickletools.genops(bytes(attribute)))
    except (ValueError, IndexError, KeyError, TypeError) as error:
        raise DataError(
            f"{path}: the names of the columns are not a plain list of names ({error}); nothing of it was executed. "
            "Use the CSV file of the same table."
        ) from error


_MARK = object()
_CONSTANTS = {"INT", "BININT", "BININT1", "BININT2", "LONG1", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "STRING"}
_IGNORED = {"PROTO", "FRAME"}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3, "EMPTY_TUPLE": 0}


def _interpret(opcodes: Iterator[tuple[pickletools.OpcodeInfo, Any, int | None]]) -> Any:
    """Run the opcodes of lists, tuples, texts and integers; any other opcode is an error."""
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    collections: dict[str, Callable[[Sequence[Any]], Any]] = {"LIST": list, "TUPLE": tuple}
    for opcode, argument, _ in opcodes:
        name = opcode.name
        if name in _CONSTANTS:
            stack.append(argument)
        elif name == "MARK":
            stack.append(_MARK)
        elif name == "EMPTY_LIST":
            stack.append([])
        elif name in collections:
            stack.append(collections[name](_pop_to_mark(stack)))
        elif name in _TUPLES:
            count = _TUPLES[name]
            items = stack[len(stack) - count :]
            del stack[len(stack) - count :]
            stack.append(tuple(items))
        elif name == "APPEND":
            item = stack.pop()
            stack[-1].append(item)
        elif name == "APPENDS":
            items = _pop_to_mark(stack)
            stack[-1].extend(items)
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            memo[int(argument)] = stack[-1]
        elif name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(memo[int(argument)])
        elif name == "STOP":
            return stack.pop()
        elif name not in _IGNORED:
            raise ValueError(f"opcode {name}")
    raise ValueError("no end")


def _pop_to_mark(stack: list[Any]) -> list[Any]:
    position = len(stack) - 1 - stack[::-1].index(_MARK)
    items = stack[position + 1 :]
    del stack[position:]
    return items
