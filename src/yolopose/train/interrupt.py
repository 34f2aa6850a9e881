"""Ctrl-C during training: obeyed between two batches, where all numbers agree."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager

_ONE = 3.0  # seconds in which what a launcher passes on counts as the same Ctrl-C


class InterruptHandler:
    """Whether the user asked to end.

    Args:
        passed_on: a launcher may tell of the same Ctrl-C once more.

    Attributes:
        asked: Ctrl-C was pressed.
    """

    def __init__(self, passed_on: bool = False) -> None:
        self.asked = False
        self._passed_on, self._at = passed_on, 0.0

    @contextmanager
    def watched(self) -> Generator[None, None, None]:
        """Note a first Ctrl-C inside the block and lets a second one through at once.

        Only the main thread is told of signals; elsewhere nothing changes.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def ask(number: int, frame: object) -> None:
            if not self._passed_on:
                signal.signal(signal.SIGINT, before)
            elif self.asked and time.monotonic() - self._at > _ONE:
                raise KeyboardInterrupt
            else:
                self._at = self._at if self.asked else time.monotonic()
            self.asked = True

        before = signal.signal(signal.SIGINT, ask)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)
