"""Cameras and streams: one thread per feed reads frames, and prediction takes the newest one of each."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Generator, Sequence
from typing import Any

import cv2

from yolopose.base.errors import SourceError
from yolopose.base.log import LOGGER
from yolopose.data.images import to_bgr
from yolopose.predict.sources.base import ImageRef, LiveFeed, LoadedImage, RetryPolicy, Source
from yolopose.predict.sources.video import PermanentSourceError, quiet_opencv, valid_fps
from yolopose.results import Frame

RETRY_POLICY = RetryPolicy()

_QUEUE_SIZE = 30  # frames of a feed that wait at most, with `buffer`
# Failed grabs in a row before the connection is considered lost: a single damaged frame costs only that frame.
_MAX_FAILED_GRABS = 5


def open_feeds(feeds: Sequence[LiveFeed], stride: int, buffer: bool) -> Source:
    """Return the images of feeds as they arrive.

    Each round yields one image of every feed that has a new one; a slow or dead feed does not block the others. A feed
    that loses its connection is reconnected with doubling delays, which are logged.

    Args:
        feeds: cameras and streams.
        stride: yield every n-th frame.
        buffer: yield all frames (a few are queued) instead of the newest.
    """
    group = _FeedGroup([_FeedReader(feed, index, stride, buffer, RETRY_POLICY) for index, feed in enumerate(feeds)])
    return Source(group.images(), None, live=True, per_call=len(feeds), close=group.close)


class _FeedGroup:
    """The readers of a source; `changed` is notified when a reader has a frame or ends, and when a frame is taken."""

    def __init__(self, readers: Sequence[_FeedReader]) -> None:
        self.readers = readers
        self.changed = threading.Condition()
        self.stop = threading.Event()

    def images(self) -> Generator[ImageRef, None, None]:
        """Start the readers and yield their images.

        Raises:
            SourceError: all feeds have ended, at least one with an error.
        """
        for reader in self.readers:
            reader.start(self.changed, self.stop)
        try:
            while self._wait_for_frame():
                self._log_ended_feeds()
                for reader in self.readers:
                    with self.changed:
                        image = reader.queue.popleft() if reader.queue else None
                        self.changed.notify_all()  # a reader may wait for space in its queue
                    if image is not None:
                        yield ImageRef(image.path, lambda image=image: image)
            stopped = self.stop.is_set()
        finally:
            self.close()
        errors = [reader.error for reader in self.readers if reader.error]
        if errors and not stopped:
            raise SourceError("\n".join(errors))

    def _wait_for_frame(self) -> bool:
        """Wait until a feed has a frame; return False if all have ended."""
        with self.changed:
            while not self.stop.is_set():
                if any(reader.queue for reader in self.readers):
                    return True
                if all(reader.ended for reader in self.readers):
                    return False
                self.changed.wait(0.5)  # with a timeout, because Windows does not deliver Ctrl-C to an endless wait
        return False

    def _log_ended_feeds(self) -> None:
        """Log feeds that are given up while others continue; the error of the last one is raised instead."""
        for reader in self.readers:
            if reader.ended and reader.error and not reader.logged:
                reader.logged = True
                LOGGER.warning(f"{reader.error} The other streams continue.")

    def close(self) -> None:
        """Stop the readers; a thread that is blocked in a read ends after that read."""
        self.stop.set()
        with self.changed:
            self.changed.notify_all()
        for reader in self.readers:
            reader.join(1.0)


class _FeedReader:
    """Reads one feed in a thread.

    Attributes:
        queue: images that were read and not taken yet.
        ended: whether the thread has ended.
        error: why it ended early, or None.
        logged: whether the error was logged.
    """

    def __init__(self, feed: LiveFeed, index: int, stride: int, buffer: bool, retry: RetryPolicy) -> None:
        self.feed = feed
        self.index = index
        self.stride = stride
        self.buffer = buffer
        self.retry = retry
        self.queue: deque[LoadedImage] = deque()
        self.ended = False
        self.error: str | None = None
        self.logged = False
        self._number = 0
        self._failure = ""
        self._lost_since: float | None = None
        self._first_time: float | None = None
        self._thread: threading.Thread | None = None

    def start(self, changed: threading.Condition, stop: threading.Event) -> None:
        self._changed = changed
        self._stop = stop
        self._thread = threading.Thread(target=self._run, name=f"yolopose-feed-{self.index}", daemon=True)
        self._thread.start()

    def join(self, seconds: float) -> None:
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(seconds)

    def _run(self) -> None:
        try:
            with quiet_opencv():
                self._connect_and_read()
        except Exception as error:  # the consumer waits for this thread, so it must learn of every error
            self.error = f"{self.feed.label} cannot be read: {type(error).__name__}: {error}"
        finally:
            with self._changed:
                self.ended = True
                self._changed.notify_all()

    def _connect_and_read(self) -> None:
        """Read the feed and reconnect after failures, until it ends or is given up."""
        failures = 0
        last_success = time.monotonic()
        while not self._stop.is_set():
            number_before = self._number
            permanent = False
            try:
                capture = self.feed.connect(self.retry)
            except SourceError as error:
                self._failure = str(error)
                permanent = isinstance(error, PermanentSourceError)
            else:
                try:
                    if self._read(capture):
                        return
                finally:
                    capture.release()
            if self._stop.is_set():
                return
            if self._number > number_before:
                failures = 0
                last_success = time.monotonic()
            failures += 1
            if self._give_up(permanent, failures, last_success):
                return
            self._lost_since = self._lost_since or time.monotonic()
            delay = min(self.retry.first_delay * 2 ** min(failures - 1, 30), self.retry.max_delay)
            LOGGER.warning(f"{self._failure} Connecting again in {delay:.3g} s (attempt {failures}).")
            self._stop.wait(delay)

    def _give_up(self, permanent: bool, failures: int, last_success: float) -> bool:
        """Set the error and return True if no further connection should be tried."""
        if not self._number:
            if permanent or failures >= self.retry.max_attempts:
                self.error = self._failure
        elif time.monotonic() - last_success >= self.retry.give_up_after:
            self.error = f"{self._failure} Given up after {self.retry.give_up_after:.3g} s without an image."
        return self.error is not None

    def _read(self, capture: Any) -> bool:
        """Read until the connection ends; return whether the feed is complete (it had announced its length)."""
        fps = valid_fps(capture.get(cv2.CAP_PROP_FPS))
        length = capture.get(cv2.CAP_PROP_FRAME_COUNT)
        failed = 0
        read = 0
        while not self._stop.is_set():
            start = time.monotonic()
            if not capture.grab():
                failed += 1
                # A slow failure is FFmpeg's read timeout, a fast one a damaged frame or a closed connection.
                if time.monotonic() - start > 0.8 * self.retry.read_timeout:
                    self._failure = f"{self.feed.label} has sent no image for {self.retry.read_timeout:.3g} s."
                    return False
                if failed > _MAX_FAILED_GRABS:
                    self._failure = f"{self.feed.label} has ended or sends invalid data."
                    return 0 < length < 1e12 and read >= 0.9 * length
                continue
            read += 1 + failed
            self._number += 1 + failed
            failed = 0
            if (self._number - 1) % self.stride == 0:
                decoded, image = capture.retrieve()
                if decoded:
                    self._put(LoadedImage(self.feed.name, to_bgr(image), frame=self._make_frame(fps)))
        return True

    def _make_frame(self, fps: float) -> Frame:
        now = time.monotonic()
        self._first_time = self._first_time or now
        return Frame(self._number, None, fps, self.index, live=True, at=now - self._first_time)

    def _put(self, image: LoadedImage) -> None:
        if self._lost_since is not None:
            LOGGER.info(f"{self.feed.label} is back after {time.monotonic() - self._lost_since:.1f} s.")
            self._lost_since = None
        with self._changed:
            if not self.buffer:
                self.queue.clear()
            while len(self.queue) >= _QUEUE_SIZE and not self._stop.is_set():
                self._changed.wait(0.5)
            self.queue.append(image)
            self._changed.notify_all()
