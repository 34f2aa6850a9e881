"""The run folder of the processes that write nothing: rank 0 writes for all."""

from __future__ import annotations

from typing import Any

from yolopose.nn import PoseModel
from yolopose.train.run_folder import RunFolder


class NoFolder(RunFolder):
    """Knows where the files are, and writes none."""

    def open(self, *_: Any, **__: Any) -> None:
        """Writes nothing."""

    def go_on(self, done: int) -> None:
        """Reads nothing."""

    def add_epoch(self, *_: Any, **__: Any) -> bool:
        """Writes nothing."""
        return False

    def catch_up(self, *_: Any, **__: Any) -> None:
        """Writes nothing."""

    def save_running(self, *_: Any, **__: Any) -> None:
        """Writes nothing."""

    def close_best(self) -> PoseModel:
        """Is not for these processes: rank 0 tells them the best network."""
        raise NotImplementedError

    def close_last(self) -> None:
        """Writes nothing."""

    def draw(self, *_: Any, **__: Any) -> None:
        """Draws nothing."""

    def draw_results(self) -> None:
        """Draws nothing."""
