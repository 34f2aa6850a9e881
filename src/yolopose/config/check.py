"""Checks of option values: from what a person wrote to a filled-in options dataclass, or one clear error."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from yolopose.base.errors import UsageError, did_you_mean
from yolopose.base.log import LOGGER
from yolopose.base.yamlfile import read_yaml
from yolopose.config.table import MODES, WITHOUT_MEANING, Key, Options, all_keys, keys_of

_PLAIN = {"bool": bool, "int": int, "float": float, "str": str}


def resolve(mode: str, given: Mapping[str, Any]) -> Options:
    """Checks the given keys of a mode and fills in defaults.

    A `cfg` key names a YAML file whose keys count as given too; keys given directly win over it.

    Args:
        mode: `predict`, `val`, …
        given: flat keys and values.

    Returns:
        The options dataclass of the mode.

    Raises:
        UsageError: an unknown mode or key, or a value of the wrong type or out of range.
        NotFoundError: the `cfg` file is not there.
    """
    if mode not in MODES:
        raise UsageError(f"There is no mode {mode!r}.{did_you_mean(mode, MODES)} The modes are: {', '.join(MODES)}.")
    if given.get("cfg"):
        from_file = read_yaml(given["cfg"], "options file (cfg=)")
        # a file may hold the keys of every mode at once, as `yolo copy-cfg` writes it
        from_file = {key: value for key, value in from_file.items() if _known(mode, key, f" in {given['cfg']}")}
        given = {**from_file, **given}
    chosen: dict[str, Any] = {}
    for name, value in given.items():
        if _known(mode, name):
            chosen[name] = check_value(keys_of(mode)[name], value)
    return MODES[mode](**chosen)


def _known(mode: str, name: str, where: str = "") -> bool:
    """Whether the key is one of the mode; False for one that can be left aside, said where that matters.

    Raises:
        UsageError: nobody knows the key.
    """
    if name in keys_of(mode):
        return True
    if name in WITHOUT_MEANING:
        return False
    if name in all_keys():
        if not where:
            LOGGER.warning(
                f"{name}= has no meaning in {mode} (it is a key of {', '.join(all_keys()[name])}): left aside."
            )
        return False
    close = did_you_mean(name, keys_of(mode)) or did_you_mean(name, all_keys())
    raise UsageError(f"There is no option {name!r}{where}.{close} `yolo help {mode}` lists the options of {mode}.")


def note_ignored(given: Mapping[str, Any]) -> None:
    """Says once a run which given keys mean nothing for pose, where they are not at their default."""
    for name, value in given.items():
        if name in WITHOUT_MEANING and name not in all_keys() and value not in (None, WITHOUT_MEANING[name]):
            LOGGER.warning(f"{name}={value} has no meaning for pose: left aside.")


def check_value(key: Key, value: Any) -> Any:
    """Checks one value against its key and gives it the declared type.

    Raises:
        UsageError: naming the key, what it takes and what was given.
    """
    if key.type == "Any":
        return value
    if isinstance(value, Path):
        value = str(value)
    found = _typed(key, value)
    if key.choices is not None and found not in key.choices:
        hint = did_you_mean(str(found), [str(choice) for choice in key.choices])
        raise UsageError(
            f"{key.name}={value!r} is not possible: it is one of {', '.join(map(str, key.choices))}.{hint}"
        )
    for number in found if isinstance(found, (list, tuple)) else (found,):
        if isinstance(number, (int, float)) and not isinstance(number, bool):
            _check_range(key, number)
    if key.name == "imgsz" and isinstance(found, (list, tuple)) and len(found) not in (1, 2):
        raise UsageError(f"imgsz={value!r}: give one side or [height, width], in pixels.")
    return found


def _check_range(key: Key, number: float) -> None:
    low, high = key.low, key.high
    if math.isfinite(number) and (low is None or number >= low) and (high is None or number <= high):
        return
    span = f"from {low:g} to {high:g}" if low is not None and high is not None else f"at least {low or 0:g}"
    raise UsageError(f"{key.name}={number!r} is out of range: it goes {span} ({key.help}).")


def _typed(key: Key, value: Any) -> Any:
    """Takes the first of the declared types that the value fits."""
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
    raise UsageError(f"{key.name}={value!r} is not possible: it takes {_in_words(kinds)} ({key.help}).")


def _spelled_out(text: str) -> str:
    return {"Size": "int | Sequence[int]", "Device": "str | int | Sequence[int] | None"}.get(text, text)


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
