"""Exceptions whose messages state what is wrong, where, and how to fix it.

Each class also derives from the built-in exception that scripts already catch (`FileNotFoundError`, `ValueError`, …).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from yolopose.base.addresses import hide_secrets
from yolopose.base.text import cut_text, escape_control


class YoloposeError(Exception):
    """Base of all errors that a user can fix; the command line prints the message without a traceback.

    Names, values and addresses from files are part of messages: control characters are made visible, secrets are
    hidden, and long texts are cut.

    Examples:
        >>> from yolopose import YOLO
        >>> from yolopose.base.errors import YoloposeError
        >>> try:
        ...     YOLO("missing.pt")
        ... except YoloposeError as error:
        ...     print(type(error).__name__)
        NotFoundError
    """

    def __init__(self, *args: object) -> None:
        super().__init__(
            *(cut_text(hide_secrets(escape_control(arg))) if isinstance(arg, str) else arg for arg in args)
        )


class UsageError(YoloposeError, ValueError):
    """A wrong option, value or combination of arguments."""


class NotFoundError(YoloposeError, FileNotFoundError):
    """A file or folder does not exist."""

    def __str__(self) -> str:
        return Exception.__str__(self)


class DataError(YoloposeError, ValueError):
    """A data set, its YAML or its labels cannot be used."""


class ModelError(YoloposeError, ValueError):
    """A model YAML cannot be built, or does not fit."""


class WeightsError(YoloposeError, ValueError):
    """A weights file is damaged, of an unknown kind, or does not fit the network."""


class UnsafeFileError(WeightsError):
    """A file requests operations that reading weights never needs; none of them was executed."""


class TrainError(YoloposeError, RuntimeError):
    """A training cannot continue, or a run cannot be resumed."""


class ExportError(YoloposeError, RuntimeError):
    """A network cannot be exported, or the exported file does not compute what the network does."""


class SourceError(YoloposeError, ValueError):
    """A prediction source cannot be read."""


class DownloadError(YoloposeError, OSError):
    """A file cannot be downloaded, or is not the expected one."""

    def __str__(self) -> str:
        return Exception.__str__(self)


class OutputError(YoloposeError, OSError):
    """A file cannot be written: read-only or full disk, missing permission, a folder in the way."""

    def __str__(self) -> str:
        return Exception.__str__(self)


class DependencyError(YoloposeError, ImportError):
    """A required library is not installed; the message has the command that installs it."""


def nearest(word: str, known: Iterable[str], count: int = 3) -> list[str]:
    """Return up to `count` of the known words closest to `word`, best first."""
    return difflib.get_close_matches(word, list(known), n=count, cutoff=0.6)


def did_you_mean(word: str, known: Iterable[str], ending: str = "") -> str:
    """Return `" Did you mean 'conf'?"` for a near miss, or an empty string.

    Args:
        word: what was written.
        known: accepted words.
        ending: common ending of all these words, removed for the comparison.
    """
    close = nearest(word.removesuffix(ending), [name.removesuffix(ending) for name in known])
    return f" Did you mean {' or '.join(repr(name + ending) for name in close)}?" if close else ""
