"""`train(folds=…, repeats=…)`: train a network per fold and repetition, and measure each on unseen images."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yolopose.base.callbacks import Callbacks
from yolopose.base.errors import DataError, TrainError, UsageError
from yolopose.base.files import write_text
from yolopose.base.launch_env import is_worker_rank
from yolopose.base.log import LOGGER
from yolopose.config import CheckedOptions, TrainOptions, check_options, make_options, run_location
from yolopose.data import load_dataset
from yolopose.data.folds import divide_into_folds, write_folds, write_lists
from yolopose.data.subset_files import unique_files
from yolopose.evaluate.folds import FoldMetrics, FoldRun, collect_folds
from yolopose.evaluate.record import RECORD_FILE
from yolopose.model.fold_plan import read_plan, write_plan

if TYPE_CHECKING:
    from collections.abc import Callable

    from yolopose.train import InitialWeights

_DONE = "done.json"


@dataclass(frozen=True, slots=True)
class FoldTraining:
    """What all trainings of a cross-validation have in common.

    Attributes:
        yaml: content of the model YAML.
        weights: returns the weights that each training starts from; None for random ones.
        model_name: the network, as the caller named it.
        digest: SHA-256 of its file; empty for a model YAML.
        callbacks: functions by event of the trainings.
    """

    yaml: Mapping[str, Any]
    weights: Callable[[], InitialWeights | None]
    model_name: str
    digest: str
    callbacks: Callbacks


def cross_validate(training: FoldTraining, options: TrainOptions, given: CheckedOptions) -> FoldMetrics:
    """Train and measure a network for each fold and repetition; finished ones are not repeated.

    Each network is measured after its last epoch, without validation before: choosing an epoch on the images that
    measure it makes the score optimistic. `val=True` does choose the best epoch, as a single training does.

    Args:
        training: what the trainings have in common.
        options: options of the call.
        given: those that the caller set.

    Raises:
        UsageError: the options contradict each other.
        DataError: the data set cannot be divided.
        TrainError: a training fails, or the folder cannot be resumed.
        OutputError: a file cannot be written.
        KeyboardInterrupt: the run was interrupted; the message has the command that resumes it.
    """
    if is_worker_rank():
        raise UsageError("folds= and repeats= start one training after another: start them without torchrun.")
    if isinstance(options.resume, str):
        folder = Path(options.resume)
        plan = read_plan(folder)
        if (plan["model"], plan["digest"]) != (training.model_name, training.digest):
            raise TrainError(
                f"The cross-validation in {folder} was started with model={plan['model']}, and this network is "
                f"{training.model_name} or was changed since: open the same file again."
            )
        given = check_options("train", plan["given"])
        options = _complete(given, plan["data"])
    else:
        if not options.data:
            raise UsageError("Cross-validation needs a data set: give data= (a data YAML).")
        folder = run_location(options, "train").create()
        write_plan(
            folder,
            given,
            model=training.model_name,
            digest=training.digest,
            data=options.data,
            folds=options.folds,
            repeats=options.repeats,
        )
    LOGGER.info(f"Run folder of all trainings: {folder}")
    try:
        return _train_all(training, options, given, folder)
    except KeyboardInterrupt as interruption:
        raise KeyboardInterrupt(
            f"{interruption} All finished folds are saved; resume with: yolo pose train resume={folder}"
        ) from None


def _train_all(training: FoldTraining, options: TrainOptions, given: CheckedOptions, folder: Path) -> FoldMetrics:
    if not options.data:
        raise UsageError("Cross-validation needs a data set: give data= (a data YAML).")
    dataset = load_dataset(options.data, download=options.download)
    runs: list[FoldRun] = []
    for repeat in range(1, options.repeats + 1):
        seed = options.seed + repeat - 1
        yamls = [Path(options.data)]
        if options.folds:
            lists = folder / "data" / f"repeat{repeat}"
            yamls = [lists / f"fold{number}.yaml" for number in range(1, options.folds + 1)]
            if not (lists / "complete").exists():  # the division is written once, so that it cannot change later
                yamls = write_folds(dataset, divide_into_folds(dataset, options.folds, seed), lists)
                write_text(lists / "complete", "")
        for fold, data in enumerate(yamls, 1):
            name = f"fold{fold}" if options.folds else f"run{repeat}"
            if options.folds and options.repeats > 1:
                name = f"repeat{repeat}-{name}"
            run = FoldRun(repeat=repeat, fold=fold, seed=seed, folder=folder / name)
            if not (run.folder / _DONE).is_file():
                LOGGER.info(f"Training {run.folder.name} of {options.folds or 1} × {options.repeats}.")
                _train_fold(training, options, given, run, data)
            runs.append(run)
    metrics = collect_folds(runs, folder, dataset.yaml_path.name, plots=options.plots)
    if options.folds:
        splits = [split for split in ("train", "val") if split in dataset.entries]
        everything = write_lists(dataset, {"train": unique_files(dataset, splits)}, folder / "data" / "all")
        LOGGER.info(
            f"Results saved to {folder}. The networks of the folds only measure; train the one to use on all images: "
            f"yolo pose train model={training.model_name} data={everything} val=False"
        )
    return metrics


def _train_fold(training: FoldTraining, options: TrainOptions, given: CheckedOptions, run: FoldRun, data: Path) -> None:
    """Train one network, or continue where it was interrupted, and mark it as done."""
    from yolopose.train import Launcher, new_trainer, resumed_trainer
    from yolopose.weights import read_checkpoint

    last = run.folder / "weights" / "last.pt"
    values = {"val": given.get("val", False), "plots": False, "save_json": True, "save": True}
    with Launcher() as launcher:
        if last.is_file() and read_checkpoint(last).extra:
            trainer = resumed_trainer(last, {}, training.callbacks, launcher)
        else:
            fold_options = replace(
                options,
                data=str(data),
                model=training.model_name,
                project=str(run.folder.parent),
                name=run.folder.name,
                exist_ok=True,
                seed=run.seed,
                folds=None,
                repeats=1,
                resume=False,
                **values,
            )
            weights = training.weights()
            names = {*given, *values}
            trainer = new_trainer(fold_options, training.yaml, weights, training.callbacks, launcher, names)
        metrics = trainer.train()
    if metrics is None or not (run.folder / RECORD_FILE).is_file():
        raise DataError(f"{data} has no images to validate on: repeats= needs a `val:` entry, or folds=.")
    write_text(run.folder / _DONE, json.dumps(metrics.results_dict))


def _complete(given: CheckedOptions, data: str) -> TrainOptions:
    options = make_options("train", {**given, "data": data})
    assert isinstance(options, TrainOptions)  # noqa: S101  # of the mode train
    return options
