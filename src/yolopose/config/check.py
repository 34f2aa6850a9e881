"""Check option values as users write them, and make the options dataclass of a mode."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import NoneType
from typing import Any

from yolopose.base.errors import UsageError, did_you_mean
from yolopose.base.log import LOGGER, warn_once
from yolopose.base.yamlfile import read_yaml
from yolopose.config.table import (
    ALIASES,
    FILE_KEYS,
    MODES,
    Options,
    OptionSpec,
    find_synonyms,
    modes_by_option,
    option_specs,
)
from yolopose.config.unsupported import IGNORED_OPTIONS, REFUSED_ARGUMENTS, refuse_argument

_OBJECT_KEYS = ("model", "task")
_FILE_KEY_ADVICE = {
    "mode": "this is the mode {mode}",
    "save_dir": "give the parent folder and the name of the run folder, project='runs' name='first' exist_ok=True",
}
# Boolean words of YAML 1.1, which users write in option files and on the command line.
_BOOL_WORDS = {"yes": True, "on": True, "no": False, "off": False}


class CheckedOptions(dict[str, Any]):
    """Given options of a mode by name, checked and converted; checking them again returns them unchanged."""

    def __init__(self, mode: str, values: Mapping[str, Any]) -> None:
        super().__init__(values)
        self.mode = mode


def make_options(mode: str, given: Mapping[str, Any]) -> Options:
    """Check the given options of a mode and fill in the defaults.

    Args:
        mode: `predict`, `val`, ….
        given: values by name, as for `check_options`.

    Returns:
        The options dataclass of the mode.

    Raises:
        UsageError: an unknown mode or option, a wrong or impossible value, or a contradiction.
        NotFoundError: the `cfg` file does not exist.
    """
    options = check_options(mode, given)
    if options.get("end2end") is False and options.get("nms") is False:
        raise UsageError("nms=False means end2end=True, which contradicts end2end=False: omit one of them.")
    return MODES[mode](**options)


def check_options(mode: str, given: Mapping[str, Any]) -> CheckedOptions:
    """Check the given options of a mode, without filling in defaults.

    `cfg` names a YAML file of options; those given directly win over it. The file may hold options of every mode, and
    an option without a value (`conf:`) counts as not given.

    Raises:
        UsageError: an unknown mode or option, or a value of the wrong type or out of range.
        NotFoundError: the `cfg` file does not exist.
    """
    if isinstance(given, CheckedOptions) and given.mode == mode:
        return given
    if mode not in MODES:
        raise UsageError(f"Unknown mode {mode!r}.{did_you_mean(mode, MODES)} The modes are: {', '.join(MODES)}.")
    from_file: dict[str, Any] = {}
    file = given.get("cfg")
    if file is not None:
        if not isinstance(file, (str, Path)):
            raise UsageError(f"cfg={file!r} is not possible: it must be the path of a YAML file of options.")
        values = {name: value for name, value in read_yaml(file, "options file (cfg=)").items() if value is not None}
        from_file = _check_values(mode, values, str(file))
    return CheckedOptions(mode, {**from_file, **_check_values(mode, given)})


def check_overrides(mode: str, values: Mapping[str, Any]) -> CheckedOptions:
    """Check the options of `model.overrides` that concern a mode; those of other modes are left out.

    Raises:
        UsageError: an option is unknown or cannot be set there, or a value is impossible.
    """
    place = "model.overrides"
    refused = [name for name in (*_OBJECT_KEYS, "cfg", "save_dir", "stream") if name in values]
    if refused:
        hint = "open another network with YOLO(…)" if refused[0] in _OBJECT_KEYS else "give it to each call"
        raise UsageError(f"{refused[0]}={values[refused[0]]!r} cannot be set in {place}: {hint}.")
    given = {name: value for name, value in values.items() if value is not None}
    return CheckedOptions(mode, _check_values(mode, given, place))


def _check_values(mode: str, values: Mapping[str, Any], file: str = "") -> dict[str, Any]:
    """Return the checked values of the mode's own options; warn about ignored ones.

    Raises:
        UsageError: an unknown option or an impossible value; the message names the file, if any.
    """
    where = f" in {file}" if file else ""
    specs = option_specs(mode)
    checked: dict[str, Any] = {}
    for name, value in values.items():
        name = ALIASES[name] if ALIASES.get(name) in specs else name
        if name in specs:
            checked[name] = check_value(specs[name], value, where)
            if specs[name].unread and checked[name] != specs[name].default:
                warn_once(f"{name}={checked[name]}{where} is not used in this version yet and is ignored.")
        elif name in REFUSED_ARGUMENTS:
            if value not in (None, False):
                raise refuse_argument(name, mode)
        elif name in IGNORED_OPTIONS or name in FILE_KEYS or name in modes_by_option():
            _warn_ignored(mode, name, value, file)
        else:
            hint = _suggest_synonym(mode, name) or did_you_mean(name, specs) or did_you_mean(name, modes_by_option())
            raise UsageError(f"Unknown option {name!r}{where}.{hint} `yolo help {mode}` lists the options of {mode}.")
    return checked


def _suggest_synonym(mode: str, name: str) -> str:
    """Return ` Did you mean 'conf'?` for a name that other tools use, or an empty string."""
    known = find_synonyms(name, mode)
    return f" Did you mean {' or '.join(map(repr, known))}?" if known else ""


def _warn_ignored(mode: str, name: str, value: Any, file: str) -> None:
    """Warn that an option has no effect in this mode, unless ignoring it changes nothing.

    Raises:
        UsageError: a call contains a key with which an options file describes itself.
    """
    modes = modes_by_option().get(name, ())
    if name in FILE_KEYS:
        if not file and name != "cfg" and value not in (None, mode):
            raise UsageError(f"{name}={value!r} is not possible: {_FILE_KEY_ADVICE[name].format(mode=mode)}.")
        return
    default, advice = IGNORED_OPTIONS.get(name, (None, ""))
    if value is None or (name in IGNORED_OPTIONS and value == default):
        return
    if modes and file:  # a file may hold the options of every mode
        return
    where = f" in {file}" if file else ""
    if advice:
        LOGGER.warning(f"{name}={value}{where} has no effect in {mode} and is ignored: {advice}.")
        return
    shown = [other for other in modes if other != "tune" or "train" not in modes]  # tune has all options of train
    reason = f"no effect in {mode} (it is an option of {', '.join(shown)})"
    LOGGER.warning(f"{name}={value}{where} has {reason} and is ignored.{_suggest_synonym(mode, name)}")


def check_value(spec: OptionSpec, value: Any, where: str = "") -> Any:
    """Check one value and convert it to the declared type.

    Args:
        spec: declaration of the option.
        value: a plain value, a `Path`, a numpy value or array, or a `torch.device`.
        where: place of the value, for the error text (" in args.yaml").

    Raises:
        UsageError: the value is impossible; the message names the option and what it accepts.
    """
    if Any in spec.types:
        return value
    value = _to_plain(spec, value)
    if spec.name == "imgsz" and isinstance(value, str):
        raise UsageError(
            f"imgsz={value!r}{where} is not possible: give the side of a square (imgsz=320), or height,width "
            "(imgsz=320,240 is 320 pixels high and 240 wide)."
        )
    converted = _convert(spec, value, where)
    if spec.choices is not None:
        converted = _check_choice(spec, converted, where)
    for item in converted if isinstance(converted, list) else (converted,):
        if isinstance(item, (int, float)) and not isinstance(item, bool):
            _check_range(spec, item, where)
    if spec.name == "augmentations" and converted:
        _check_transforms(converted, where)
    if spec.name == "fraction" and Sequence[Any] in spec.types:
        return _check_fraction(converted, where)
    if spec.name == "imgsz" and isinstance(converted, list) and len(converted) not in (1, 2):
        raise UsageError(f"imgsz={value!r}{where}: give one side, or height,width (imgsz=320,240), in pixels.")
    return converted


def _to_plain(spec: OptionSpec, value: Any) -> Any:
    """Convert paths, arrays and devices to plain values."""
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):  # numpy and torch values and arrays
        return value.tolist()
    if spec.name == "device" and hasattr(value, "type") and hasattr(value, "index"):  # torch.device
        return str(value)
    if isinstance(value, range):
        return list(value)
    if spec.name == "device" and isinstance(value, (list, tuple)) and any(isinstance(item, str) for item in value):
        return ",".join(map(str, value))
    return value


def _convert(spec: OptionSpec, value: Any, where: str) -> Any:
    """Return the value as the first declared type that it fits."""
    types = spec.types
    if value is None and NoneType in types:
        return None
    if isinstance(value, bool):
        if bool in types:
            return value
    elif isinstance(value, int):
        if int in types:
            return value
        if float in types:
            return float(value)
        if bool in types and value in (0, 1):
            return bool(value)
        if str in types:  # a run folder may have the name 7
            return str(value)
    elif isinstance(value, float):
        if float in types:
            return value
        if int in types and value.is_integer():
            return int(value)
    elif isinstance(value, str):
        if bool in types and value.lower() in _BOOL_WORDS:
            return _BOOL_WORDS[value.lower()]
        if str in types:
            return value
    elif isinstance(value, (list, tuple)) and _fits_sequence(types, value):
        return list(value)
    accepted = " or ".join(_TYPE_NAMES[kind] for kind in types)
    raise UsageError(f"{spec.name}={value!r}{where} is not possible: it takes {accepted} ({spec.help}).")


def _fits_sequence(types: Sequence[Any], values: Sequence[Any]) -> bool:
    only_integers = all(type(item) is int for item in values)
    return Sequence[Any] in types or (only_integers and (Sequence[int] in types or Sequence[int | str] in types))


_TYPE_NAMES: dict[Any, str] = {
    bool: "True or False",
    int: "an integer",
    float: "a number",
    str: "text",
    NoneType: "None",
    Sequence[int]: "a list of integers such as [0, 1]",
    Sequence[int | str]: "a list such as [0, 1]",
    Sequence[Any]: "a list",
}


def _check_choice(spec: OptionSpec, value: Any, where: str) -> Any:
    """Return the choice that the value names; the case of letters does not matter."""
    choices = spec.choices or ()
    if isinstance(value, str):
        value = next((choice for choice in choices if str(choice).lower() == value.lower()), value)
    if value not in choices:
        hint = did_you_mean(str(value), [str(choice) for choice in choices])
        raise UsageError(
            f"{spec.name}={value!r}{where} is not possible: it is one of {', '.join(map(str, choices))}.{hint}"
        )
    return value


def _check_range(spec: OptionSpec, value: float, where: str) -> None:
    low, high = spec.low, spec.high
    if math.isfinite(value) and (low is None or value >= low) and (high is None or value <= high):
        return
    span = f"from {low:g} to {high:g}" if low is not None and high is not None else f"from {low or 0:g} up"
    raise UsageError(f"{spec.name}={value!r}{where} is out of range: it goes {span} ({spec.help}).")


def _check_fraction(fraction: float | list[Any], where: str) -> float | int | list[float | int]:
    """Return the training images to use: a share in (0, 1], an integer above 1, or a list of these.

    1 is the whole data set in either type: training on a single image is never meant.
    """
    if isinstance(fraction, list):
        return [_check_share_or_count(item, where) for item in fraction]
    return _check_share_or_count(fraction, where)


def _check_transforms(transforms: Sequence[Any], where: str) -> None:
    """Check that own transforms are objects that can be called, or operations of `yolopose.train.feed`."""
    for item in transforms:
        if not callable(item) and not hasattr(item, "from_options"):
            raise UsageError(
                f"augmentations={item!r}{where} is not possible: it takes a list of transforms, objects that are "
                "called with the image, such as [A.Blur(p=0.1)] of albumentations or own functions. A file of "
                "options and the command line cannot hold them: call YOLO(…).train(augmentations=[…]) in Python."
            )


def _check_share_or_count(value: Any, where: str) -> float | int:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if 0 < value <= 1:
            return float(value)
        if value > 1 and value == int(value):
            return int(value)
    raise UsageError(
        f"fraction={value!r}{where} is not possible: give a share of the training images above 0 and up to 1 "
        "(fraction=0.5), a number of images above 1 (fraction=500), or a list with one of these for each entry of "
        "`train:` in the data YAML."
    )
