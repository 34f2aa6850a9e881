"""The files of a run that hold weights, and the way back into an interrupted one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from yolopose.base.errors import TrainError, UsageError
from yolopose.base.log import LOGGER
from yolopose.config import TrainOptions, make_options
from yolopose.nn import PoseModel
from yolopose.weights import Checkpoint, make_checkpoint, read_checkpoint, write_checkpoint

_RUNNING = "training"  # key of `Checkpoint.extra` that only an unfinished run has
# what may be chosen anew for the rest of a run; all else decides what the run computes
_FREE = (
    "model", "resume", "device", "workers", "cache", "patience", "save_period", "plots", "verbose", "strict", "data",
    "save_json", "project", "name", "exist_ok", "loggers",
)  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class ResumableRun:
    """A run that was interrupted, as its `last.pt` tells.

    Attributes:
        path: that file.
        options: the run's arguments.
        checkpoint: its average network.
        state: what `Trainer.state_dict` gave.
    """

    path: Path
    options: TrainOptions
    checkpoint: Checkpoint
    state: dict[str, Any]

    @property
    def folder(self) -> Path:
        """The run's folder: where the file lies, even if the folder was moved."""
        return self.path.resolve().parent.parent


def save_running(
    path: Path, network: PoseModel, *, args: Mapping[str, Any], epoch: int, license_: str, state: Mapping[str, Any]
) -> None:
    """Write `last.pt` of a running training: everything that it needs to go on.

    Args:
        path: the file.
        network: the average network.
        args: arguments of the run.
        epoch: epochs done.
        license_: license of the weights.
        state: what `Trainer.state_dict` gave.

    Raises:
        OutputError: it cannot be written; what was there stands.
    """
    extra = {_RUNNING: state}
    write_checkpoint(path, make_checkpoint(network, args=args, epoch=epoch - 1, license=license_, extra=extra))


def save_weights(
    path: Path, network: PoseModel, *, args: Mapping[str, Any], epoch: int, metrics: Mapping[str, float], license_: str
) -> None:
    """Write weights alone: `best.pt`, `epochN.pt`.

    In 32 bits: rounding them to 16 moves the metrics of a small validation set by a hundredth, and what is kept
    should measure as it did when it was chosen.

    Args:
        path: the file.
        network: the average network.
        args: arguments of the run.
        epoch: epochs done.
        metrics: what was measured after it.
        license_: license of the weights.

    Raises:
        OutputError: the file cannot be written; what was there stands.
    """
    checkpoint = make_checkpoint(network, args=args, metrics=metrics, epoch=epoch - 1, license=license_)
    write_checkpoint(path, checkpoint)


def strip(path: Path) -> None:
    """Mark the weights of a finished run as such: no epoch, no state.

    Raises:
        OutputError: the file cannot be written; what was there stands.
    """
    checkpoint = read_checkpoint(path)
    write_checkpoint(path, replace(checkpoint, epoch=-1, extra={}))


def read_interrupted(path: Path, given: Mapping[str, Any]) -> ResumableRun:
    """Read the `last.pt` of an interrupted run.

    Args:
        path: the file.
        given: keys that the caller gave; those that change what is computed are left aside, with a note.

    Raises:
        NotFoundError: there is no such file.
        TrainError: the run is finished, or the file is not from an interrupted run.
        WeightsError: the file is damaged.
    """
    checkpoint = read_checkpoint(path)
    state = checkpoint.extra.get(_RUNNING)
    if not isinstance(state, dict):
        raise TrainError(_why_not(path, checkpoint))
    args = {key: value for key, value in checkpoint.train_args.items() if key not in ("mode", "task", "save_dir")}
    fixed = [key for key, value in given.items() if key not in _FREE and value != args.get(key)]
    if fixed:
        LOGGER.warning(
            f"A resumed run keeps its arguments: {', '.join(fixed)} left aside. Begin a new run (without resume) to "
            "change them."
        )
    args.update({key: given[key] for key in given if key in _FREE and key not in ("model", "resume")})
    options = make_options("train", args)
    if not isinstance(options, TrainOptions):
        raise UsageError(f"The arguments in {path} are not of a training.")
    return ResumableRun(path, options, checkpoint, state)


def newest_interrupted(runs: Path) -> Path | None:
    """Return the newest `last.pt` below the runs folder that a run can go on from."""
    for path in sorted(runs.glob("**/weights/last.pt"), key=lambda path: path.stat().st_mtime, reverse=True):
        try:
            if _RUNNING in read_checkpoint(path).extra:
                return path
        except (ValueError, OSError):  # not ours to judge here
            continue
    return None


def _why_not(path: Path, checkpoint: Checkpoint) -> str:
    again = (
        f"To train on from these weights begin a new run: `model={path}` without `resume`, with the `epochs` to add."
    )
    if checkpoint.origin == "reference":
        return f"{path} was written by another package, whose runs cannot be resumed here. {again}"
    if checkpoint.train_args.get("epochs"):
        return f"The run of {path} is finished, or the file holds weights alone: there is nothing to resume. {again}"
    return f"{path} holds weights alone, not the state of an interrupted run. {again}"
