"""Logger of the package: plain lines on standard output, warnings on standard error."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress

from yolopose.base.text import escape_control

LOGGER = logging.getLogger("yolopose")


class _Plain(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        # file names and values from files must not steer the terminal
        text = escape_control(super().format(record))
        return text if record.levelno < logging.WARNING else f"{record.levelname.lower()}: {text}"


class _Stdout(logging.StreamHandler):  # type: ignore[type-arg]
    """Handler that looks up the standard streams for each line, so that redirection in notebooks works.

    A program without a console (pythonw, PyInstaller, Windows services) has none; nothing is printed there.
    """

    def emit(self, record: logging.LogRecord) -> None:
        stream = sys.stdout if record.levelno < logging.WARNING else sys.stderr
        if stream is not None:  # pyright: ignore[reportUnnecessaryComparison]
            self.stream = stream
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:
        """Let a closed pipe (`| head`) end the program instead of printing a traceback per line."""
        if isinstance(sys.exc_info()[1], BrokenPipeError):
            raise  # logging calls this from its own except block
        super().handleError(record)


def setup() -> logging.Logger:
    """Add the handler once, unless the program has configured this logger itself."""
    if not LOGGER.handlers:
        handler = _Stdout(sys.stdout)
        handler.setFormatter(_Plain())
        LOGGER.addHandler(handler)
        LOGGER.setLevel(logging.INFO)
        LOGGER.propagate = False
    return LOGGER


@contextmanager
def quiet(when: bool = True) -> Generator[None, None, None]:
    """Log only warnings and errors inside the block (`verbose=False`)."""
    before = LOGGER.level
    if when:
        LOGGER.setLevel(logging.WARNING)
    try:
        yield
    finally:
        LOGGER.setLevel(before)


@contextmanager
def silent(when: bool = True) -> Generator[None, None, None]:
    """Log nothing inside the block, in a process of a distributed run that is not the main one."""
    before = LOGGER.level
    if when:
        LOGGER.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        LOGGER.setLevel(before)


@contextmanager
def quiet_libraries() -> Generator[None, None, None]:
    """Discard what native libraries write directly to the process's standard output and error inside the block."""
    _flush()
    copies = [(number, os.dup(number)) for number in (1, 2) if _is_open(number)]
    with open(os.devnull, "wb") as devnull:
        for number, _ in copies:
            os.dup2(devnull.fileno(), number)
    try:
        yield
    finally:
        _flush()
        for number, copy in copies:
            os.dup2(copy, number)
            os.close(copy)


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, ValueError, OSError):  # missing or closed
            stream.flush()


_warned: set[str] = set()


def warn_once(text: str) -> None:
    """Log a warning unless this process has logged it before."""
    if text not in _warned:
        _warned.add(text)
        LOGGER.warning(text)


setup()
