"""The search: divide the data, run trials here, in several processes or with Ray, and test the best options."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from yolopose.base.errors import DataError, TrainError, UsageError
from yolopose.base.log import LOGGER
from yolopose.config import CheckedOptions, TrainOptions, TuneOptions, make_options, parse_devices, run_location
from yolopose.data import load_dataset
from yolopose.data.dataset import Dataset
from yolopose.data.folds import divide_into_folds, write_folds, write_lists
from yolopose.data.subset_files import unique_files
from yolopose.formats import require_packages
from yolopose.model.tuning.compare import compare_on_held_out
from yolopose.model.tuning.plan import SearchPlan
from yolopose.model.tuning.result import TuneResult, write_results
from yolopose.model.tuning.space import space_of, start_points
from yolopose.model.tuning.study import (
    START_TRIALS,
    completed,
    enqueue_start,
    open_study,
    recover,
    run_trials,
    space_of_plan,
)
from yolopose.nn.model_yaml import input_channels

if TYPE_CHECKING:
    from yolopose.model.base import ModelBase

_INNER_PARTS = 4  # one of them scores the trials; fewer for very few images
_COUPLED = ("optimizer", "momentum", "warmup_bias_lr")  # what the recipe no longer chooses once lr0 is given
# options that the search sets itself, or that have no effect on a trial
_NOT_OF_TRIALS = ("data", "model", "project", "name", "exist_ok", "resume", "verbose", "plots", "save", "folds",
                  "repeats", "val", "save_period", "save_json", "split", "loggers", "cfg")  # fmt: skip

_NOT_STORED = ("resume", "name", "exist_ok", "cfg", "model")


def tune(model: ModelBase, options: TuneOptions, given: CheckedOptions) -> TuneResult:
    """Search training options for a network; see `YOLO.tune`."""
    require_packages(("optuna",), "The search of training options")
    if options.use_ray:
        require_packages(("ray",), "use_ray=True")
    points: list[dict[str, Any]] = []
    if isinstance(options.resume, str):
        folder = Path(options.resume)
        plan = SearchPlan.read(folder)
        _check_same_network(model, plan, folder)
        limits = {name: given[name] for name in ("iterations", "minutes", "parallel", "repeats") if name in given}
        plan = replace(plan, given={**plan.given, **limits})
        plan.write(folder)
        options = options_of_plan(plan)
        study = open_study(folder, plan, options)
        again = recover(study)
        LOGGER.info(f"Resuming {folder}: {len(completed(study))} trials have a score, {again} start again.")
    else:
        if options.resume:
            raise UsageError("resume=True: name the folder of the search, such as resume=runs/pose/tune.")
        folder, plan, points = _start(model, options, given)
        study = open_study(folder, plan, options)
        if not options.use_ray:
            enqueue_start(study, points[: options.iterations])
    try:
        _run(folder, plan, options, points)
        if not completed(study):
            raise TrainError(f"No trial of the search in {folder} was completed: see the errors above.")
        best = study.best_trial.params
        comparison = compare_on_held_out(folder, plan, options, best) if options.repeats else None
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"Interrupted. All completed trials are saved; resume with: yolo tune resume={folder}"
        ) from None
    return write_results(folder, plan, study, options, comparison)


def options_of_plan(plan: SearchPlan) -> TuneOptions:
    """Return the options of the call that started a search."""
    return cast(TuneOptions, make_options("tune", {**plan.given, "data": plan.data}))


def _check_same_network(model: ModelBase, plan: SearchPlan, folder: Path) -> None:
    if plan.model != model.model_name or plan.digest != model._digest():
        raise TrainError(
            f"The search in {folder} was started with model={plan.model}, and this network is {model.model_name} or "
            "was changed since: open the same file again."
        )


def _start(
    model: ModelBase, options: TuneOptions, given: CheckedOptions
) -> tuple[Path, SearchPlan, list[dict[str, Any]]]:
    """Divide the data, choose the space and write the plan; return the folder, the plan and the first trials."""
    from yolopose.train.data import load_data
    from yolopose.train.recipe import choose_options

    if not options.data:
        raise UsageError("The search needs a data set: give data= (a data YAML).")
    dataset = load_dataset(options.data, download=options.download)
    folder = run_location(options, "tune").create()
    inner, outer, held_out = _divide(dataset, options, folder / "data")
    values: dict[str, Any] = {field.name: getattr(options, field.name) for field in fields(TrainOptions)}
    train_given = {name: value for name, value in given.items() if name in values and name not in _NOT_OF_TRIALS}
    values |= {"data": str(inner[0]), "folds": None, "repeats": 1, "resume": False}
    trial_options = TrainOptions(**values)
    data = load_data(trial_options, input_channels(model.model.yaml))
    start = None if model._untrained or not options.pretrained else model.spec
    chosen = choose_options(trial_options, train_given, data, start)
    space = space_of(options, chosen, train_given, flips=data.spec.keypoints.flip_idx is not None)
    coupled = {name: getattr(chosen, name) for name in _COUPLED} if "lr0" in space else {}
    plan = SearchPlan(
        model=model.model_name,
        digest=model._digest(),
        data=options.data,
        given={name: _plain(value) for name, value in given.items() if name not in _NOT_STORED},
        fixed={**{name: value for name, value in coupled.items() if name not in space}, **train_given},
        inner=tuple(map(str, inner)),
        outer=str(outer),
        held_out=held_out,
        space={name: asdict(dimension) for name, dimension in space.items()},
        metric=options.metric,
    )
    plan.write(folder)
    LOGGER.info(
        f"Search of {', '.join(space)} in {folder}: {len(data.train)} images train and {len(data.val or ())} score a "
        f"trial{f' in each of {len(inner)} folds' if len(inner) > 1 else ''}; {held_out} test the best options."
    )
    return folder, plan, start_points(space_of_plan(plan), chosen, START_TRIALS, options.seed)


def _plain(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else value


def _divide(dataset: Dataset, options: TuneOptions, folder: Path) -> tuple[list[Path], Path, str]:
    """Return the data YAMLs of the trials, that of the comparison, and what the held-out images are.

    The held-out images are the test split where there is one, else the val split; trials are then scored on a part of
    the training images.
    """
    entries = dataset.entries
    if "train" not in entries or not {"val", "test"} & set(entries):
        raise DataError(
            f"{dataset.yaml_path} needs `train:` and `val:` images: the search divides the training images, and the "
            "val (or test) images test its result. `yolo data split` divides a data set."
        )
    held_out = "test" if "test" in entries else "val"
    train, test = unique_files(dataset, ["train"]), unique_files(dataset, [held_out])
    outside = set(test)
    outer = write_lists(
        dataset, {"train": [file for file in train if file not in outside], "val": test}, folder / "comparison"
    )
    note = f"{len(test)} images of the {held_out} split"
    inner_data = load_dataset(outer)
    if options.folds:
        folds = divide_into_folds(inner_data, options.folds, options.seed, ["train"])
        return write_folds(inner_data, folds, folder), outer, note
    if held_out == "test" and "val" in entries:
        val = [file for file in unique_files(dataset, ["val"]) if file not in outside]
        return [write_lists(dataset, {"train": train, "val": val}, folder / "search")], outer, note
    parts = max(2, min(_INNER_PARTS, len(train) // 2))
    folds = divide_into_folds(inner_data, parts, options.seed, ["train"])
    return write_folds(inner_data, folds, folder)[:1], outer, note


def _run(folder: Path, plan: SearchPlan, options: TuneOptions, points: list[dict[str, Any]]) -> None:
    """Run all trials; `points` are the first ones of a new search with Ray, others are in the study.

    Raises:
        TrainError: the processes end with an error.
    """
    if options.use_ray:
        from yolopose.model.tuning.ray_search import run_with_ray

        run_with_ray(folder, plan, options, points)
    elif options.parallel == 1:
        run_trials(folder, plan, options)
    else:
        _run_processes(folder, options)


def _run_processes(folder: Path, options: TuneOptions) -> None:
    """Run trials in several processes, each on its share of the cores, or on a device of its own."""
    devices = parse_devices(options.device)
    processes = [
        subprocess.Popen(  # noqa: S603  # this program itself
            [
                *(sys.executable, "-m", "yolopose.model.tuning.worker", str(folder.resolve()), str(number)),
                *(str(options.parallel), str(os.getpid()), devices[number % len(devices)] if len(devices) > 1 else ""),
            ]
        )
        for number in range(options.parallel)
    ]
    try:
        codes = [process.wait() for process in processes]
    except BaseException:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait()
        raise
    if all(codes):
        raise TrainError(f"All processes of the search in {folder} ended with an error: see above.")
