"""OpenCV's `VideoCapture` for files, streams and cameras, and the frames of video files."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import cv2

from yolopose.base.cpu import available_cpus
from yolopose.base.errors import DownloadError, NotFoundError, SourceError
from yolopose.base.log import LOGGER
from yolopose.data.images import to_bgr
from yolopose.predict.sources.base import ImageRef, LoadedImage, RetryPolicy, Video
from yolopose.results import Frame

# FFmpeg decodes one frame per thread in parallel and so delays the output: more threads cost memory, and latency of
# streams.
_FILE_THREADS = min(4, available_cpus())
_STREAM_THREADS = min(2, available_cpus())
# Failed grabs in a row that end a video; a damaged section causes up to a hundred.
_MAX_FAILED_GRABS = 250
_REPAIR_HINT = "Copy it again, or convert it: ffmpeg -i IN -c:v libx264 OUT.mp4"


class PermanentSourceError(SourceError):
    """A live feed that a retry cannot open: unknown camera, no permission, a web page instead of a stream."""


# -- Opening ---------------------------------------------------------------------------------------------------------


def open_file(path: Path) -> Any:
    """Open a video file; OpenCV applies its rotation flag.

    Raises:
        NotFoundError: it does not exist.
        SourceError: it is empty, not readable, or cannot be decoded.
    """
    try:
        with path.open("rb") as file:
            empty = not file.read(1)
    except FileNotFoundError as error:
        raise NotFoundError(
            f"The video {path} does not exist. Check the path (current folder: {Path.cwd()})."
        ) from error
    except OSError as error:
        raise SourceError(f"The video {path} cannot be read: {error.strerror or error}.") from error
    if empty:
        raise SourceError(f"The video {path} is empty (0 bytes). Copy it again or remove it.")
    # An absolute path cannot be mistaken for an FFmpeg protocol (`concat:`) or an image sequence pattern option.
    capture = _open_ffmpeg(str(path.absolute()), [cv2.CAP_PROP_N_THREADS, _FILE_THREADS])
    if not capture.isOpened():
        raise SourceError(
            f"The video {path} cannot be opened: it is damaged, truncated (an .mp4 has its index at the end), not a "
            f"video, or encoded in a format that this OpenCV cannot decode. {_REPAIR_HINT}"
        )
    return capture


def open_stream(url: str, retry: RetryPolicy) -> Any:
    """Connect to a stream; the returned capture may be closed."""
    return _open_ffmpeg(
        url,
        [
            *(cv2.CAP_PROP_N_THREADS, _STREAM_THREADS),
            *(cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, int(1000 * retry.connect_timeout)),
            *(cv2.CAP_PROP_READ_TIMEOUT_MSEC, int(1000 * retry.read_timeout)),
        ],
    )


def open_camera(number: int) -> Any:
    """Open a camera.

    Raises:
        PermanentSourceError: it does not exist, is not accessible, or is in use.
    """
    with quiet_opencv():
        capture = cv2.VideoCapture(number)
    if capture.isOpened():
        return capture
    capture.release()
    raise PermanentSourceError(f"The camera {number} cannot be opened: {_explain_camera(number)}")


def _explain_camera(number: int) -> str:
    if not sys.platform.startswith("linux"):
        return "it does not exist, another program uses it, or the privacy settings forbid access."
    device = Path(f"/dev/video{number}")
    if not device.exists():
        numbers = sorted(path.name.removeprefix("video") for path in Path("/dev").glob("video*"))
        available = f"Available cameras: {', '.join(numbers)}." if numbers else "This machine has no camera."
        return f"{device} does not exist. {available}"
    if not os.access(device, os.R_OK | os.W_OK):
        return f"no permission to read {device}. Add the user to its group (often `video`) and log in again."
    return f"{device} delivers no image: another program uses it, or it is not a camera (try the next number)."


def _open_ffmpeg(name: str, settings: list[int]) -> Any:
    with quiet_opencv():
        return cv2.VideoCapture(name, cv2.CAP_FFMPEG, settings)


_lock = threading.Lock()
_quiet = {"depth": 0, "level_before": 0, "ffmpeg_silenced": 0}


@contextmanager
def quiet_opencv() -> Generator[None, None, None]:
    """Suppress the log of OpenCV inside the block; it would print URLs with their passwords.

    FFmpeg inside OpenCV prints thousands of lines for a damaged file. It is silent from the first call on unless the
    environment variable OPENCV_FFMPEG_LOGLEVEL is set.
    """
    logging = cv2.utils.logging
    with _lock:
        if not _quiet["depth"]:
            _quiet["level_before"] = logging.setLogLevel(logging.LOG_LEVEL_SILENT)
            _silence_ffmpeg()
        _quiet["depth"] += 1
    try:
        yield
    finally:
        with _lock:
            _quiet["depth"] -= 1
            if not _quiet["depth"]:
                logging.setLogLevel(_quiet["level_before"])


def _silence_ffmpeg() -> None:
    """Make OpenCV read the FFmpeg log level, which it does once per process; the environment is restored."""
    name = "OPENCV_FFMPEG_LOGLEVEL"
    if name in os.environ or _quiet["ffmpeg_silenced"]:
        return
    _quiet["ffmpeg_silenced"] = 1
    os.environ[name] = "-8"
    try:
        cv2.VideoCapture(os.devnull, cv2.CAP_FFMPEG).release()
    finally:
        del os.environ[name]


# -- Frames of video files -------------------------------------------------------------------------------------------


def read_frames(video: Video, index: int, stride: int, is_only: bool) -> Generator[ImageRef, None, None]:
    """Yield the frames of a video; each is decoded by the `next` that requests it.

    A frame that cannot be decoded is skipped, and the others keep their numbers; a warning at the end has the count.

    Args:
        video: the video.
        index: its index among the videos of the source.
        stride: yield every n-th frame; the others are not converted.
        is_only: whether the source consists of this video. Then a video that cannot be opened is an error; otherwise
            it yields one image whose `load` raises that error.

    Raises:
        NotFoundError, SourceError, DownloadError: with `is_only`, if it cannot be opened.
    """
    try:
        capture = open_file(video.locate())
    except (NotFoundError, SourceError, DownloadError) as error:
        if is_only:
            raise
        yield ImageRef(video.name, partial(_raise, error))
        return
    reader = _FrameReader(capture, video.name)
    with closing(reader), quiet_opencv():
        for number in reader.grab_all():
            if (number - 1) % stride:
                continue
            decoded, image = capture.retrieve()
            if not decoded:
                reader.lost += 1
                continue
            frame = Frame(number, reader.total, reader.fps, index)
            yield ImageRef(video.name, partial(LoadedImage, video.name, to_bgr(image), frame=frame))
    error = reader.check_end()
    if error is not None and not is_only:
        yield ImageRef(video.name, partial(_raise, error))
    elif error is not None:
        raise error


class _FrameReader:
    """Iterates over a video and counts its frames.

    Attributes:
        total: number of frames in the header, which may be wrong; None without one.
        fps: frames per second; 0 if unknown.
        lost: failed grabs and conversions between decoded frames.
        last: number of the last grabbed frame.
    """

    def __init__(self, capture: Any, name: str) -> None:
        self.capture = capture
        self.name = name
        count = capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.total = int(count) if 0 < count < 1e12 else None
        self.fps = valid_fps(capture.get(cv2.CAP_PROP_FPS))
        self.lost = 0
        self.last = 0

    def grab_all(self) -> Iterator[int]:
        """Grab frame by frame; yield the number of each, from 1."""
        failed = 0
        previous = 0.0
        while failed < _MAX_FAILED_GRABS:
            if not self.capture.grab():
                failed += 1
                continue
            now = float(self.capture.get(cv2.CAP_PROP_POS_MSEC))
            # A failed grab can skip no frame or many: the timestamp after it yields the number of frames passed.
            passed = round((now - previous) * self.fps / 1000) if failed and self.last else 1 + failed
            self.lost += failed
            self.last += max(1, passed)
            failed = 0
            previous = now
            yield self.last

    def check_end(self) -> SourceError | None:
        """Log missing frames; return an error if no frame could be decoded."""
        if not self.last:
            return SourceError(
                f"No frame of the video {self.name} can be decoded: it is damaged, or has only an audio track. "
                f"{_REPAIR_HINT}"
            )
        missing = (self.total or 0) - self.last
        if self.lost:
            LOGGER.warning(
                f"{self.name}: about {self.lost} damaged frames could not be decoded and are skipped; the others keep "
                "their numbers."
            )
        if missing > max(1, (self.total or 0) // 100):
            LOGGER.warning(
                f"{self.name} ends after {self.last} of {self.total} frames (according to its header): it is truncated "
                "or damaged."
            )
        return None

    def close(self) -> None:
        self.capture.release()


def valid_fps(fps: float) -> float:
    """Return the frames per second, or 0 for impossible values: some containers report their clock rate."""
    return float(fps) if 0 < fps <= 1000 else 0.0


def _raise(error: Exception) -> LoadedImage:
    raise error
