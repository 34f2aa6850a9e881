"""Cameras and streams: one thread reads each, and what it read last waits to be asked for."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Generator, Sequence
from functools import partial
from typing import Any

import cv2

from yolopose.base.errors import SourceError
from yolopose.base.log import LOGGER
from yolopose.data.images import to_bgr
from yolopose.predict.items import Entry, Item, Source
from yolopose.predict.sources.captures import Refused, quiet_opencv
from yolopose.predict.sources.parts import Feed, Patience
from yolopose.predict.sources.videos import sane_rate
from yolopose.results import Frame

PATIENCE = Patience()

_QUEUE = 30  # frames of one feed that wait at most, when all are wanted
_BROKEN = 5  # grabs that may fail at once before the connection counts as ended: a broken frame costs that frame


def live_source(feeds: Sequence[Feed], stride: int, buffer: bool) -> Source:
    """The images of feeds, as they come.

    Each round gives one image of every feed that has a new one; a slow or dead feed does not hold up the others. A
    feed whose connection ends is connected again, after pauses that double, and the log says so.

    Args:
        feeds: cameras and streams.
        stride: every so many frames one is given.
        buffer: give all frames, of which a few wait, instead of the newest.
    """
    hub = _Hub([_Reader(feed, place, stride, buffer, PATIENCE) for place, feed in enumerate(feeds)])
    return Source(hub.entries(), None, live=True, together=len(feeds), close=hub.close)


class _Hub:
    """The readers of one source, and who waits for them."""

    def __init__(self, readers: Sequence[_Reader]) -> None:
        self.readers = readers
        self.news, self.stop = threading.Condition(), threading.Event()

    def entries(self) -> Generator[Entry, None, None]:
        """Start the readers and yields their images.

        Raises:
            SourceError: all feeds have ended, not all of them as they should.
        """
        for reader in self.readers:
            reader.start(self.news, self.stop)
        try:
            while self._wait():
                self._say_who_ended()
                for reader in self.readers:
                    with self.news:
                        item = reader.waiting.popleft() if reader.waiting else None
                        self.news.notify_all()  # a reader may wait for room
                    if item is not None:
                        yield Entry(item.path, partial(_given, item))
            wanted = not self.stop.is_set()
        finally:
            self.close()
        errors = [reader.error for reader in self.readers if reader.error]
        if wanted and errors:
            raise SourceError("\n".join(errors))

    def _wait(self) -> bool:
        """Wait for an image; False when none will come."""
        with self.news:
            while not self.stop.is_set():
                if any(reader.waiting for reader in self.readers):
                    return True
                if all(reader.ended for reader in self.readers):
                    return False
                self.news.wait(0.5)  # with a limit, so that Ctrl-C gets through on every platform
        return False

    def _say_who_ended(self) -> None:
        """Log once that a feed is given up while others go on; the last one's error is raised."""
        for reader in self.readers:
            if reader.ended and reader.error and not reader.told:
                reader.told = True
                LOGGER.warning(f"{reader.error} The other streams go on.")

    def close(self) -> None:
        """End the readers; one that is held up in a read ends by itself when that read does."""
        self.stop.set()
        with self.news:
            self.news.notify_all()
        for reader in self.readers:
            reader.join(1.0)


class _Reader:
    """Reads one feed in a thread.

    Attributes:
        waiting: images read and not yet asked for.
        ended: whether no more will come.
        error: why it ended before its time, or None.
        told: whether the log has said so.
    """

    def __init__(self, feed: Feed, place: int, stride: int, buffer: bool, patience: Patience) -> None:
        self.feed, self.place, self.stride, self.buffer, self.patience = feed, place, stride, buffer, patience
        self.waiting: deque[Item] = deque()
        self.ended = False
        self.error: str | None = None
        self.told = False
        self._number = 0
        self._why = ""
        self._lost_since: float | None = None
        self._first: float | None = None
        self._thread: threading.Thread | None = None

    def start(self, news: threading.Condition, stop: threading.Event) -> None:
        self._news, self._stop = news, stop
        self._thread = threading.Thread(target=self._run, name=f"yolopose-feed-{self.place}", daemon=True)
        self._thread.start()

    def join(self, seconds: float) -> None:
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(seconds)

    def _run(self) -> None:
        try:
            with quiet_opencv():
                self._connect_and_read()
        except Exception as error:  # whatever it is, who waits for this thread must learn of it
            self.error = f"{self.feed.label} cannot be read: {type(error).__name__}: {error}"
        finally:
            with self._news:
                self.ended = True
                self._news.notify_all()

    def _connect_and_read(self) -> None:
        failures, since = 0, time.monotonic()
        while not self._stop.is_set():
            before, hopeless = self._number, False
            try:
                capture = self.feed.connect(self.patience)
            except SourceError as error:
                self._why, hopeless = str(error), isinstance(error, Refused)
            else:
                try:
                    if self._read(capture):
                        return
                finally:
                    capture.release()
            if self._stop.is_set():
                return
            if self._number > before:
                failures, since = 0, time.monotonic()
            failures += 1
            never = not self._number
            if never and (hopeless or failures >= self.patience.tries):
                self.error = self._why
                return
            if not never and time.monotonic() - since >= self.patience.total:
                self.error = f"{self._why} Given up after {self.patience.total:.3g} s without an image."
                return
            self._lost_since = self._lost_since or time.monotonic()
            pause = min(self.patience.pause * 2 ** min(failures - 1, 30), self.patience.longest)
            LOGGER.warning(f"{self._why} Connecting again in {pause:.3g} s (attempt {failures}).")
            self._stop.wait(pause)

    def _read(self, capture: Any) -> bool:
        """Read until the connection ends; returns whether that is the end of the feed, as it had announced."""
        fps, length = sane_rate(capture.get(cv2.CAP_PROP_FPS)), capture.get(cv2.CAP_PROP_FRAME_COUNT)
        failed = here = 0
        while not self._stop.is_set():
            start = time.monotonic()
            if not capture.grab():
                failed += 1
                if time.monotonic() - start > 0.8 * self.patience.read:
                    self._why = f"{self.feed.label} has given no image for {self.patience.read:.3g} s."
                    return False
                if failed > _BROKEN:
                    self._why = f"{self.feed.label} has ended or gives what is no image."
                    return 0 < length < 1e12 and here >= 0.9 * length
                continue
            here += 1 + failed
            self._number += 1 + failed
            failed = 0
            if (self._number - 1) % self.stride == 0:
                done, image = capture.retrieve()
                if done:
                    self._put(Item(self.feed.name, to_bgr(image), frame=self._frame(fps)))
        return True

    def _frame(self, fps: float) -> Frame:
        now = time.monotonic()
        self._first = self._first or now
        return Frame(self._number, None, fps, self.place, live=True, at=now - self._first)

    def _put(self, item: Item) -> None:
        if self._lost_since is not None:
            LOGGER.info(f"{self.feed.label} is back after {time.monotonic() - self._lost_since:.1f} s.")
            self._lost_since = None
        with self._news:
            if not self.buffer:
                self.waiting.clear()
            while len(self.waiting) >= _QUEUE and not self._stop.is_set():
                self._news.wait(0.5)
            self.waiting.append(item)
            self._news.notify_all()


def _given(item: Item) -> Item:
    return item
