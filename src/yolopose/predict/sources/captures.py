"""OpenCV's reader of videos, streams and cameras: opened without noise, with errors in words."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2

from yolopose.base.cpu import available_cpus
from yolopose.base.errors import NotFoundError, SourceError
from yolopose.predict.sources.parts import Patience

# More decoding threads hold more frames back: that costs memory, and for a stream delay.
_FILE_THREADS = min(4, available_cpus())
_STREAM_THREADS = min(2, available_cpus())

MEND = "Copy it again, or convert it: ffmpeg -i IN -c:v libx264 OUT.mp4"


class Refused(SourceError):
    """A feed that another attempt would not open: no such camera, no permission, a web page instead of a stream."""


def open_file(path: Path) -> Any:
    """Open a video file; it is turned as its rotation mark says.

    Raises:
        NotFoundError: there is none.
        SourceError: it is empty, may not be read, or no decoder understands it.
    """
    try:
        with path.open("rb") as file:
            empty = not file.read(1)
    except FileNotFoundError as error:
        raise NotFoundError(f"There is no video {path}. Check the path (current folder: {Path.cwd()}).") from error
    except OSError as error:
        raise SourceError(f"The video {path} cannot be read: {error.strerror or error}.") from error
    if empty:
        raise SourceError(f"The video {path} is empty (0 bytes). Copy it again or remove it.")
    capture = _ffmpeg(str(path.absolute()), [cv2.CAP_PROP_N_THREADS, _FILE_THREADS])
    if not capture.isOpened():
        raise SourceError(
            f"The video {path} cannot be opened: it is damaged, cut short (an .mp4 has its index at the end), no "
            f"video, or of a kind that OpenCV cannot decode here. {MEND}"
        )
    return capture


def open_stream(address: str, patience: Patience) -> Any:
    """Connect to a stream.

    Returns:
        The capture, which may not be open.
    """
    return _ffmpeg(
        address,
        [
            *(cv2.CAP_PROP_N_THREADS, _STREAM_THREADS),
            *(cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, int(1000 * patience.open)),
            *(cv2.CAP_PROP_READ_TIMEOUT_MSEC, int(1000 * patience.read)),
        ],
    )


def open_camera(number: int) -> Any:
    """Open a camera.

    Raises:
        Refused: there is none of this number, it may not be used, or another program uses it.
    """
    with quiet_opencv():
        capture = cv2.VideoCapture(number)
    if capture.isOpened():
        return capture
    capture.release()
    raise Refused(f"The camera {number} cannot be opened: {_why_no_camera(number)}")


def _why_no_camera(number: int) -> str:
    if not sys.platform.startswith("linux"):
        return (
            "there is none of this number, another program uses it, or this program may not (see the privacy settings)."
        )
    device = Path(f"/dev/video{number}")
    if not device.exists():
        there = sorted(path.name.removeprefix("video") for path in Path("/dev").glob("video*"))
        return f"{device} is not there. " + (
            f"There is: {', '.join(there)}." if there else "This machine shows no camera."
        )
    if not os.access(device, os.R_OK | os.W_OK):
        return f"{device} may not be read by this user. Add the user to its group (often `video`) and log in again."
    return f"{device} is there but gives no image: another program uses it, or it is no camera (try the next number)."


def _ffmpeg(address: str, settings: list[int]) -> Any:
    with quiet_opencv():
        return cv2.VideoCapture(address, cv2.CAP_FFMPEG, settings)


_lock = threading.Lock()
_quiet = {"depth": 0, "before": 0, "asked": 0}


@contextmanager
def quiet_opencv() -> Generator[None, None, None]:
    """Hold back OpenCV's own lines inside the block, which would print addresses with their passwords.

    FFmpeg inside OpenCV prints thousands of lines over one damaged file. It is silent from the first opening on,
    unless the environment variable OPENCV_FFMPEG_LOGLEVEL is set, and OpenCV asks for that only once.
    """
    logging = cv2.utils.logging
    with _lock:
        if not _quiet["depth"]:
            _quiet["before"] = logging.setLogLevel(logging.LOG_LEVEL_SILENT)
            _silence_ffmpeg()
        _quiet["depth"] += 1
    try:
        yield
    finally:
        with _lock:
            _quiet["depth"] -= 1
            if not _quiet["depth"]:
                logging.setLogLevel(_quiet["before"])


def _silence_ffmpeg() -> None:
    """Has FFmpeg read its level now; the caller's environment stays as it was."""
    name = "OPENCV_FFMPEG_LOGLEVEL"
    if name in os.environ or _quiet["asked"]:
        return
    _quiet["asked"] = 1
    os.environ[name] = "-8"
    try:
        cv2.VideoCapture(os.devnull, cv2.CAP_FFMPEG).release()
    finally:
        del os.environ[name]
