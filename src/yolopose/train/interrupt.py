"""Ctrl-C during training: obeyed between two batches, where all numbers agree."""

from __future__ import annotations

import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager


class Interruption:
    """Whether the user asked to end.

    Attributes:
        asked: Ctrl-C was pressed.
    """

    def __init__(self) -> None:
        self.asked = False

    @contextmanager
    def watched(self) -> Generator[None, None, None]:
        """Notes a first Ctrl-C inside the block and lets a second one through at once.

        Only the main thread is told of signals; elsewhere nothing changes.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def ask(number: int, frame: object) -> None:
            signal.signal(signal.SIGINT, before)
            self.asked = True

        before = signal.signal(signal.SIGINT, ask)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)
