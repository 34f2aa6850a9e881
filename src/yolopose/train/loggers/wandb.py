"""Weights & Biases, offline unless WANDB_MODE says otherwise: `wandb sync` uploads what lies in the run folder."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from yolopose.train.loggers.registry import arguments_of, project_of


class WandbLog:
    """A run of W&B."""

    def __init__(self, trainer: Any) -> None:
        wandb: Any = import_module("wandb")
        self._run: Any = wandb.init(
            project=project_of(trainer),
            name=trainer.save_dir.name,
            dir=str(trainer.save_dir),
            config=arguments_of(trainer),
            mode=os.environ.get("WANDB_MODE", "offline"),
        )

    def write(self, epoch: int, numbers: Mapping[str, float]) -> None:
        """Add the numbers of an epoch."""
        self._run.log(dict(numbers), step=epoch)

    def close(self) -> None:
        """End the run."""
        self._run.finish()


start = WandbLog
