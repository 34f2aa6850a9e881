"""Find and read a model YAML, and resolve its scale."""

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
class ModelYaml:
    """A model YAML at one scale.

    Attributes:
        label: how error messages name it.
        name: name of the network, such as `yolo11n-pose`.
        values: content of the YAML.
        scale: scale letter; empty where the YAML has no scales.
        depth: factor for repeats.
        width: factor for channels.
        max_channels: limit of channels before the factor is applied.
    """

    label: str
    name: str
    values: dict[str, Any]
    scale: str
    depth: float
    width: float
    max_channels: float

    def scale_repeats(self, count: int) -> int:
        """Return the repeats of a layer at this scale."""
        return max(round(count * self.depth), 1) if count > 1 else count

    def scale_channels(self, count: int) -> int:
        """Return the output channels of a layer at this scale, a multiple of 8."""
        return math.ceil(min(count, self.max_channels) * self.width / 8) * 8


def load_model_yaml(source: str | Path | Mapping[str, Any], scale: str | None = None) -> ModelYaml:
    """Read a model YAML and resolve its scale.

    Args:
        source: a path, the name of a shipped YAML (`yolo11n-pose.yaml`), or the content of a YAML.
        scale: scale letter; None takes that of the name, of the `scale` key, or the first of the table.

    Raises:
        NotFoundError: the file does not exist.
        ModelError: the file, its scales or the letter are invalid.
    """
    if isinstance(source, Mapping):
        values = {str(key): copy.deepcopy(value) for key, value in source.items()}
        stem = _stem(str(values.get("yaml_file") or "model"))
        label = f"Model YAML of {stem}"
        letter = scale or values.get("scale") or _split_letter(stem)[0]
    else:
        path, stem = _find_yaml(Path(source))
        values = read_yaml(path, "model YAML", ModelError)
        label = f"Model YAML {path}"
        requested = _split_letter(stem)[0]
        letter = scale or requested or values.get("scale")
        if requested and path.stem != stem and not values.get("scales"):
            raise ModelError(f"{label} has no `scales`, so scale {requested!r} does not exist; use {path.name}.")
    if scale and not values.get("scales"):
        raise ModelError(f"{label} has no `scales`, so scale {scale!r} cannot be chosen.")
    letter, factors = _scale_factors(values, letter, label)
    return ModelYaml(
        label=label,
        name=_with_letter(stem, letter),
        values=values,
        scale=letter,
        depth=factors[0],
        width=factors[1],
        max_channels=factors[2],
    )


def _stem(name: str) -> str:
    """Return the file name without folder (of either platform) and suffix."""
    return re.sub(r"\.ya?ml$", "", re.split(r"[/\\]", name)[-1], flags=re.IGNORECASE)


def _split_letter(stem: str) -> tuple[str, str]:
    """Return the scale letter of a name ("" without one), and the name without it."""
    match = _SCALED_NAME.match(stem)
    if match is None:
        return "", stem
    return match["letter"].lower(), match["family"] + match["rest"]


def _with_letter(stem: str, letter: str) -> str:
    match = _SCALED_NAME.match(stem)
    return stem if match is None or not letter else match["family"] + letter + match["rest"]


def _find_yaml(requested: Path) -> tuple[Path, str]:
    """Return the file to open and the requested stem: as named, else without the letter, else a shipped one."""
    if requested.suffix.lower() not in (".yaml", ".yml"):
        if requested.suffix.lower() in (".pt", ".onnx", ".safetensors"):
            raise ModelError(f"{requested} is a weights file, not a model YAML. Open it with model={requested}.")
        requested = requested.with_name(requested.name + ".yaml")
    plain = requested.with_name(_split_letter(requested.stem)[1] + requested.suffix)
    for path in (requested, plain):
        if path.is_file():
            return path, requested.stem
    if requested.parent == Path("."):
        for name in (requested.name, plain.name):
            shipped = model_yaml_path(name)
            if shipped is not None:
                return shipped, requested.stem
    names = model_yaml_names()
    suggestion = suggest_model_name(requested.stem) if requested.parent == Path() else None
    if model_yaml_path(f"{plain.stem}.yaml"):  # .yml instead of .yaml
        suggestion = requested.stem
    hint = f" Did you mean model={suggestion}.yaml?" if suggestion else suggest_path(requested, "model")
    raise NotFoundError(
        f"There is no model YAML {requested} (current folder: {Path.cwd()}).{hint} The shipped ones are: "
        f"{', '.join(names)}; add a scale letter after the number, as in yolo11n-pose.yaml."
    )


def _scale_factors(values: Mapping[str, Any], letter: object, label: str) -> tuple[str, tuple[float, float, float]]:
    """Return the scale letter and its (depth, width, max_channels)."""
    scales = values.get("scales")
    if not scales:
        depth, width = values.get("depth_multiple", 1.0), values.get("width_multiple", 1.0)
        return "", _check_factors((depth, width, math.inf), f"{label}: depth_multiple and width_multiple")
    if not isinstance(scales, Mapping):
        raise ModelError(f"{label}: scales must map a letter to [depth, width, max_channels], got {scales!r}.")
    known = [str(key) for key in scales]
    if not letter:
        letter = known[0]
        LOGGER.info(f"{label}: no scale letter in the name, using scale {letter!r} of {', '.join(known)}.")
    if not isinstance(letter, str) or letter not in known:
        raise ModelError(f"{label} has no scale {letter!r}; it has {', '.join(known)}.")
    row = next(value for key, value in scales.items() if str(key) == letter)
    if not isinstance(row, list) or len(row) != 3:
        raise ModelError(f"{label}: scale {letter!r} must be [depth, width, max_channels], got {row!r}.")
    return letter, _check_factors(row, f"{label}: scale {letter!r}")


def _check_factors(row: Any, where: str) -> tuple[float, float, float]:
    if not all(isinstance(item, (int, float)) and not isinstance(item, bool) and item > 0 for item in row):
        raise ModelError(f"{where} must be positive numbers, got {list(row)!r}.")
    depth, width, limit = row
    if depth > _MAX_SCALE or width > _MAX_SCALE:
        raise ModelError(f"{where}: depth {depth:g} and width {width:g} must not exceed {_MAX_SCALE:g}.")
    return float(depth), float(width), float(limit)
