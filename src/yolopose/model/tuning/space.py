"""Search space: which training options are searched, within which limits, and where the search starts."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from yolopose.base.errors import UsageError
from yolopose.base.yamlfile import read_yaml
from yolopose.config import TrainOptions, TuneOptions, option_specs

PRIOR_SD = 1 / 6
"""Standard deviation, as a share of the range, of the first trials around the defaults."""
_NOT_SEARCHED = frozenset(
    (
        "model",
        "data",
        "project",
        "name",
        "exist_ok",
        "resume",
        "verbose",
        "plots",
        "save",
        "val",
        "split",
        "folds",
        "repeats",
    )
)


@dataclass(frozen=True, slots=True)
class Dimension:
    """Values of one option.

    Attributes:
        low: smallest value.
        high: largest value.
        log: whether the search is uniform in the logarithm.
        integer: whether values are integers.
        choices: the values, for an option that is not a number; `low` and `high` are then 0.
    """

    low: float = 0.0
    high: float = 0.0
    log: bool = False
    integer: bool = False
    choices: tuple[Any, ...] = ()

    def suggest(self, trial: Any, name: str) -> Any:
        """Return the value that Optuna chooses for a trial."""
        if self.choices:
            return trial.suggest_categorical(name, self.choices)
        if self.integer:
            return trial.suggest_int(name, int(self.low), int(self.high), log=self.log)
        return trial.suggest_float(name, self.low, self.high, log=self.log)

    def distribution(self) -> Any:
        """Return the distribution of Optuna with these values."""
        from optuna import distributions

        if self.choices:
            return distributions.CategoricalDistribution(self.choices)
        if self.integer:
            return distributions.IntDistribution(int(self.low), int(self.high), log=self.log)
        return distributions.FloatDistribution(self.low, self.high, log=self.log)

    def clip(self, value: Any) -> Any:
        """Return the nearest value of this dimension."""
        if self.choices:
            return value if value in self.choices else self.choices[0]
        limited = min(max(float(value), self.low), self.high)
        return int(limited) if self.integer else limited

    def near(self, value: Any, rng: np.random.Generator) -> Any:
        """Return a random value around another one: normal, with `PRIOR_SD` of the range as standard deviation."""
        if self.choices:
            return self.choices[int(rng.integers(len(self.choices)))] if rng.random() < PRIOR_SD else self.clip(value)
        low, high = (math.log(self.low), math.log(self.high)) if self.log else (self.low, self.high)
        center = math.log(self.clip(value)) if self.log else self.clip(value)
        drawn = min(max(center + rng.normal(0, PRIOR_SD * (high - low)), low), high)
        drawn = math.exp(drawn) if self.log else drawn
        return self.clip(round(drawn) if self.integer else drawn)


Space = dict[str, Dimension]


def default_space(options: TrainOptions, given: Collection[str], *, flips: bool) -> Space:
    """Return the options to search for a recipe.

    Limits lie around the values that the recipe has chosen for the data; learning rate, decay and loss gains are
    searched by their logarithm. Options that the caller gives are not searched.

    Args:
        options: of a trial, completed by the recipe.
        given: names of the options that the caller set.
        flips: whether the keypoints have mirror pairs, without which images are not flipped.
    """
    space: Space = {
        "lr0": _around(options.lr0, 5),
        "lrf": Dimension(0.005, 0.5, log=True),
        "weight_decay": _around(options.weight_decay, 10),
        "pose": _around(options.pose, 3),
        "cls": _around(options.cls, 3),
        "box": _around(options.box, 3),
        "scale": Dimension(0.0, 0.9),
        "translate": Dimension(0.0, 0.4),
        "degrees": Dimension(0.0, 60.0),
        "mosaic": Dimension(0.0, 1.0),
        "hsv_v": Dimension(0.0, 0.9),
    }
    if options.recipe == "auto":
        space |= {"kpt_l1": Dimension(0.0, 3.0), "lr_backbone": Dimension(0.1, 1.0, log=True)}
    else:
        space |= {"warmup_epochs": Dimension(0.0, 5.0), "hsv_s": Dimension(0.0, 0.9)}
        if options.optimizer in ("SGD", "MuSGD", "RMSProp"):
            space["momentum"] = Dimension(0.8, 0.98)
    if flips:
        space["fliplr"] = Dimension(0.0, 0.5)
    if options.optimizer == "auto":  # it chooses the learning rate
        del space["lr0"]
    return {name: dimension for name, dimension in space.items() if name not in given}


def _around(value: float, factor: float) -> Dimension:
    return Dimension(value / factor, value * factor, log=True) if value > 0 else Dimension(0.0, 1.0)


def read_space(space: str | Path | Mapping[str, Any]) -> Space:
    """Read a space of the user: `NAME: [low, high]`, `NAME: {low: …, high: …, log: true}` or `NAME: [a, b, c]`.

    Two numbers are limits; other lists are choices.

    Raises:
        NotFoundError: the file does not exist.
        UsageError: an option is unknown or cannot be searched, or its values are impossible.
    """
    where = "space=" if isinstance(space, Mapping) else str(space)
    values = space if isinstance(space, Mapping) else read_yaml(Path(space), "search space (space=)")
    specs = option_specs("train")
    result: Space = {}
    for name, value in values.items():
        if name not in specs or name in _NOT_SEARCHED:
            raise UsageError(f"{where}: {name!r} is not a training option that can be searched; see `yolo help train`.")
        result[name] = _read_dimension(name, value, where)
    if not result:
        raise UsageError(f"{where} is empty: name at least one option, such as lr0: [0.0001, 0.01].")
    return result


def _read_dimension(name: str, value: Any, where: str) -> Dimension:
    from yolopose.config.check import check_value

    spec = option_specs("train")[name]
    log = False
    if isinstance(value, Mapping):
        log = value.get("log") is True
        value = [value.get("low"), value.get("high")]
    if not isinstance(value, (list, tuple)) or len(value) < 2:
        raise UsageError(f"{where}: {name}={value!r} is not possible: give [low, high], or a list of choices.")
    checked = tuple(check_value(spec, item, f" in {where}") for item in value)
    is_range = len(checked) == 2 and all(isinstance(item, (int, float)) for item in checked)
    if not is_range or any(isinstance(item, bool) for item in checked):
        if not all(isinstance(item, (bool, int, float, str, type(None))) for item in checked):
            raise UsageError(f"{where}: {name}={value!r} is not possible: choices are numbers, texts, True or False.")
        return Dimension(choices=checked)
    low, high = checked
    if low >= high or (log and low <= 0):
        limits = "0 < low < high with log" if log else "low < high"
        raise UsageError(f"{where}: {name}={value!r} is not possible: the limits must be {limits}.")
    return Dimension(float(low), float(high), log, spec.types[0] is int)


def start_points(space: Space, options: TrainOptions, count: int, seed: int) -> list[dict[str, Any]]:
    """Return the first trials: the defaults, and `count - 1` random points around them.

    Args:
        space: the search space.
        options: the defaults, completed by the recipe.
        count: number of points, at least 1.
        seed: random seed.
    """
    rng = np.random.default_rng(seed)
    defaults = {name: dimension.clip(getattr(options, name)) for name, dimension in space.items()}
    others = [
        {name: dimension.near(defaults[name], rng) for name, dimension in space.items()} for _ in range(count - 1)
    ]
    return [defaults, *others]


def space_of(options: TuneOptions, completed: TrainOptions, given: Collection[str], *, flips: bool) -> Space:
    """Return the space that the caller names, or that of the recipe.

    Raises:
        UsageError: the space is impossible or empty.
    """
    space = default_space(completed, given, flips=flips) if options.space is None else read_space(options.space)
    if not space:
        raise UsageError("All options of the search space are given: omit some of them, or name others with space=.")
    return space
