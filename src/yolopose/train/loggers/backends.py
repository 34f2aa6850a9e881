"""Loggers by the name of their library, which is imported when a run opens the logger."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, Protocol

from yolopose.base.log import LOGGER
from yolopose.train.checkpoint import options_dict


class RunLogger(Protocol):
    """An open log of one run."""

    def write(self, epoch: int, values: Mapping[str, float]) -> None:
        """Add the values of an epoch, counted from 1, by their columns in results.csv."""
        ...

    def close(self) -> None:
        """End the log."""
        ...


class TensorBoardLogger:
    """Events file in the run folder; `tensorboard --logdir runs` shows all runs."""

    def __init__(self, trainer: Any) -> None:
        from torch.utils.tensorboard.writer import SummaryWriter

        # a resumed run repeats the epochs after its checkpoint: their old events are purged
        self._writer: Any = SummaryWriter(str(trainer.save_dir), purge_step=trainer.epoch + 1)
        LOGGER.info(f"TensorBoard: tensorboard --logdir {trainer.save_dir}")

    def write(self, epoch: int, values: Mapping[str, float]) -> None:
        """Add the values of an epoch."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, epoch)
        self._writer.flush()

    def close(self) -> None:
        """End the run."""
        self._writer.close()


class WandbLogger:
    """Weights & Biases, offline unless WANDB_MODE is set; `wandb sync` uploads the files in the run folder."""

    def __init__(self, trainer: Any) -> None:
        wandb: Any = import_module("wandb")
        self._run: Any = wandb.init(
            project=_project_name(trainer),
            name=trainer.save_dir.name,
            dir=str(trainer.save_dir),
            config=options_dict(trainer.args),
            mode=os.environ.get("WANDB_MODE", "offline"),
        )

    def write(self, epoch: int, values: Mapping[str, float]) -> None:
        """Add the values of an epoch."""
        self._run.log(dict(values), step=epoch)

    def close(self) -> None:
        """End the run."""
        self._run.finish()


class MlflowLogger:
    """MLflow, in files in `mlflow` next to the run folder unless MLFLOW_TRACKING_URI is set."""

    def __init__(self, trainer: Any) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        uri = os.environ.get("MLFLOW_TRACKING_URI")
        if not uri:
            uri = (trainer.save_dir.resolve().parent / "mlflow").as_uri()
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # required by newer versions for file stores
        self._mlflow: Any = import_module("mlflow")
        self._trainer = trainer
        self._mlflow.set_tracking_uri(uri)
        self._mlflow.set_experiment(_project_name(trainer))
        self._mlflow.start_run(run_name=trainer.save_dir.name)
        self._mlflow.log_params(options_dict(trainer.args))

    def write(self, epoch: int, values: Mapping[str, float]) -> None:
        """Add the values of an epoch."""
        # names of MLflow must not contain parentheses or @
        metrics = {re.sub(r"[()]", "", name).replace("@", "_at_"): value for name, value in values.items()}
        self._mlflow.log_metrics(metrics, step=epoch)

    def close(self) -> None:
        """End the run and attach results.csv."""
        self._mlflow.log_artifact(str(self._trainer.csv))
        self._mlflow.end_run()


class TrackioLogger:
    """Trackio, a local database that `trackio show` opens."""

    def __init__(self, trainer: Any) -> None:
        self._trackio: Any = import_module("trackio")
        self._trackio.init(
            project=_project_name(trainer), name=trainer.save_dir.name, config=options_dict(trainer.args)
        )

    def write(self, epoch: int, values: Mapping[str, float]) -> None:
        """Add the values of an epoch."""
        self._trackio.log({"epoch": epoch, **values})

    def close(self) -> None:
        """End the run."""
        self._trackio.finish()


LOGGERS: dict[str, Callable[[Any], RunLogger]] = {
    "tensorboard": TensorBoardLogger,
    "wandb": WandbLogger,
    "mlflow": MlflowLogger,
    "trackio": TrackioLogger,
}
"""Loggers by name: that of the library, of the setting, and of the option `loggers`."""


def _project_name(trainer: Any) -> str:
    """Return the name of the folder that holds the runs of a project."""
    return str(trainer.save_dir.resolve().parent.name) or "yolopose"
