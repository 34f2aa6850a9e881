"""Types of sources: images, videos, live feeds, screens, and the sequence of images that prediction reads."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from yolopose.results import Frame

VIDEO_SUFFIXES = frozenset(
    {".asf", ".avi", ".gif", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ts", ".webm", ".wmv"}
)


@dataclass(frozen=True, slots=True)
class LoadedImage:
    """An image in memory.

    Attributes:
        path: file of the image, or a generated name (`image0.jpg`).
        image: (H, W, 3) uint8 BGR; (0, 0, 3) if it could not be read. With a fourth channel if the network reads it.
        tensor: (C, H, W) float32 0…1 if the image was passed as network input, which is not letterboxed.
        error: why it could not be read, or None.
        frame: its position in a video or stream, or None.
        full_size: (height, width) of the file's image if `image` was decoded at a reduced scale, else None.
    """

    path: str
    image: npt.NDArray[np.uint8]
    tensor: npt.NDArray[np.float32] | None = None
    error: str | None = None
    frame: Frame | None = None
    full_size: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Decoding:
    """How image files are decoded.

    Attributes:
        reduce_to: least length of the longer side of a JPEG that is decoded at a reduced scale; None for full size.
        alpha: keep a fourth channel.
    """

    reduce_to: int | None = None
    alpha: bool = False


@dataclass(frozen=True, slots=True)
class ImageRef:
    """An image that is not loaded yet.

    Attributes:
        path: path of its result.
        load: reads it, possibly in another thread. Raises `SourceError`, `NotFoundError` or `DownloadError`.
    """

    path: str
    load: Callable[[], LoadedImage]


@dataclass(frozen=True, slots=True)
class Video:
    """A video of finite length.

    Attributes:
        name: path of its results.
        locate: returns the file, downloaded if necessary. Raises `SourceError` or `DownloadError`.
    """

    name: str
    locate: Callable[[], Path]


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Timeouts and retries of live feeds.

    Attributes:
        connect_timeout: seconds to connect.
        read_timeout: seconds without a frame after which the connection is considered lost.
        first_delay: seconds before the first reconnection; doubled for each further one.
        max_delay: upper limit of that delay, seconds.
        give_up_after: seconds without a frame after which a feed that has delivered frames is given up.
        max_attempts: attempts for a feed that has never delivered a frame.
    """

    connect_timeout: float = 15.0
    read_timeout: float = 10.0
    first_delay: float = 1.0
    max_delay: float = 30.0
    give_up_after: float = 300.0
    max_attempts: int = 3


@dataclass(frozen=True, slots=True)
class LiveFeed:
    """A camera or stream.

    Attributes:
        name: path of its results; usable as a file name, without credentials.
        label: name in log lines and errors, without credentials.
        connect: opens it and returns a `cv2.VideoCapture`. Raises `SourceError`, or `PermanentSourceError` if a retry
            is pointless.
    """

    name: str
    label: str
    connect: Callable[[RetryPolicy], Any]


@dataclass(frozen=True, slots=True)
class ScreenRegion:
    """A region of the screen.

    Attributes:
        number: 0 for all screens side by side, else the number of a screen, from 1.
        area: left, top, width, height in pixels from the screen's corner; None for the whole screen.
    """

    number: int = 0
    area: tuple[int, int, int, int] | None = None


SourcePart: TypeAlias = ImageRef | Video | LiveFeed | ScreenRegion


@dataclass(frozen=True, slots=True)
class Source:
    """All images to predict, in order.

    Attributes:
        images: the images, iterated once, by one thread. Frames of a video are decoded by `next`.
        count: number of images; None if unknown.
        live: whether the images come from cameras, streams or a screen. The next image is requested only when the
            engine is idle, so that it is the newest.
        per_call: number of images to predict in one call (the number of streams).
        close: stops background threads; called once, when no more images are needed. None without such threads.
    """

    images: Iterable[ImageRef]
    count: int | None
    live: bool = False
    per_call: int = 1
    close: Callable[[], None] | None = None
