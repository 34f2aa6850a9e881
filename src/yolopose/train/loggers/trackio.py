"""Trackio: a local database, which `trackio show` opens."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from yolopose.train.loggers.registry import arguments_of, project_of


class TrackioLog:
    """A run of Trackio."""

    def __init__(self, trainer: Any) -> None:
        self._trackio: Any = import_module("trackio")
        self._trackio.init(project=project_of(trainer), name=trainer.save_dir.name, config=arguments_of(trainer))

    def write(self, epoch: int, numbers: Mapping[str, float]) -> None:
        """Add the numbers of an epoch."""
        self._trackio.log({"epoch": epoch, **numbers})

    def close(self) -> None:
        """End the run."""
        self._trackio.finish()


start = TrackioLog
