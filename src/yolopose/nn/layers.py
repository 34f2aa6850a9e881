"""The rows of a model YAML, checked one by one before anything is built."""

from __future__ import annotations

import reprlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from yolopose.base.errors import ModelError, did_you_mean
from yolopose.nn.model_yaml import Definition
from yolopose.nn.registry import BLOCKS, CONCAT, FOREIGN, HEADS, KNOWN, UPSAMPLE, is_whole

MAX_ROWS = 500
MAX_BLOCKS = 2_000
MAX_CHANNELS = 16_384


@dataclass(frozen=True, slots=True)
class Row:
    """One row of backbone or head.

    Attributes:
        index: its number, through backbone and head.
        inputs: numbers of the rows it reads; -1 is the image.
        repeats: scaled repeats.
        module: the module's name.
        args: its arguments, with `nc`, `kpt_shape` and `None` resolved.
        where: file, number and text of the row, for error texts.
    """

    index: int
    inputs: tuple[int, ...]
    repeats: int
    module: str
    args: tuple[Any, ...]
    where: str


def raw_rows(definition: Definition) -> list[Any]:
    """Return the rows of backbone and head as they stand.

    Raises:
        ModelError: a part is missing or no list, there are too many rows, or the last one is not the head.
    """
    parts: list[Any] = []
    for key in ("backbone", "head"):
        part = definition.values.get(key)
        if not isinstance(part, list) or not part:
            raise ModelError(f"{definition.label}: `{key}` must be a list of [from, repeats, module, args] rows.")
        parts += part
    if len(parts) > MAX_ROWS:
        raise ModelError(f"{definition.label} has {len(parts)} rows; at most {MAX_ROWS} are built.")
    heads = [index for index, row in enumerate(parts) if isinstance(row, list) and _is_head(cast(list[Any], row))]
    if heads != [len(parts) - 1]:
        foreign = isinstance(parts[-1], list) and len(parts[-1]) == 4 and str(parts[-1][2]) in FOREIGN
        if foreign:
            _checked_name(parts[-1][2], _where(definition, len(parts) - 1, parts[-1]))
        raise ModelError(
            f"{definition.label}: the last row must be the one head, such as [[16, 19, 22], 1, Pose, [nc, kpt_shape]]; "
            f"rows with Pose or Pose26: {heads or 'none'}, rows: 0…{len(parts) - 1}."
        )
    return parts


def parse_rows(definition: Definition, nc: int, kpt_shape: tuple[int, int]) -> list[Row]:
    """Check every row and returns them with scaled repeats and resolved arguments.

    Raises:
        ModelError: a row is wrong; the text names it.
    """
    words = {"nc": nc, "kpt_shape": list(kpt_shape), "None": None}
    rows: list[Row] = []
    for index, raw in enumerate(raw_rows(definition)):
        where = _where(definition, index, raw)
        if not isinstance(raw, list) or len(raw) != 4:
            raise ModelError(f"{where} must be [from, repeats, module, args].")
        source, repeats, name, args = raw
        if not is_whole(repeats, 1, MAX_BLOCKS):
            raise ModelError(f"{where}: repeats must be a whole number 1…{MAX_BLOCKS}, got {repeats!r}.")
        if not isinstance(args, list):
            raise ModelError(f"{where}: the arguments must be a list, such as [64, 3, 2]; got {args!r}.")
        resolved = tuple(words.get(item, item) if isinstance(item, str) else item for item in args)
        if name in HEADS and len(args) == 2:  # numbers that stand in the row itself give way as well
            resolved = (nc, list(kpt_shape))
        inputs = _inputs(source, index, where)
        row = Row(index, inputs, definition.repeats(repeats), _checked_name(name, where), resolved, where)
        _check_args(row)
        rows.append(row)
    if sum(row.repeats for row in rows) > MAX_BLOCKS:
        raise ModelError(f"{definition.label}: the repeats make more than {MAX_BLOCKS} blocks.")
    return rows


def _is_head(row: list[Any]) -> bool:
    return any(row[2:3] == [name] for name in HEADS)


def _where(definition: Definition, index: int, raw: object) -> str:
    return f"{definition.label}, row {index} {reprlib.repr(raw)}"


def _checked_name(name: object, where: str) -> str:
    if isinstance(name, str) and name in KNOWN:
        return name
    if isinstance(name, str) and name in FOREIGN:
        raise ModelError(f"{where}: module {name!r} cannot be built: {FOREIGN[name]}.")
    hint = did_you_mean(str(name), KNOWN)
    raise ModelError(f"{where}: unknown module {name!r}.{hint} The modules are: {', '.join(KNOWN)}.")


def _inputs(source: object, index: int, where: str) -> tuple[int, ...]:
    """Rows numbers that `from` means."""
    sources = cast(list[int], source if isinstance(source, list) else [source])
    if not sources or not all(is_whole(item, -MAX_ROWS, MAX_ROWS) for item in sources):
        raise ModelError(f"{where}: `from` must be -1, a row number, or a list of them; got {source!r}.")
    if index == 0:
        if sources != [-1]:
            raise ModelError(f"{where}: the first row reads the image, so its `from` must be -1; got {source!r}.")
        return (-1,)
    found = tuple(index + item if item < 0 else item for item in sources)
    for item, target in zip(sources, found, strict=True):
        if target >= index:
            raise ModelError(f"{where}: `from` {item} is not built yet; a row reads rows before it (0…{index - 1}).")
        if target < 0:
            raise ModelError(f"{where}: `from` {item} lies before the first row; the lowest here is {-index}.")
    return found


def _check_args(row: Row) -> None:
    """Check the number and kind of a row's inputs and arguments."""
    if row.module not in (CONCAT, *HEADS) and len(row.inputs) != 1:
        raise ModelError(f"{row.where}: {row.module} reads one map, but `from` names {len(row.inputs)}.")
    if row.module in BLOCKS:
        _check_block(row)
    elif row.module in HEADS:
        if row.repeats != 1 or len(row.args) != 2:
            raise ModelError(f"{row.where}: the head stands once, with the arguments [nc, kpt_shape].")
    elif row.module == CONCAT:
        if row.repeats != 1 or row.args != (1,):
            raise ModelError(f"{row.where}: Concat stands once and joins channels: its arguments are [1].")
    elif row.module == UPSAMPLE and not _is_upsample(row.args):
        raise ModelError(f"{row.where}: nn.Upsample takes [None, factor, nearest or bilinear], factor 1…16.")


def _is_upsample(args: Sequence[Any]) -> bool:
    return len(args) == 3 and args[0] is None and is_whole(args[1], 1, 16) and args[2] in ("nearest", "bilinear")


def _check_block(row: Row) -> None:
    kinds = BLOCKS[row.module].args
    form = f"{row.module} takes [channels, {', '.join(kinds)}]"
    if not 1 <= len(row.args) <= 1 + len(kinds):
        raise ModelError(f"{row.where}: {form}, at least the channels; got {len(row.args)} arguments.")
    if not is_whole(row.args[0], 1, MAX_CHANNELS):
        raise ModelError(f"{row.where}: {form}; channels must be a whole number 1…{MAX_CHANNELS}.")
    for (name, kind), value in zip(kinds.items(), row.args[1:], strict=False):
        if value is not None and not kind.test(value):
            raise ModelError(f"{row.where}: {form}; {name} must be {kind.words}, got {value!r}.")
