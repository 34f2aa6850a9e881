"""One install or removal at a time, and nothing left behind by those that were cut off."""

from __future__ import annotations

import os
import shutil
import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import IO

from yolopose.base.errors import UsageError
from yolopose.base.files import make_folder, output_error


@contextmanager
def install_lock(root: Path) -> Generator[tuple[int, ...], None, None]:
    """Hold the folder of toolchains, and removes what installs that were killed have left in it.

    A signal to end (SIGTERM) ends the block as Ctrl-C does. Programs that are given the numbers keep the folder held
    for as long as they run, should this process be killed before them.

    Args:
        root: the folder.

    Yields:
        Numbers of open files that programs called meanwhile shall inherit.

    Raises:
        UsageError: another process holds it.
        OutputError: rights are missing.
    """
    place = make_folder(root / "logs") / "turn.lock"
    try:
        file = place.open("a")
    except OSError as error:
        raise output_error(place, error) from error
    with file, _ended_by_signal():
        if not _take(file):
            raise UsageError(
                f"Another install or removal of a toolchain is under way below {root}, or what a killed one called "
                "still runs: wait until it is done, and give the command again."
            )
        for left in root.glob(".*.part"):
            shutil.rmtree(left, ignore_errors=True)
        yield (file.fileno(),)


def _take(file: IO[str]) -> bool:
    """Lock a file until it is closed everywhere; whether nobody else has."""
    if os.name == "nt":
        return True  # nothing is inherited there; a folder in use cannot be removed anyway
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


@contextmanager
def _ended_by_signal() -> Generator[None, None, None]:
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are for the main thread
        return

    def end(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
