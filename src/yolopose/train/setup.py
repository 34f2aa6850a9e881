"""From options to a trainer: a new run, or one that was interrupted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from yolopose.base.callbacks import Callbacks
from yolopose.base.errors import TrainError
from yolopose.base.files import make_run_folder
from yolopose.base.log import LOGGER
from yolopose.base.settings import load_settings
from yolopose.config import TrainOptions
from yolopose.formats.pytorch import pick_device
from yolopose.nn import build_network
from yolopose.train.auto_batch import auto_batch_size
from yolopose.train.autotune import autotune
from yolopose.train.checkpoint import newest_interrupted, read_interrupted
from yolopose.train.compute_config import resumed_config
from yolopose.train.data import load_data, remembered_name, resolve_options
from yolopose.train.distributed import Launcher, ProcessGroup
from yolopose.train.distributed.devices import DeviceAssignment
from yolopose.train.distributed.worker import start_workers
from yolopose.train.freeze import freeze_layers
from yolopose.train.loggers import open_loggers, select_loggers
from yolopose.train.loop import Trainer
from yolopose.train.start import InitialWeights, initial_network
from yolopose.weights import load_matching


def new_trainer(
    options: TrainOptions,
    yaml: Mapping[str, Any],
    weights: InitialWeights | None,
    callbacks: Callbacks | None = None,
    launcher: Launcher | None = None,
) -> Trainer:
    """Make the trainer of a new run; nothing is written before all that it needs has been checked.

    Args:
        options: as they were given.
        yaml: content of the model YAML.
        weights: what to start from; None starts fresh.
        callbacks: functions by event.
        launcher: gathers the processes of several devices; without it there is one.

    Raises:
        UsageError: an option is impossible.
        DependencyError: a logger is not installed.
        NotFoundError: the data YAML is not there.
        DataError: the data set cannot be used.
        ModelError: the network cannot be built for this data set.
        OutputError: the run folder cannot be made.
    """
    logs = open_loggers(select_loggers(options.loggers, load_settings()))
    planned = launcher.plan(options.device) if launcher else DeviceAssignment(pick_device(options.device))
    device = planned.device
    data = load_data(options)
    network = initial_network(yaml, data.spec, options.seed, weights, remap=options.cls_remap)
    options = replace(resolve_options(options, max(network.stride)), data=remembered_name(data.dataset))
    plan = autotune(network, data, options, device)
    if options.batch < 1:
        fitting = auto_batch_size(network, data, plan.applied(options), device)
        options = replace(options, batch=planned.whole_batch(fitting))
    planned.check_batch(options.batch)
    group = launcher.gather() if launcher else ProcessGroup()
    parent = Path(options.project) if options.project else Path(load_settings().runs_dir) / "pose"
    freeze_layers(network, options.freeze)  # an error of it is said before a folder is made
    folder = make_run_folder(parent, options.name or "train", options.exist_ok)
    license_ = weights.license if weights else ""
    trainer = Trainer(
        network, data, options, device, folder, callbacks=callbacks, logs=logs, license_=license_, group=group,
        plan=plan if group.size == 1 else plan.among(group.workers),
    )  # fmt: skip
    return start_workers(group, trainer, None)


def resumed_trainer(
    path: Path, given: Mapping[str, Any], callbacks: Callbacks | None = None, launcher: Launcher | None = None
) -> Trainer:
    """Make the trainer that goes on with an interrupted run, in its own folder.

    Args:
        path: its `last.pt`.
        given: keys that the caller gave.
        callbacks: functions by event.
        launcher: gathers the processes of several devices; without it there is one.

    Raises:
        NotFoundError: there is no such file.
        TrainError: there is nothing to resume in it, or the data have changed.
        WeightsError: it is damaged.
    """
    found = read_interrupted(path, given)
    logs = open_loggers(select_loggers(found.options.loggers, load_settings()))
    planned = launcher.plan(found.options.device) if launcher else DeviceAssignment(pick_device(found.options.device))
    data = load_data(found.options)
    network = build_network(found.checkpoint.model_yaml, spec=data.spec)
    moved = load_matching(network, found.checkpoint.state)
    if moved.copied != moved.total:
        raise TrainError(
            f"{path} was trained for {found.checkpoint.spec.nc} classes and kpt_shape "
            f"{list(found.checkpoint.spec.keypoints.shape)}, and {data.dataset.yaml_path} now has {data.spec.nc} and "
            f"{list(data.spec.keypoints.shape)}: the data set has changed. Put it back, or begin a new run."
        )
    options = resolve_options(found.options, max(network.stride))
    planned.check_batch(options.batch)
    group = launcher.gather() if launcher else ProcessGroup()
    LOGGER.info(f"Resuming {found.folder} at batch {found.state['batch'] + 1} of epoch {found.state['epoch'] + 1}.")
    state, license_ = found.state, found.checkpoint.license
    plan = resumed_config(state.get("plan"), options, planned.device)
    trainer = Trainer(
        network, data, options, planned.device, found.folder, callbacks=callbacks, logs=logs, license_=license_,
        state=state, group=group, plan=plan if group.size == 1 else plan.among(group.workers),
    )  # fmt: skip
    return start_workers(group, trainer, state)


def resume_path(resume: bool | str, model: Path, runs: Path) -> Path:
    """Find the `last.pt` that `resume` means.

    Args:
        resume: a path, or True: the model itself.
        model: the model's file.
        runs: folder of all runs, for a hint.

    Raises:
        TrainError: the model is no weights file.
    """
    if isinstance(resume, str):
        return Path(resume)
    if model.suffix.lower() == ".pt":
        return model
    raise nothing_to_resume(f"got model={model}", runs)


def nothing_to_resume(got: str, runs: Path) -> TrainError:
    """Return the error of `resume=True` without a run's weights.

    Args:
        got: what stands in their place.
        runs: folder of all runs, for a hint.
    """
    newest = newest_interrupted(runs)
    hint = f" The newest interrupted run here: model={newest}." if newest else ""
    return TrainError(f"resume=True needs the last.pt of an interrupted run as the model; {got}.{hint}")
