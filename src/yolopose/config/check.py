"""Checks of option values: from what a person wrote to a filled-in options dataclass, or one clear error."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from yolopose.base.errors import UsageError, did_you_mean
from yolopose.base.log import LOGGER, warn_once
from yolopose.base.yamlfile import read_yaml
from yolopose.config.table import (
    BOOKKEEPING,
    MODES,
    WITHOUT_MEANING,
    Options,
    OptionSpec,
    modes_by_option,
    option_specs,
    synonyms,
)

_PLAIN = {"bool": bool, "int": int, "float": float, "str": str}


def resolve(mode: str, given: Mapping[str, Any]) -> Options:
    """Check the given keys of a mode and fills in defaults.

    Args:
        mode: `predict`, `val`, …
        given: flat keys and values; `cfg` as `collect` reads it.

    Returns:
        The options dataclass of the mode.

    Raises:
        UsageError: an unknown mode or key, a wrong or impossible value, or two that contradict each other.
        NotFoundError: the `cfg` file is not there.
    """
    chosen = collect(mode, given)
    if chosen.get("end2end") is False and chosen.get("nms") is False:
        raise UsageError("nms=False is another word for end2end=True, and end2end=False is given too: leave one out.")
    return MODES[mode](**chosen)


def collect(mode: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Check the given keys of a mode and returns those that it has, without filling in defaults.

    A `cfg` key names a YAML file whose keys count as given too; keys given directly win over it. The file may
    hold the keys of every mode at once, and a key without a value (`conf:`) counts as not given.

    Raises:
        UsageError: an unknown mode or key, or a value of the wrong type or out of range.
        NotFoundError: the `cfg` file is not there.
    """
    if mode not in MODES:
        raise UsageError(f"There is no mode {mode!r}.{did_you_mean(mode, MODES)} The modes are: {', '.join(MODES)}.")
    chosen: dict[str, Any] = {}
    file = given.get("cfg")
    if file is not None:
        if not isinstance(file, (str, Path)):
            raise UsageError(f"cfg={file!r} is not possible: it takes the path of a YAML file of options.")
        from_file = {key: value for key, value in read_yaml(file, "options file (cfg=)").items() if value is not None}
        chosen = _checked(mode, from_file, str(file))
    return {**chosen, **_checked(mode, given)}


def _checked(mode: str, values: Mapping[str, Any], file: str = "") -> dict[str, Any]:
    """The values of the mode's own keys; others are left aside with a note, or unknown.

    Raises:
        UsageError: nobody knows a key, or a value is impossible; names the file where there is one.
    """
    where = f" in {file}" if file else ""
    chosen: dict[str, Any] = {}
    for name, value in values.items():
        if name in option_specs(mode):
            key = option_specs(mode)[name]
            chosen[name] = check_value(key, value, where)
            if key.unread and chosen[name] != key.default:
                warn_once(f"{name}={chosen[name]}{where} is not read in this version yet, and left aside.")
        elif name in WITHOUT_MEANING or name in BOOKKEEPING or name in modes_by_option():
            _note(mode, name, value, file)
        else:
            close = (
                _meant(mode, name) or did_you_mean(name, option_specs(mode)) or did_you_mean(name, modes_by_option())
            )
            raise UsageError(f"There is no option {name!r}{where}.{close} `yolo help {mode}` lists those of {mode}.")
    return chosen


def _meant(mode: str, name: str) -> str:
    """` Did you mean 'conf'?` for a name that people know from elsewhere, or nothing."""
    known = synonyms(name, mode)
    return f" Did you mean {' or '.join(map(repr, known))}?" if known else ""


def _note(mode: str, name: str, value: Any, file: str) -> None:
    """Log that a key is left aside, unless nothing is lost by it."""
    modes = modes_by_option().get(name, ())
    if name in BOOKKEEPING or value is None or (name in WITHOUT_MEANING and value == WITHOUT_MEANING[name]):
        return
    if modes and file:  # a file may hold the keys of every mode
        return
    why = f"has no meaning in {mode} (it is a key of {', '.join(modes)})" if modes else "has no meaning in yolopose"
    LOGGER.warning(f"{name}={value}{f' in {file}' if file else ''} {why}: left aside.{_meant(mode, name)}")


