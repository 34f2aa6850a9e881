"""The Optuna study of a search: its file, its sampler and pruner, and the loop that runs trials one after another."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from yolopose.base.errors import YoloposeError
from yolopose.base.log import LOGGER
from yolopose.config import TuneOptions
from yolopose.model.tuning.plan import STUDY_FILE, STUDY_NAME, SearchPlan
from yolopose.model.tuning.space import Dimension, Space
from yolopose.model.tuning.trial import Deadline, TrialStopped, run_trial

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import FrozenTrial

START_TRIALS = 10
"""Trials at and around the defaults, before the sampler models what it has seen."""
_PRUNE_AFTER = 5  # completed trials
_MAX_FAILURES = 5  # without any completed trial
_INTERRUPTED, _ERROR, OUT_OF_TIME = "interrupted", "error", "out of time"


def open_study(folder: Path, plan: SearchPlan, options: TuneOptions, *, worker: int = 0) -> Study:
    """Open the study of a search, or create it.

    Args:
        folder: the run folder.
        plan: the search.
        options: seed, pruning.
        worker: number of the process, which samples with a seed of its own.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    pruner: Any = optuna.pruners.NopPruner()
    if options.prune:
        pruner = optuna.pruners.MedianPruner(n_startup_trials=_PRUNE_AFTER, n_warmup_steps=options.grace_period)
    study = optuna.create_study(
        storage=f"sqlite:///{(folder / STUDY_FILE).resolve()}",
        study_name=STUDY_NAME,
        direction="minimize" if plan.metric == "pixels" else "maximize",
        load_if_exists=True,
        pruner=pruner,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.sampler = optuna.samplers.TPESampler(
            n_startup_trials=START_TRIALS,
            multivariate=True,
            constant_liar=options.parallel > 1,
            seed=options.seed + 1000 * worker + len(study.trials),
        )
    return study


def space_of_plan(plan: SearchPlan) -> Space:
    """Return the search space of a plan."""
    space: Space = {}
    for name, stored in plan.space.items():
        values: dict[str, Any] = {**stored, "choices": tuple(stored["choices"])}
        space[name] = Dimension(**values)
    return space


def enqueue_start(study: Study, points: list[dict[str, Any]]) -> None:
    """Queue the first trials of a new study."""
    for number, point in enumerate(points):
        study.enqueue_trial(point, user_attrs={"defaults": number == 0})


def recover(study: Study) -> int:
    """Queue the trials again that were running when the search was killed; return their number."""
    import optuna

    running = [trial for trial in study.get_trials(deepcopy=False) if trial.state == optuna.trial.TrialState.RUNNING]
    for trial in running:
        attributes = {"defaults": trial.user_attrs.get("defaults", False)}
        study.enqueue_trial(trial.params, user_attrs=attributes)
        study._storage.set_trial_user_attr(trial._trial_id, _INTERRUPTED, True)
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
    return len(running)


def counted(study: Study) -> list[FrozenTrial]:
    """Return the trials that were started, without those that an interruption ended."""
    import optuna

    return [
        trial
        for trial in study.get_trials(deepcopy=False)
        if trial.state != optuna.trial.TrialState.WAITING and not trial.user_attrs.get(_INTERRUPTED)
    ]


def completed(study: Study) -> list[FrozenTrial]:
    """Return the trials that have a score."""
    import optuna

    return study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))


def seconds_left(study: Study, plan: SearchPlan, options: TuneOptions) -> float | None:
    """Return the time for further trials, after what was used and what the final comparison needs; None: no limit."""
    if options.minutes is None:
        return None
    durations = [trial_seconds(trial) for trial in counted(study)]
    whole = [trial_seconds(trial) for trial in completed(study)]
    training = sum(whole) / max(len(whole), 1) / len(plan.inner)
    # the comparison trains on more images than a trial
    comparison = 1.3 * training * 2 * options.repeats
    return options.minutes * 60 - sum(durations) / options.parallel - comparison


def trial_seconds(trial: FrozenTrial) -> float:
    """Return the duration of a trial; 0 while it runs."""
    if "seconds" in trial.user_attrs:  # of Ray, whose trials are added when they have ended
        return float(trial.user_attrs["seconds"])
    return trial.duration.total_seconds() if trial.duration is not None else 0.0


def run_trials(
    folder: Path,
    plan: SearchPlan,
    options: TuneOptions,
    *,
    worker: int = 0,
    device: str | None = None,
    alive: Callable[[], bool] = lambda: True,
) -> None:
    """Run trials until their number or the time is reached; several processes may do so at the same time.

    Args:
        folder: the run folder.
        plan: the search.
        options: limits of the search.
        worker: number of the process, from 0.
        device: device of the trials; None for that of the options.
        alive: returns False once the process that started this one has ended.

    Raises:
        YoloposeError: the first trials fail; the error of the last one.
    """
    import optuna

    study = open_study(folder, plan, options, worker=worker)
    space = space_of_plan(plan)
    while alive():
        with FileLock(folder / "study.lock"):  # the number of trials is exact with several processes
            left = seconds_left(study, plan, options)
            if len(counted(study)) >= options.iterations or (left is not None and left <= 0 and completed(study)):
                return
            trial = study.ask()
            params = {name: dimension.suggest(trial, name) for name, dimension in space.items()}
        deadline = Deadline(left if completed(study) else None)

        def report(score: float, step: int, trial: Any = trial, deadline: Deadline = deadline) -> bool:
            if not alive():
                os._exit(1)  # nobody would read the result
            trial.report(score, step)
            if deadline.passed:
                trial.set_user_attr(OUT_OF_TIME, True)
            return deadline.passed or trial.should_prune()

        try:
            score = run_trial(plan, params, folder / "trials" / f"trial{trial.number}", report, device)
        except TrialStopped:
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            _log(study, trial.number)
        except (YoloposeError, RuntimeError, MemoryError) as error:
            trial.set_user_attr(_ERROR, str(error)[:1000])
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
            LOGGER.warning(f"Trial {trial.number} failed and is skipped. {error}")
            if len(counted(study)) >= _MAX_FAILURES and not completed(study):
                raise
        else:
            study.tell(trial, score)
            _log(study, trial.number)


def _log(study: Study, number: int) -> None:
    """Log the outcome of a trial and the best so far."""
    trial = study.trials[number]
    best = f"; the best is trial {study.best_trial.number}, {study.best_value:.4f}" if completed(study) else ""
    outcome = "stopped early"
    if trial.value is not None and trial.state.name == "COMPLETE":
        outcome = f"score {trial.value:.4f}"
    LOGGER.info(f"Trial {number}: {outcome} ({_describe(trial.params)}){best}.")


def _describe(params: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={short_value(value)}" for name, value in params.items())


def short_value(value: Any) -> str:
    """Return a value of an option as short text."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
