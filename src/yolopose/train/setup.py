"""Setup of a training run: a new one from options and weights, or an interrupted one from its `last.pt`.

Nothing is written before options, data set and network have been checked.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from yolopose.base.callbacks import Callbacks
from yolopose.base.errors import TrainError, UsageError
from yolopose.base.log import LOGGER
from yolopose.base.settings import load_settings
from yolopose.config import TrainOptions, TrainSettings, train_settings
from yolopose.formats.pytorch import TorchRuntime, pick_device
from yolopose.nn import PoseModel, build_network
from yolopose.nn.model_yaml import input_channels
from yolopose.train.auto_batch import auto_batch_size
from yolopose.train.autotune import autotune
from yolopose.train.checkpoint import newest_resumable, read_resumable
from yolopose.train.compute_config import ComputeConfig, default_config, resumed_config
from yolopose.train.data import TrainData, dataset_reference, load_data
from yolopose.train.distill import Teacher, check_teacher, class_columns
from yolopose.train.distributed import Launcher, ProcessGroup
from yolopose.train.distributed.devices import DeviceAssignment
from yolopose.train.distributed.worker import start_workers
from yolopose.train.head_warmup import warm_up_head
from yolopose.train.initial_weights import InitialWeights, initial_network, place_keypoints
from yolopose.train.loggers import open_loggers, select_loggers
from yolopose.train.loop import Trainer
from yolopose.train.optimizer import freeze_layers
from yolopose.train.process import deterministic_kernels
from yolopose.train.pseudo_labels import (
    check_unlabeled,
    load_pseudo_labels,
    make_pseudo_labels,
    save_pseudo_labels,
)
from yolopose.train.recipe import choose_options, has_same_keypoints
from yolopose.weights import load_matching


def new_trainer(
    options: TrainOptions,
    yaml: Mapping[str, Any],
    weights: InitialWeights | None,
    callbacks: Callbacks | None = None,
    launcher: Launcher | None = None,
    given: Collection[str] | None = None,
) -> Trainer:
    """Set up a new run.

    Args:
        options: of the caller.
        yaml: content of the model YAML.
        weights: weights to start from; None starts from random weights.
        callbacks: functions by event.
        launcher: starts the processes of further devices; by default one device is used.
        given: names of the options that `recipe` must not change; None for all.

    Raises:
        UsageError: an option is invalid.
        DependencyError: a logger is not installed.
        NotFoundError: the data YAML does not exist.
        DataError: the data set cannot be used.
        ModelError: the network cannot be built for this data set.
        OutputError: the run folder cannot be created.
    """
    loggers = open_loggers(select_loggers(options.loggers, load_settings()))
    devices = launcher.assign(options.device) if launcher else DeviceAssignment(pick_device(options.device))
    data = load_data(options, input_channels(yaml), yaml.get("visibility"))
    if given is not None:
        options = choose_options(options, given, data, weights.spec if weights else None)
    network = initial_network(yaml, data.spec, options.seed, weights, remap=options.cls_remap)
    settings = train_settings(replace(options, data=dataset_reference(data.dataset)), max(network.stride))
    if settings.kpt_prior:
        place_keypoints(network, data.train, settings.imgsz)
    freeze_layers(network, settings.freeze)  # reports an invalid `freeze` before a folder is created
    data = _use_teacher(network, data, settings, devices.device, weights)
    _check_transforms(settings, devices)
    settings, config = _resolve_compute(network, data, settings, devices)
    seconds = 0.0
    if settings.head_steps:
        with config.apply(), deterministic_kernels(devices.device, settings.deterministic):
            seconds = warm_up_head(network, data, config.resolve(settings), devices.device)
    group = launcher.launch() if launcher else ProcessGroup()
    folder = settings.run.create()
    save_pseudo_labels(folder, data.pseudo)
    trainer = Trainer(
        network,
        data,
        settings,
        devices.device,
        folder,
        seconds=seconds,
        callbacks=callbacks,
        loggers=loggers,
        license_=weights.license if weights else "",
        group=group,
        compute_config=config if group.size == 1 else config.for_rank(group.max_workers),
    )
    return start_workers(group, trainer, None)


def _use_teacher(
    network: PoseModel, data: TrainData, settings: TrainSettings, device: torch.device, weights: InitialWeights | None
) -> TrainData:
    """Check the teacher, and add pseudo labels of unlabeled images to the data.

    Raises:
        UsageError: the teacher does not fit, or `unlabeled` has no teacher.
    """
    teacher = Teacher(Path(settings.distill_model), device) if settings.distill_model else None
    if teacher is not None:
        check_teacher(teacher, network, data.spec, settings)
    if not settings.unlabeled:
        return data
    check_unlabeled(settings)
    spec = teacher.metadata.spec if teacher else weights.spec if weights else None
    columns = class_columns(spec, data.spec) if spec else None
    if spec is None or columns is None or not has_same_keypoints(spec, data.spec):
        raise UsageError(
            f"unlabeled={settings.unlabeled} needs a network that predicts the classes and keypoints of "
            f"{data.dataset.yaml_path}: give distill_model=best.pt of a training on this data set, or begin with its "
            "weights as the model."
        )
    runtime = teacher.runtime if teacher else TorchRuntime(network, device)
    return replace(data, pseudo=make_pseudo_labels(runtime, settings.unlabeled, data, settings, columns))


def _check_transforms(settings: TrainSettings, devices: DeviceAssignment) -> None:
    """Check that own transforms are used on one device only."""
    if settings.augmentations and devices.size > 1:
        raise UsageError(
            "augmentations= is possible on one device only: own transforms are objects of this process, and the others "
            "receive plain values. Choose one device, or add an Operation to yolopose.train.feed.operations."
        )


def _resolve_compute(
    network: PoseModel, data: TrainData, settings: TrainSettings, devices: DeviceAssignment
) -> tuple[TrainSettings, ComputeConfig]:
    """Choose threads, precision and workers, and measure the batch where it is a share of the memory."""
    if settings.autotune:
        config = autotune(network, data, settings, devices.device)
    else:
        config = default_config(settings, devices.device)
    if settings.batch < 1:
        images = auto_batch_size(network, data, config.resolve(settings), devices.device)
        if data.pseudo is not None:  # they are in each batch beside the labeled images
            images = max(int(images / (1 + settings.unlabeled_ratio)), 1)
        settings = replace(settings, batch=devices.global_batch(images))
    devices.check_batch(settings.batch)
    return settings, config


def resumed_trainer(
    path: Path, given: Mapping[str, Any], callbacks: Callbacks | None = None, launcher: Launcher | None = None
) -> Trainer:
    """Set up an interrupted run to continue in its own folder.

    Args:
        path: its `last.pt`.
        given: options of the caller.
        callbacks: functions by event.
        launcher: starts the processes of further devices; by default one device is used.

    Raises:
        NotFoundError: the file does not exist.
        TrainError: it holds no state to resume, or the data set has changed.
        WeightsError: it is damaged.
    """
    run = read_resumable(path, given)
    loggers = open_loggers(select_loggers(run.options.loggers, load_settings()))
    devices = launcher.assign(run.options.device) if launcher else DeviceAssignment(pick_device(run.options.device))
    yaml = run.checkpoint.model_yaml
    data = load_data(run.options, input_channels(yaml), yaml.get("visibility"))
    network = build_network(run.checkpoint.model_yaml, spec=data.spec)
    matching = load_matching(network, run.checkpoint.state)
    if matching.copied != matching.total or matching.adapted:
        spec = run.checkpoint.spec
        raise TrainError(
            f"{path} was trained for {spec.nc} classes, kpt_shape {list(spec.keypoints.shape)} and {spec.channels} "
            f"channels, and {data.dataset.yaml_path} now has {data.spec.nc}, {list(data.spec.keypoints.shape)} and "
            f"{data.spec.channels}: the data set has changed. Restore it, or begin a new run."
        )
    settings = train_settings(run.options, max(network.stride))
    if settings.unlabeled:
        data = replace(data, pseudo=load_pseudo_labels(run.folder))
    devices.check_batch(settings.batch)
    group = launcher.launch() if launcher else ProcessGroup()
    state = run.state
    LOGGER.info(f"Resuming {run.folder} at batch {state['batch'] + 1} of epoch {state['epoch'] + 1}.")
    config = resumed_config(state.get("plan"), settings, devices.device, new_workers="workers" in given)
    trainer = Trainer(
        network,
        data,
        settings,
        devices.device,
        run.folder,
        callbacks=callbacks,
        loggers=loggers,
        license_=run.checkpoint.license,
        state=state,
        group=group,
        compute_config=config if group.size == 1 else config.for_rank(group.max_workers),
    )
    return start_workers(group, trainer, state)


# -- resuming -----------------------------------------------------------------------------------


def resume_path(resume: bool | str, model: Path) -> Path:
    """Return the `last.pt` that `resume` refers to.

    Args:
        resume: a path, or True for the model itself.
        model: the model's file.

    Raises:
        TrainError: the model is not a weights file.
    """
    if isinstance(resume, str):
        return Path(resume)
    if model.suffix.lower() == ".pt":
        return model
    raise nothing_to_resume(f"got model={model}")


def nothing_to_resume(got: str) -> TrainError:
    """Return the error of `resume=True` without a run's weights.

    Args:
        got: what was given instead.
    """
    newest = newest_resumable(Path(load_settings().runs_dir))
    hint = f" The newest interrupted run here: model={newest}." if newest else ""
    return TrainError(f"resume=True needs the last.pt of an interrupted run as the model; {got}.{hint}")
