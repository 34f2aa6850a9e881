"""One trial of a search: train with some options, report the score of each epoch, return the final score."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from yolopose.model.tuning.plan import LARGE_ERROR, SearchPlan

_AVERAGED = 3
"""Last validations whose mean is the score: that of a single epoch is noisy on few images."""
_KEYS = {
    "fitness": ("metrics/mAP50-95(B)", "metrics/mAP50-95(P)"),
    "pose": ("metrics/mAP50-95(P)",),
    "box": ("metrics/mAP50-95(B)",),
    "pixels": ("pixels/mean",),
}

Report = Callable[[float, int], bool]
"""Receives score and step of a trial after each epoch; returns whether to stop the trial."""


class TrialStopped(Exception):
    """The trial is stopped early."""


def score_of(metrics: Mapping[str, float], metric: str) -> float:
    """Return the score of a validation; `pixels` is an error, where less is better."""
    value = sum(float(metrics.get(key, float("nan"))) for key in _KEYS[metric])
    if value == value:
        return value
    return LARGE_ERROR if metric == "pixels" else 0.0


def run_trial(plan: SearchPlan, params: Mapping[str, Any], folder: Path, report: Report, device: str | None) -> float:
    """Train with these options on each inner division and return the mean score.

    Args:
        plan: the search.
        params: values of the searched options.
        folder: for the runs of the trial; they are removed at the end, except for results.csv and args.yaml.
        report: called after each epoch. With several divisions the reported score is the mean of those so far.
        device: device of the trial; None for that of the options.

    Raises:
        TrialStopped: `report` asked for it.
        YoloposeError: the training fails.
    """
    finals: list[float] = []
    for number, data in enumerate(plan.inner):
        finals.append(_train(plan, params, folder, report, device, data, number, finals))
    return sum(finals) / len(finals)


def _train(
    plan: SearchPlan,
    params: Mapping[str, Any],
    folder: Path,
    report: Report,
    device: str | None,
    data: str,
    number: int,
    finals: list[float],
) -> float:
    from yolopose.model.yolo import YOLO

    scores: list[float] = []

    def after_epoch(trainer: Any) -> None:
        if len(scores) > trainer.epoch or not trainer.metrics:
            return  # the event occurs once more after the last epoch
        scores.append(score_of(trainer.metrics, plan.metric))
        recent = scores[-_AVERAGED:]
        mean = (sum(finals) + sum(recent) / len(recent)) / (len(finals) + 1)
        if report(mean, number * trainer.epochs + trainer.epoch):
            raise TrialStopped

    model = YOLO(plan.model, verbose=False)
    model.add_callback("on_fit_epoch_end", after_epoch)
    values: dict[str, Any] = {**plan.fixed, **params}
    if device is not None:
        values["device"] = device
    run = folder / f"part{number + 1}"
    values |= {"project": str(folder), "name": run.name, "exist_ok": True, "val": True, "split": "val"}
    values |= {"data": data, "plots": False, "save": False, "verbose": False, "patience": 0}
    try:
        model.train(**values)
    finally:
        shutil.rmtree(run / "weights", ignore_errors=True)
    recent = scores[-_AVERAGED:]
    return sum(recent) / max(len(recent), 1)


class Deadline:
    """Stops trials when the time of a search is over.

    Args:
        seconds: time left; None for no limit.
    """

    def __init__(self, seconds: float | None) -> None:
        self._end = None if seconds is None else time.monotonic() + seconds

    @property
    def passed(self) -> bool:
        """Whether the time is over."""
        return self._end is not None and time.monotonic() > self._end
