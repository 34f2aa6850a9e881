"""MLflow: files in `mlflow` beside the run folders, or where MLFLOW_TRACKING_URI says."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from yolopose.train.loggers.registry import arguments_of, project_of


class MlflowLog:
    """A run of MLflow."""

    def __init__(self, trainer: Any) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # nothing is sent that nobody asked for
        store = os.environ.get("MLFLOW_TRACKING_URI")
        if not store:
            store = (trainer.save_dir.resolve().parent / "mlflow").as_uri()
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # newer versions want to be told that it is meant
        self._mlflow: Any = import_module("mlflow")
        self._trainer = trainer
        self._mlflow.set_tracking_uri(store)
        self._mlflow.set_experiment(project_of(trainer))
        self._mlflow.start_run(run_name=trainer.save_dir.name)
        self._mlflow.log_params(arguments_of(trainer))

    def write(self, epoch: int, numbers: Mapping[str, float]) -> None:
        """Add the numbers of an epoch; brackets are not allowed in MLflow's names."""
        named = {re.sub(r"[()]", "", name): value for name, value in numbers.items()}
        self._mlflow.log_metrics(named, step=epoch)

    def close(self) -> None:
        """End the run, with the table of its epochs beside it."""
        self._mlflow.log_artifact(str(self._trainer.csv))
        self._mlflow.end_run()


start = MlflowLog
