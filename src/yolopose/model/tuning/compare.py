"""The best options of a search against the defaults, on images that the search did not see."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from yolopose.base.files import write_text
from yolopose.base.log import LOGGER
from yolopose.config import TuneOptions
from yolopose.evaluate.bootstrap import Interval, make_interval, resample_images, resampled_scores
from yolopose.evaluate.record import RECORD_FILE, RunRecord, load_record
from yolopose.model.tuning.plan import SearchPlan

_DRAWS = 1000
_NAMES = {
    "fitness": ("mAP50-95(B)", "mAP50-95(P)"),
    "pose": ("mAP50-95(P)",),
    "box": ("mAP50-95(B)",),
    "pixels": ("pixels/mean",),
}


@dataclass(frozen=True, slots=True)
class HeldOutComparison:
    """Trainings with the defaults and with the best options, in pairs of equal seed.

    Attributes:
        metric: `fitness`, `pose`, `box` or `pixels`.
        held_out: what the images are.
        defaults: score of each training with the defaults.
        tuned: score of each training with the best options.
        difference: mean of tuned - defaults, with its interval over images and seeds.
    """

    metric: str
    held_out: str
    defaults: tuple[float, ...]
    tuned: tuple[float, ...]
    difference: Interval

    @property
    def is_better(self) -> bool:
        """Whether the best options are better beyond chance: the interval excludes 0 on the right side."""
        return self.difference.high < 0 if self.metric == "pixels" else self.difference.low > 0

    @property
    def is_worse(self) -> bool:
        """Whether they are worse beyond chance."""
        return self.difference.low > 0 if self.metric == "pixels" else self.difference.high < 0

    @property
    def verdict(self) -> str:
        """A sentence on the result."""
        pairs = len(self.tuned)
        note = "" if pairs > 2 else f" {pairs} pair{'s' * (pairs > 1)} of trainings say little about other seeds."
        if self.is_better:
            return f"The best options of the search are better than the defaults.{note}"
        if self.is_worse:
            return f"The best options of the search are WORSE than the defaults: keep the defaults.{note}"
        return f"The best options of the search are not shown to be better than the defaults: keep the defaults.{note}"


def compare_on_held_out(
    folder: Path, plan: SearchPlan, options: TuneOptions, best: Mapping[str, Any]
) -> HeldOutComparison:
    """Train with the defaults and with the best options, and measure both after their last epoch.

    Args:
        folder: the run folder; finished trainings in it are not repeated.
        plan: the search.
        options: number of pairs, and first seed.
        best: the best values of the searched options.
    """
    records: dict[str, list[RunRecord]] = {"defaults": [], "tuned": []}
    given = {name: value for name, value in plan.fixed.items() if name in plan.given}
    values = {"defaults": given, "tuned": {**plan.fixed, **best}}
    for number in range(options.repeats):
        for name in records:
            LOGGER.info(f"Comparison on held-out images: training {number + 1} of {options.repeats}, {name}.")
            run = folder / "comparison" / f"{name}-seed{options.seed + number}"
            records[name].append(_train(plan, values[name], run, options.seed + number))
    return compare_records(plan.metric, plan.held_out, records["defaults"], records["tuned"])


def _train(plan: SearchPlan, values: Mapping[str, Any], run: Path, seed: int) -> RunRecord:
    from yolopose.model.yolo import YOLO

    done = run / "done.json"
    text = json.dumps(dict(values), sort_keys=True)
    if not (done.is_file() and done.read_text(encoding="utf-8") == text):
        options: dict[str, Any] = dict(values)
        options |= {"project": str(run.parent), "name": run.name, "exist_ok": True, "seed": seed, "val": False}
        options |= {"save": True, "save_json": True, "plots": False, "verbose": False, "data": plan.outer}
        YOLO(plan.model, verbose=False).train(**options)
        write_text(done, text)
    return load_record(run / RECORD_FILE)


def compare_records(metric: str, held_out: str, defaults: list[RunRecord], tuned: list[RunRecord]) -> HeldOutComparison:
    """Compare runs on the same images, paired by seed.

    The interval is that of resamples of the images, the same for all runs, and of the seeds.
    """
    images = len(defaults[0].image_names)
    whole = np.ones((1, images), np.int32)
    drawn = resample_images(images, _DRAWS, 0)
    scores = [[_score(record, whole, metric)[0] for record in records] for records in (defaults, tuned)]
    draws = [np.stack([_score(record, drawn, metric) for record in records]) for records in (defaults, tuned)]
    differences = draws[1] - draws[0]  # (seeds, draws)
    seeds = np.random.default_rng(0).integers(0, len(defaults), (len(defaults), _DRAWS))
    resampled = np.take_along_axis(differences, seeds, axis=0).mean(axis=0)
    value = float(np.mean(np.array(scores[1]) - np.array(scores[0])))
    interval = make_interval(value, resampled, 0.95, -np.inf, np.inf)
    first, second = (tuple(float(score) for score in row) for row in scores)
    return HeldOutComparison(metric, held_out, first, second, interval)


def _score(record: RunRecord, weights: Any, metric: str) -> Any:
    values = resampled_scores(record, weights)
    return sum(values[name] for name in _NAMES[metric])