def check_value(key: OptionSpec, value: Any, where: str = "") -> Any:
    """Check one value against its key and gives it the declared type.

    Args:
        key: the key of the table.
        value: a plain value, or a `Path`, numpy number or array, `torch.device`.
        where: where the value stands, for the error text (" in args.yaml").

    Raises:
        UsageError: naming the key, what it takes and what was given.
    """
    if key.type == "Any":
        return value
    value = _plain(key, value)
    if key.name == "imgsz" and isinstance(value, str):
        raise UsageError(
            f"imgsz={value!r}{where} is not possible: it takes the side of a square (imgsz=320), or height,width "
            "(imgsz=320,240 is 320 pixels high and 240 wide)."
        )
    found = _typed(key, value, where)
    if key.choices is not None and isinstance(found, str):  # optimizer=adamw, format=ONNX
        found = next((choice for choice in key.choices if str(choice).lower() == found.lower()), found)
    if key.choices is not None and found not in key.choices:
        hint = did_you_mean(str(found), [str(choice) for choice in key.choices])
        raise UsageError(
            f"{key.name}={value!r}{where} is not possible: it is one of {', '.join(map(str, key.choices))}.{hint}"
        )
    for number in found if isinstance(found, (list, tuple)) else (found,):
        if isinstance(number, (int, float)) and not isinstance(number, bool):
            _check_range(key, number, where)
    if key.name == "fraction" and "Sequence" in key.type:
        return _check_fraction(found, where)
    if key.name == "imgsz" and isinstance(found, (list, tuple)) and len(found) not in (1, 2):
        raise UsageError(f"imgsz={value!r}{where}: give one side, or height,width (imgsz=320,240), in pixels.")
    return found


def _plain(key: OptionSpec, value: Any) -> Any:
    """Turn what callers hold in place of plain values into these."""
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):  # numpy and torch numbers and arrays
        return value.tolist()
    if key.name == "device" and hasattr(value, "type") and hasattr(value, "index"):  # torch.device
        return str(value)
    if key.name == "device" and isinstance(value, (list, tuple)) and any(isinstance(one, str) for one in value):  # pyright: ignore[reportUnknownVariableType]
        return ",".join(str(one) for one in value)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    return list(value) if isinstance(value, range) else value


def _check_fraction(fraction: Any, where: str) -> float | int | list[float | int]:
    """Return the training images to use: a share in (0, 1], an integer above 1, or a list of these.

    1 is the whole data set in either type: training on a single image is never meant.
    """
    if isinstance(fraction, list):
        return [_check_fraction(part if not isinstance(part, list) else None, where) for part in fraction]  # type: ignore[misc]
    is_number = isinstance(fraction, (int, float)) and not isinstance(fraction, bool)
    if is_number and 0 < fraction <= 1:
        return float(fraction)
    if is_number and fraction > 1 and fraction == int(fraction):
        return int(fraction)
    raise UsageError(
        f"fraction={fraction!r}{where} is not possible: give a share of the training images above 0 and up to 1 "
        "(fraction=0.5), a number of images above 1 (fraction=500), or a list with one of these for each entry of "
        "`train:` in the data YAML."
    )


def _check_range(key: OptionSpec, number: float, where: str) -> None:
    low, high = key.low, key.high
    if math.isfinite(number) and (low is None or number >= low) and (high is None or number <= high):
        return
    span = f"from {low:g} to {high:g}" if low is not None and high is not None else f"from {low or 0:g} up"
    raise UsageError(f"{key.name}={number!r}{where} is out of range: it goes {span} ({key.help}).")


def _typed(key: OptionSpec, value: Any, where: str) -> Any:
    """Take the first of the declared types that the value fits."""
    kinds = [kind.strip() for kind in _spelled_out(key.type).split("|")]
    if value is None:
        if "None" in kinds:
            return None
    elif isinstance(value, bool):
        if "bool" in kinds:
            return value
    elif isinstance(value, int):
        for kind in ("int", "float"):
            if kind in kinds:
                return _PLAIN[kind](value)
        if "bool" in kinds and value in (0, 1):
            return bool(value)
        if "str" in kinds:  # a run folder may be called 7
            return str(value)
    elif isinstance(value, float):
        if "float" in kinds:
            return value
        if "int" in kinds and value.is_integer():
            return int(value)
    elif isinstance(value, str):
        if "str" in kinds:
            return value
    elif isinstance(value, (list, tuple)) and (
        "Sequence[Any]" in kinds or ("Sequence[int]" in kinds and all(type(item) is int for item in value))
    ):
        return list(value)
    raise UsageError(f"{key.name}={value!r}{where} is not possible: it takes {_in_words(kinds)} ({key.help}).")


def _spelled_out(text: str) -> str:
    return {"ImageSize": "int | Sequence[int]", "DeviceSpec": "str | int | Sequence[int] | None"}.get(text, text)


_WORDS = {
    "bool": "True or False",
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "None": "None",
    "Sequence[int]": "a list of whole numbers such as [0, 1]",
    "Sequence[Any]": "a list",
}


def _in_words(kinds: list[str]) -> str:
    return " or ".join(_WORDS.get(kind, kind) for kind in kinds)
