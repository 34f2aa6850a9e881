"""Finding and reading a model YAML: which file, at which scale, with which heading keys."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yolopose.base.errors import ModelError, NotFoundError
from yolopose.base.log import LOGGER
from yolopose.base.suggestions import suggest_path
from yolopose.base.yamlfile import read_yaml
from yolopose.zoo import model_yaml_names, model_yaml_path, suggest_model_name

# "my-yolo11s-pose" → "my-yolo11", "s", "-pose"
_SCALED_NAME = re.compile(r"^(?P<family>.*yolov?\d+)(?P<letter>[a-z]?)(?P<rest>(?:[-_.].*)?)$", re.IGNORECASE)
_MAX_SCALE = 16.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """A model YAML at one scale.

    Attributes:
        label: how error texts name it.
        name: name of the network, such as `yolo11n-pose`.
        values: the YAML's content.
        scale: scale letter; empty where the YAML has no scales.
        depth: factor on repeats.
        width: factor on channels.
        max_channels: channels are cut to it before the factor.
    """

    label: str
    name: str
    values: dict[str, Any]
    scale: str
    depth: float
    width: float
    max_channels: float

    def repeats(self, count: int) -> int:
        """Return a row's repeats at this scale."""
        return max(round(count * self.depth), 1) if count > 1 else count

    def channels(self, count: int) -> int:
        """Return a row's output channels at this scale, a multiple of 8."""
        return math.ceil(min(count, self.max_channels) * self.width / 8) * 8


def load_definition(source: str | Path | Mapping[str, Any], scale: str | None = None) -> Definition:
    """Read a model YAML and settles its scale.

    Args:
        source: a path, the name of a YAML that ships (`yolo11n-pose.yaml`), or a YAML's content.
        scale: scale letter; None takes it from the name, the `scale` key, or the first one.

    Raises:
        NotFoundError: there is no such file.
        ModelError: the file, its scales or the letter are wrong.
    """
    if isinstance(source, Mapping):
        values = {str(key): copy.deepcopy(value) for key, value in source.items()}
        stem = _stem(str(values.get("yaml_file") or "model"))
        label = f"Model YAML of {stem}"
        letter = scale or values.get("scale") or _split(stem)[0]
    else:
        path, stem = _find(Path(source))
        values = read_yaml(path, "model YAML", ModelError)
        label = f"Model YAML {path}"
        asked = _split(stem)[0]
        letter = scale or asked or values.get("scale")
        if asked and path.stem != stem and not values.get("scales"):
            raise ModelError(f"{label} has no `scales`, so there is no scale {asked!r} of it; ask for {path.name}.")
    if scale and not values.get("scales"):
        raise ModelError(f"{label} has no `scales`, so scale {scale!r} cannot be chosen.")
    letter, factors = _factors(values, letter, label)
    return Definition(
        label=label,
        name=_with_letter(stem, letter),
        values=values,
        scale=letter,
        depth=factors[0],
        width=factors[1],
        max_channels=factors[2],
    )


def _stem(name: str) -> str:
    """File name without folder (of either platform) and suffix."""
    return re.sub(r"\.ya?ml$", "", re.split(r"[/\\]", name)[-1], flags=re.IGNORECASE)


def _split(stem: str) -> tuple[str, str]:
    """Scale letter of a name ("" without one), and the name without it."""
    match = _SCALED_NAME.match(stem)
    if match is None:
        return "", stem
    return match["letter"].lower(), match["family"] + match["rest"]


def _with_letter(stem: str, letter: str) -> str:
    match = _SCALED_NAME.match(stem)
    return stem if match is None or not letter else match["family"] + letter + match["rest"]


def _find(asked: Path) -> tuple[Path, str]:
    """The file to open and the stem that was asked for: as named, else without the letter, else of the zoo."""
    if asked.suffix.lower() not in (".yaml", ".yml"):
        if asked.suffix.lower() in (".pt", ".onnx", ".safetensors"):
            raise ModelError(
                f"{asked} is a weights file, not a model YAML; it is named where weights are: model={asked}."
            )
        asked = asked.with_name(asked.name + ".yaml")
    plain = asked.with_name(_split(asked.stem)[1] + asked.suffix)
    for path in (asked, plain):
        if path.is_file():
            return path, asked.stem
    if asked.parent == Path("."):
        for name in (asked.name, plain.name):
            shipped = model_yaml_path(name)
            if shipped is not None:
                return shipped, asked.stem
    names = model_yaml_names()
    meant = suggest_model_name(asked.stem) if asked.parent == Path() else None
    if model_yaml_path(f"{plain.stem}.yaml"):  # .yml instead of .yaml
        meant = asked.stem
    near = f" Did you mean model={meant}.yaml?" if meant else suggest_path(asked, "model")
    raise NotFoundError(
        f"There is no model YAML {asked} (current folder: {Path.cwd()}).{near} These ship: "
        f"{', '.join(names)}; put a scale letter behind the number, as in yolo11n-pose.yaml."
    )


def _factors(values: Mapping[str, Any], letter: object, label: str) -> tuple[str, tuple[float, float, float]]:
    """The scale letter in force and its (depth, width, max_channels)."""
    scales = values.get("scales")
    if not scales:
        depth, width = values.get("depth_multiple", 1.0), values.get("width_multiple", 1.0)
        return "", _checked((depth, width, math.inf), f"{label}: depth_multiple and width_multiple")
    if not isinstance(scales, Mapping):
        raise ModelError(f"{label}: scales must map a letter to [depth, width, max_channels], got {scales!r}.")
    known = [str(key) for key in scales]
    if not letter:
        letter = known[0]
        LOGGER.info(f"{label}: no scale letter was given, so scale {letter!r} is taken (known: {', '.join(known)}).")
    if not isinstance(letter, str) or letter not in known:
        raise ModelError(f"{label} has no scale {letter!r}; it has {', '.join(known)}.")
    row = next(value for key, value in scales.items() if str(key) == letter)
    if not isinstance(row, list) or len(row) != 3:
        raise ModelError(f"{label}: scale {letter!r} must be [depth, width, max_channels], got {row!r}.")
    return letter, _checked(row, f"{label}: scale {letter!r}")


def _checked(row: Any, where: str) -> tuple[float, float, float]:
    if not all(isinstance(item, (int, float)) and not isinstance(item, bool) and item > 0 for item in row):
        raise ModelError(f"{where} must be positive numbers, got {list(row)!r}.")
    depth, width, limit = row
    if depth > _MAX_SCALE or width > _MAX_SCALE:
        raise ModelError(f"{where}: depth {depth:g} and width {width:g} must not exceed {_MAX_SCALE:g}.")
    return float(depth), float(width), float(limit)
