"""Files that grow with the run and stand under their name when it ends."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from yolopose.base.files import atomic_path


class GrowingFile:
    """A text file that is written beside its name, piece by piece, and renamed by `close`.

    Args:
        path: its name.

    Attributes:
        failed: whether it could not be written; then nothing of it is left.

    Raises:
        OutputError: it cannot be written, here or later.
    """

    def __init__(self, path: Path) -> None:
        self.failed = False
        with ExitStack() as stack:
            temporary = stack.enter_context(atomic_path(path))
            self._file = stack.enter_context(temporary.open("w", encoding="utf-8", newline=""))
            self._stack = stack.pop_all()

    @property
    def closed(self) -> bool:
        """Whether nothing can be added any more."""
        return self._file.closed

    def write(self, text: str) -> None:
        """Add a piece."""
        try:
            self._file.write(text)
        except OSError:
            self.failed = True
            with self._stack.pop_all():  # closes, removes, and makes a clear error of it
                raise

    def close(self) -> None:
        """Put the file in its place."""
        try:
            self._stack.close()
        except OSError:
            self.failed = True
            raise
