"""Frames of video files, in order, decoded as they are asked for."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing
from functools import partial
from typing import Any

import cv2

from yolopose.base.errors import DownloadError, NotFoundError, SourceError
from yolopose.base.log import LOGGER
from yolopose.data.images import to_bgr
from yolopose.predict.items import Entry, Item
from yolopose.predict.sources.captures import MEND, open_file, quiet_opencv
from yolopose.predict.sources.parts import Video
from yolopose.results import Frame

# Grabs that may fail one after the other before it is taken for the end: a damaged stretch gives up to a hundred.
_ATTEMPTS = 250


def video_entries(video: Video, index: int, stride: int, alone: bool) -> Generator[Entry, None, None]:
    """Yield the frames of a video.

    A frame that cannot be decoded is left out, and the others keep their numbers; how many were lost is said at the
    end. What is asked for is decoded in the `next` that asks for it, so that memory stays flat.

    Args:
        video: which.
        index: its place among the videos of the source, from 0.
        stride: every so many frames one is given; the others are not converted.
        alone: whether the source is nothing else; then a video that cannot be opened is an error, while among others
            it gives one entry whose `load` raises that error.

    Raises:
        NotFoundError, SourceError, DownloadError: it is alone, and cannot be opened.
    """
    try:
        capture = open_file(video.find())
    except (NotFoundError, SourceError, DownloadError) as error:
        if alone:
            raise
        yield Entry(video.name, partial(_raise, error))
        return
    reader = _Reader(capture, video.name)
    with closing(reader), quiet_opencv():
        for number in reader.numbers():
            if (number - 1) % stride:
                continue
            done, image = capture.retrieve()
            if not done:
                reader.lost += 1
                continue
            frame = Frame(number, reader.total, reader.fps, index)
            yield Entry(video.name, partial(Item, video.name, to_bgr(image), frame=frame))
    error = reader.verdict()
    if error is not None and not alone:
        yield Entry(video.name, partial(_raise, error))
    elif error is not None:
        raise error


class _Reader:
    """Walks over a video and keeps count.

    Attributes:
        total: frames that the header promises; a hint, None without one.
        fps: frames a second; 0 when the header does not say.
        lost: grabs or conversions that failed between good frames.
        last: number of the last frame grabbed.
    """

    def __init__(self, capture: Any, name: str) -> None:
        self.capture, self.name = capture, name
        self.total = int(count) if 0 < (count := capture.get(cv2.CAP_PROP_FRAME_COUNT)) < 1e12 else None
        self.fps = sane_rate(capture.get(cv2.CAP_PROP_FPS))
        self.lost = self.last = 0

    def numbers(self) -> Iterator[int]:
        """Grab frame by frame; yields the number of each, from 1."""
        failed, before = 0, 0.0
        while failed < _ATTEMPTS:
            if not self.capture.grab():
                failed += 1
                continue
            now = float(self.capture.get(cv2.CAP_PROP_POS_MSEC))
            # A failed grab may stand for no frame or for many: after one, the clock tells how far it is.
            passed = round((now - before) * self.fps / 1000) if failed and self.last else 1 + failed
            self.lost += failed
            self.last += max(1, passed)
            failed, before = 0, now
            yield self.last

    def verdict(self) -> SourceError | None:
        """Log at the end what is missing; an error when not one frame could be decoded."""
        if not self.last:
            return SourceError(
                f"The video {self.name} has no frame that can be decoded: it is damaged, or holds sound alone. {MEND}"
            )
        missing = (self.total or 0) - self.last
        if self.lost:
            LOGGER.warning(
                f"{self.name}: about {self.lost} damaged frames could not be decoded and are left out; the others keep "
                "their numbers."
            )
        if missing > max(1, (self.total or 0) // 100):
            LOGGER.warning(
                f"{self.name} ends after {self.last} of the {self.total} frames that its header promises: it is cut "
                "short or damaged."
            )
        return None

    def close(self) -> None:
        self.capture.release()


def sane_rate(fps: float) -> float:
    """Frames a second; 0 for what no video has (some containers give their clock instead, or nothing)."""
    return float(fps) if 0 < fps <= 1000 else 0.0


def _raise(error: Exception) -> Item:
    raise error
