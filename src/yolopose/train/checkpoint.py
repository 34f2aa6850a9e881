"""Checkpoints of a run: `last.pt` with the state to resume from, and files that hold weights only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from yolopose.base.errors import TrainError, UsageError
from yolopose.base.log import LOGGER
from yolopose.config import TrainOptions, make_options
from yolopose.nn import PoseModel
from yolopose.train.feed.user_transforms import describe_transform
from yolopose.weights import Checkpoint, make_checkpoint, read_checkpoint, write_checkpoint

_STATE_KEY = "training"  # key of `Checkpoint.extra` that only an unfinished run has
# Options that may change when a run is resumed; all others determine what it computes.
_RESUMABLE_OPTIONS = (
    "model", "resume", "device", "workers", "cache", "patience", "save_period", "plots", "verbose", "strict", "data",
    "save_json", "project", "name", "exist_ok", "loggers", "augmentations", "epochs", "keep_state", "distill_model",
)  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class ResumableRun:
    """An interrupted run, read from its `last.pt`.

    Attributes:
        path: the file.
        options: the run's arguments.
        checkpoint: its averaged network.
        state: result of `Trainer.state_dict`.
    """

    path: Path
    options: TrainOptions
    checkpoint: Checkpoint
    state: dict[str, Any]

    @property
    def folder(self) -> Path:
        """The run folder, derived from the file's location because the folder may have been moved."""
        return self.path.resolve().parent.parent


def options_dict(options: TrainOptions) -> dict[str, Any]:
    """Return the options of a run by name, without what its settings derive from them; own transforms as text."""
    values = {field.name: getattr(options, field.name) for field in fields(TrainOptions)}
    if values["augmentations"]:
        values["augmentations"] = [describe_transform(transform) for transform in values["augmentations"]]
    return values


def save_state(
    path: Path, network: PoseModel, *, args: Mapping[str, Any], epoch: int, license_: str, state: Mapping[str, Any]
) -> None:
    """Write `last.pt` of an unfinished run, with everything needed to resume it.

    Args:
        path: the file.
        network: the averaged network.
        args: arguments of the run.
        epoch: completed epochs.
        license_: license of the weights.
        state: result of `Trainer.state_dict`.

    Raises:
        OutputError: it cannot be written; an earlier file is unchanged.
    """
    extra = {_STATE_KEY: state}
    write_checkpoint(path, make_checkpoint(network, args=args, epoch=epoch - 1, license=license_, extra=extra))


def save_weights(
    path: Path, network: PoseModel, *, args: Mapping[str, Any], epoch: int, metrics: Mapping[str, float], license_: str
) -> None:
    """Write weights only: `best.pt`, `epochN.pt`.

    They are stored as float32: rounding to 16 bits changes the metrics of a small validation set by up to 0.01, and the
    saved network should reproduce the metrics that it was selected by.

    Args:
        path: the file.
        network: the averaged network.
        args: arguments of the run.
        epoch: completed epochs.
        metrics: of the validation after that epoch.
        license_: license of the weights.

    Raises:
        OutputError: the file cannot be written; an earlier file is unchanged.
    """
    checkpoint = make_checkpoint(network, args=args, metrics=metrics, epoch=epoch - 1, license=license_)
    write_checkpoint(path, checkpoint)


def strip_state(path: Path) -> None:
    """Remove epoch and training state from the checkpoint of a finished run.

    Raises:
        OutputError: the file cannot be written; it is unchanged.
    """
    checkpoint = read_checkpoint(path)
    write_checkpoint(path, replace(checkpoint, epoch=-1, extra={}))


def read_resumable(path: Path, given: Mapping[str, Any]) -> ResumableRun:
    """Read the `last.pt` of an interrupted run.

    Args:
        path: the file.
        given: options of the caller; those that would change what is computed are ignored with a warning.

    Raises:
        NotFoundError: the file does not exist.
        TrainError: the run is finished, or the file is not from an interrupted run.
        WeightsError: the file is damaged.
    """
    checkpoint = read_checkpoint(path)
    state = checkpoint.extra.get(_STATE_KEY)
    if not isinstance(state, dict):
        raise TrainError(_not_resumable(path, checkpoint))
    args = {key: value for key, value in checkpoint.train_args.items() if key not in ("mode", "task", "save_dir")}
    ignored = [key for key, value in given.items() if key not in _RESUMABLE_OPTIONS and value != args.get(key)]
    if ignored:
        LOGGER.warning(
            f"A resumed run keeps its arguments: {', '.join(ignored)} ignored. Begin a new run (without resume) to "
            "change them."
        )
    if args.get("augmentations") and given.get("augmentations") is None:
        raise TrainError(
            f"The run of {path} used augmentations=[{', '.join(args['augmentations'])}], which a file cannot hold: "
            "give the same transforms again, YOLO(…).train(resume=True, augmentations=[…])."
        )
    if given.get("epochs", args["epochs"]) != args["epochs"]:
        state = _with_epochs(path, state, given["epochs"])
    args.update({key: given[key] for key in given if key in _RESUMABLE_OPTIONS and key not in ("model", "resume")})
    options = make_options("train", args)
    if not isinstance(options, TrainOptions):
        raise UsageError(f"The arguments in {path} are not those of a training run.")
    return ResumableRun(path, options, checkpoint, state)


def _with_epochs(path: Path, state: Mapping[str, Any], epochs: int) -> dict[str, Any]:
    """Return the state of a run with another number of epochs; the learning rate follows the new schedule from here on.

    Raises:
        TrainError: these epochs are already completed.
    """
    completed = state["epoch"]
    if epochs <= completed:
        raise TrainError(
            f"{path} has completed {completed} epochs, so epochs={epochs} leaves nothing to train: give the total, "
            f"such as epochs={completed + 50} for 50 more."
        )
    # patience counts from here: the user wants to go on although the last epochs may not have improved
    return {**state, "epochs": epochs, "stop": False, "patience_start": completed - 1}


def newest_resumable(runs: Path) -> Path | None:
    """Return the newest `last.pt` of an interrupted run below the runs folder."""
    for path in sorted(runs.glob("**/weights/last.pt"), key=lambda path: path.stat().st_mtime, reverse=True):
        try:
            if _STATE_KEY in read_checkpoint(path).extra:
                return path
        except (ValueError, OSError):  # damaged or foreign files are not candidates
            continue
    return None


def _not_resumable(path: Path, checkpoint: Checkpoint) -> str:
    advice = (
        f"To continue training from these weights begin a new run: `model={path}` without `resume`, with the `epochs` "
        "to add."
    )
    if checkpoint.origin == "reference":
        return f"{path} was written by another package, whose runs cannot be resumed here. {advice}"
    if checkpoint.train_args.get("epochs"):
        return (
            f"The run of {path} is finished, or the file holds only weights: there is nothing to resume. {advice} A "
            "run with keep_state=True keeps the state of the optimizer, so that resume=True epochs=N continues it."
        )
    return f"{path} holds only weights, not the state of an interrupted run. {advice}"
