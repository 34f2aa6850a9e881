"""Error types: each carries one clear paragraph that says what is wrong, where, and how to mend it.

Every class is also the built-in exception that scripts written for such toolkits already catch
(`FileNotFoundError`, `ValueError`, …), so `except FileNotFoundError` goes on working.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class YoloposeError(Exception):
    """Base of all errors that a user can mend; the command line prints its text and no traceback."""


class UsageError(YoloposeError, ValueError):
    """A wrong key, value or combination of arguments."""


class NotFoundError(YoloposeError, FileNotFoundError):
    """A file or folder that was named is not there."""

    def __str__(self) -> str:
        return Exception.__str__(self)


class DataError(YoloposeError, ValueError):
    """A data set, its YAML or its labels cannot be used."""


class ModelError(YoloposeError, ValueError):
    """A model YAML cannot be built, or does not fit."""


class WeightsError(YoloposeError, ValueError):
    """A weights file is damaged, of an unknown kind, or does not fit the network."""


class UnsafeFileError(WeightsError):
    """A file asks for something to be run or made that reading weights never needs; nothing of it was run."""


class TrainError(YoloposeError, RuntimeError):
    """A training cannot go on, or a run cannot be resumed."""


class ExportError(YoloposeError, RuntimeError):
    """A network cannot be written in another format, or the written file does not compute what the network does."""


class SourceError(YoloposeError, ValueError):
    """A prediction source cannot be read."""


class DownloadError(YoloposeError, OSError):
    """A file could not be fetched, or is not what it should be."""

    def __str__(self) -> str:
        return Exception.__str__(self)


class OutputError(YoloposeError, OSError):
    """A result could not be written: read-only or full disk, a folder in the way."""

    def __str__(self) -> str:
        return Exception.__str__(self)


class DependencyError(YoloposeError, ImportError):
    """A library that this step needs is not installed; the text holds the one line that installs it."""


def nearest(word: str, known: Iterable[str], count: int = 3) -> list[str]:
    """Return up to `count` of the known words closest to `word`, best first."""
    return difflib.get_close_matches(word, list(known), n=count, cutoff=0.6)


def did_you_mean(word: str, known: Iterable[str], ending: str = "") -> str:
    """Return `" Did you mean 'conf'?"` for a near miss, or an empty string.

    Args:
        word: what was written.
        known: what could be meant.
        ending: what all of these end in, and `word` too: it is no likeness, and is left out of all for the comparison.
    """
    close = nearest(word.removesuffix(ending), [name.removesuffix(ending) for name in known])
    return f" Did you mean {' or '.join(repr(name + ending) for name in close)}?" if close else ""
