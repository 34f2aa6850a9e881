"""Logger of the package: plain lines on standard output, warnings on standard error."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress

from yolopose.base.addresses import hide_secrets
from yolopose.base.isolation import after_fork
from yolopose.base.text import cut_text, escape_control

LOGGER = logging.getLogger("yolopose")


class _Plain(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        # file names and values from files must not steer the terminal, and addresses may contain passwords
        text = hide_secrets(escape_control(super().format(record)))
        text = cut_text(text) if record.levelno >= logging.WARNING else text
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
        """Let a closed pipe (`| head`) end the program instead of printing a traceback per line.

        A full disk behind the stream loses lines, which must not end a training.
        """
        error = sys.exc_info()[1]
        if isinstance(error, BrokenPipeError):
            raise  # logging calls this from its own except block
        if isinstance(error, OSError):
            return
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


_lock = threading.Lock()


def _renew_lock() -> None:
    global _lock
    _lock = threading.Lock()


after_fork(_renew_lock)  # another thread may hold the lock
_minimums: list[int] = []  # of the open blocks, in all threads
_own_level = logging.NOTSET  # level of the logger outside of all blocks


@contextmanager
def _minimum_level(level: int) -> Generator[None, None, None]:
    """Log nothing below a level inside the block; blocks of several threads may overlap in any order."""
    global _own_level
    with _lock:
        if not _minimums:
            _own_level = LOGGER.level
        _minimums.append(level)
        LOGGER.setLevel(max(_own_level, *_minimums))
    try:
        yield
    finally:
        with _lock:
            _minimums.remove(level)
            LOGGER.setLevel(max([_own_level, *_minimums]))


def quiet(when: bool = True) -> AbstractContextManager[None]:
    """Log only warnings and errors inside the block (`verbose=False`)."""
    return _minimum_level(logging.WARNING) if when else nullcontext()


def silent(when: bool = True) -> AbstractContextManager[None]:
    """Log nothing inside the block, in a process of a distributed run that is not the main one."""
    return _minimum_level(logging.CRITICAL + 1) if when else nullcontext()


_discarding = 0  # open blocks of quiet_libraries, in all threads
_streams: list[tuple[int, int]] = []  # number of a standard stream, and its copy


@contextmanager
def quiet_libraries() -> Generator[None, None, None]:
    """Discard what native libraries write directly to the process's standard output and error inside the block."""
    global _discarding
    with _lock:
        _discarding += 1
        if _discarding == 1:
            _discard_streams()
    try:
        yield
    finally:
        with _lock:
            _discarding -= 1
            if not _discarding:
                _restore_streams()


def _discard_streams() -> None:
    _flush()
    _streams[:] = [(number, os.dup(number)) for number in (1, 2) if _is_open(number)]
    with open(os.devnull, "wb") as devnull:
        for number, _ in _streams:
            os.dup2(devnull.fileno(), number)


def _restore_streams() -> None:
    _flush()
    for number, copy in _streams:
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
