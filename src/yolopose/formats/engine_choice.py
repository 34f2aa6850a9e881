"""The fastest engine for a network on this machine: measured once, and kept in the cache folder."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, cast

import numpy as np

from yolopose.base.errors import OutputError
from yolopose.base.files import write_text
from yolopose.base.log import LOGGER
from yolopose.runtime import Runtime

_FORMAT = 1  # of the cache files
_WARM_UP = 2
_ROUNDS = 7


@dataclass(frozen=True, slots=True)
class EngineChoice:
    """The fastest engine.

    Attributes:
        name: its name.
        milliseconds: median time of one image by engine.
    """

    name: str
    milliseconds: Mapping[str, float]

    def __str__(self) -> str:
        return ", ".join(f"{name} {value:.1f} ms" for name, value in self.milliseconds.items())


def measure_engines(
    engines: Mapping[str, Runtime], size: tuple[int, int], clock: Callable[[], float] = time.perf_counter
) -> EngineChoice:
    """Time engines in turn, so that other load on the machine affects all of them alike.

    Args:
        engines: by name.
        size: (height, width) of the input, pixels.
        clock: returns seconds.
    """
    image = np.random.default_rng(0).integers(0, 256, (1, 3, *size), dtype=np.uint8)
    seconds: dict[str, list[float]] = {name: [] for name in engines}
    for number in range(_WARM_UP + _ROUNDS):
        for name, engine in engines.items():
            start = clock()
            engine.infer(image, conf=0.25)
            if number >= _WARM_UP:
                seconds[name].append(clock() - start)
    times = {name: 1000 * median(values) for name, values in seconds.items()}
    return EngineChoice(min(times, key=times.__getitem__), times)


def choice_path(folder: Path, key: Sequence[object]) -> Path:
    """Return the cache file for everything that a choice depends on."""
    return folder / f"fastest-{hashlib.sha256(repr(list(key)).encode()).hexdigest()[:16]}.json"


def read_choice(path: Path) -> EngineChoice | None:
    """Return the choice of an earlier run; None if the file is missing or damaged."""
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        return None
    values = cast("dict[str, Any]", content)
    name: Any = values.get("engine")
    times: Any = values.get("milliseconds")
    if not isinstance(times, dict) or name not in times or not all(isinstance(ms, float) for ms in times.values()):
        return None
    return EngineChoice(name, cast("dict[str, float]", times))


def write_choice(path: Path, choice: EngineChoice) -> None:
    """Keep a choice; a failure is logged, and the next run measures again."""
    content = {"format": _FORMAT, "engine": choice.name, "milliseconds": dict(choice.milliseconds)}
    try:
        write_text(path, json.dumps(content, indent=1))
    except OutputError as error:
        LOGGER.warning(f"The measured choice of the engine cannot be kept for later runs. {error}")
