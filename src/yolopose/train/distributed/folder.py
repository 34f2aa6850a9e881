"""The run folder of the processes that write nothing: rank 0 writes for all."""

from __future__ import annotations

from typing import Any

from yolopose.train.run_folder import RunFolder


class NullRunFolder(RunFolder):
    """Knows where the files are, and leaves them alone."""

    def open(self, *_: Any, **__: Any) -> None:
        """Write nothing."""

    def go_on(self, done: int) -> None:
        """Read nothing."""

    def save_running(self, *_: Any, **__: Any) -> None:
        """Write nothing."""

    def draw(self, *_: Any, **__: Any) -> None:
        """Draw nothing."""
