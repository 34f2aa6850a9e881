"""The package's logger: plain lines on standard output, warnings marked; handlers of the caller's own win."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress

LOGGER = logging.getLogger("yolopose")


class _Plain(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return text if record.levelno < logging.WARNING else f"{record.levelname.lower()}: {text}"


class _Stdout(logging.StreamHandler):  # type: ignore[type-arg]
    """Looks standard output up at each line, so that redirection in tests and notebooks is honored."""

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stdout if record.levelno < logging.WARNING else sys.stderr
        super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:
        """Let a closed pipe (`| head`) end the program as it ends any other, instead of a traceback a line."""
        if isinstance(sys.exc_info()[1], BrokenPipeError):
            raise  # logging calls this from its own except block
        super().handleError(record)


def setup() -> logging.Logger:
    """Add the plain handler once; a program that set up logging for itself keeps its own."""
    if not LOGGER.handlers:
        handler = _Stdout(sys.stdout)
        handler.setFormatter(_Plain())
        LOGGER.addHandler(handler)
        LOGGER.setLevel(logging.INFO)
        LOGGER.propagate = False
    return LOGGER


@contextmanager
def quiet(when: bool = True) -> Generator[None, None, None]:
    """Hold back everything below a warning inside the block (`verbose=False`)."""
    before = LOGGER.level
    if when:
        LOGGER.setLevel(logging.WARNING)
    try:
        yield
    finally:
        LOGGER.setLevel(before)


@contextmanager
def silent(when: bool = True) -> Generator[None, None, None]:
    """Hold back everything inside the block: another process says it."""
    before = LOGGER.level
    if when:
        LOGGER.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        LOGGER.setLevel(before)


@contextmanager
def quiet_libraries() -> Generator[None, None, None]:
    """Lead away what libraries write past Python, to the process's own standard output and error, inside the block."""
    _flush()  # what was written before goes where it was meant to
    kept = [(number, os.dup(number)) for number in (1, 2)]
    with open(os.devnull, "wb") as nowhere:
        for number, _ in kept:
            os.dup2(nowhere.fileno(), number)
    try:
        yield
    finally:
        _flush()
        for number, copy in kept:
            os.dup2(copy, number)
            os.close(copy)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, ValueError, OSError):  # there is none, or it is closed
            stream.flush()


_said: set[str] = set()


def warn_once(text: str) -> None:
    """Log a warning the first time it is met in this process."""
    if text not in _said:
        _said.add(text)
        LOGGER.warning(text)


setup()
