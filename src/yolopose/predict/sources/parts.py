"""What a source is made of: images (`Entry`), videos, live feeds, the screen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from yolopose.predict.items import Entry

UInt8 = npt.NDArray[np.uint8]

VIDEO_SUFFIXES = frozenset(
    {".asf", ".avi", ".gif", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ts", ".webm", ".wmv"}
)


@dataclass(frozen=True, slots=True)
class Video:
    """A video that has an end.

    Attributes:
        name: the path that its results carry.
        find: gives the file, fetched if need be. Raises `SourceError` or `DownloadError`.
    """

    name: str
    find: Callable[[], Path]


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a live feed is waited for.

    Attributes:
        open: seconds to connect.
        read: seconds without an image after which the connection counts as dead.
        pause: seconds before the first new attempt; each further one waits twice as long.
        longest: most seconds between two attempts.
        total: seconds without an image after which a feed that once gave images is given up.
        tries: attempts for a feed that never gave one.
    """

    open: float = 15.0
    read: float = 10.0
    pause: float = 1.0
    longest: float = 30.0
    total: float = 300.0
    tries: int = 3


@dataclass(frozen=True, slots=True)
class Feed:
    """A camera or stream, whose images appear by themselves.

    Attributes:
        name: what its results carry as path; fit for a file name, without any secret.
        label: what log lines and errors call it; without any secret.
        connect: opens it and gives a `cv2.VideoCapture`. Raises `SourceError`, or `Refused` where another attempt is
            of no use.
    """

    name: str
    label: str
    connect: Callable[[Patience], Any]


@dataclass(frozen=True, slots=True)
class Screen:
    """What a screen shows.

    Attributes:
        number: 0 for all screens side by side, else the number of one, from 1.
        area: left, top, width, height in pixels from that screen's corner; None for all of it.
    """

    number: int = 0
    area: tuple[int, int, int, int] | None = None


Part: TypeAlias = Entry | Video | Feed | Screen
