"""One annotated video on its way to disk."""

from __future__ import annotations

import errno
import math
import shutil
from contextlib import ExitStack, suppress
from pathlib import Path
from time import monotonic

import cv2
import numpy as np
import numpy.typing as npt

from yolopose.base.errors import OutputError
from yolopose.base.files import atomic_path, output_error
from yolopose.base.log import LOGGER
from yolopose.results import Frame

Image = npt.NDArray[np.uint8]

_FPS = 30.0
_SLOWEST, _FASTEST = 0.1, 1000.0
_LIVE = 5.0, 30.0  # frames a second of a live stream's video
# frames of a live stream that are held back to see how often they come
_HELD = 10
_PAUSE = 10.0  # seconds that an image is shown at most until the next one of a stream comes
# bytes left free on the disk beside a frame's own, so that a video can still be finished
_RESERVE = 1 << 20


class _Closed(Exception):
    """Leaves an `atomic_path` without a file."""


class VideoFile:
    """An annotated video, written beside its name and renamed by `close`.

    A video is written as `STEM.mp4`. A live stream, which nobody can predict again, is written as `STEM.mkv`, for what
    was written of that can be played even when the run was killed. Without these, `STEM.avi` (Motion JPEG) is written.

    Args:
        folder: where to.
        stem: name without suffix.
        stride: the run's `vid_stride`.
        verbose: whether to say where the frames are until the video is finished.

    Attributes:
        count: frames written.
    """

    def __init__(self, folder: Path, stem: str, stride: int = 1, verbose: bool = False) -> None:
        self._folder, self._stem, self._stride, self._verbose = folder, stem, stride, verbose
        self._held: list[tuple[Image, Frame, float]] = []
        self._stack = ExitStack()
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)
        self._resized = False
        self.count = 0

    def write(self, image: Image, frame: Frame) -> None:
        """Add a frame. One of another size than the first is fitted into that, which is said once.

        Raises:
            OutputError: the disk is full or read-only, or this OpenCV writes no video.
        """
        if self._writer is None:
            self._held.append((image, frame, monotonic() if frame.at is None else frame.at))
            if len(self._held) >= (_HELD if frame.live else 1):
                self._begin()
        elif frame.live:
            self._keep_time(self._writer, image, monotonic() if frame.at is None else frame.at)
        else:
            self._add(self._writer, image)

    def close(self) -> None:
        """Finish the video and puts it in its place.

        Raises:
            OutputError: it cannot be written; nothing of it is left.
        """
        if self._held:
            self._begin()
        if self._writer is not None:
            self._writer.release()
            self._writer = None
            with self._stack.pop_all():
                self._check()

    def _begin(self) -> None:
        """Open the file, now that the rate is known, and writes what was held back."""
        held, self._held = self._held, []
        image, frame, _ = held[0]
        self._size = image.shape[1], image.shape[0]
        self._rate = rate(held, self._stride)
        self._start = held[0][2]
        writer = self._writer = self._open(frame.live, self._rate)
        for image, frame, at in held:
            if frame.live:
                self._keep_time(writer, image, at)
            else:
                self._add(writer, image)

    def _keep_time(self, writer: cv2.VideoWriter, image: Image, at: float) -> None:
        """Add a live frame as often as keeps a second of the video a second: several times, once, or not at all."""
        behind = (at - self._start) * self._rate - self.count
        if behind > _PAUSE * self._rate:  # the stream was away: the video does not wait for it
            self._start += behind / self._rate - _PAUSE
            behind = _PAUSE * self._rate
        for _ in range(math.floor(behind + 0.5) + 1):
            self._add(writer, image)

    def _open(self, live: bool, fps: float) -> cv2.VideoWriter:
        for suffix, code in ((".mkv" if live else ".mp4", "mp4v"), (".avi", "MJPG")):
            target = self._folder / f"{self._stem}{suffix}"
            with suppress(_Closed), ExitStack() as stack:
                temporary = stack.enter_context(atomic_path(target))
                writer = cv2.VideoWriter(str(temporary), cv2.VideoWriter.fourcc(*code), fps, self._size)
                if not writer.isOpened():
                    raise _Closed
                self._stack, self._target, self._temporary = stack.pop_all(), target, temporary
                if self._verbose:
                    LOGGER.info(f"Writing {target}, {fps:g} frames a second; until it is finished it is {temporary}")
                return writer
        raise OutputError(
            f"Cannot write a video of {self._size[0]}x{self._size[1]} pixels to {self._folder}: this OpenCV can encode "
            "neither MPEG-4 nor Motion JPEG. Install `opencv-python-headless` from PyPI, or write the frames as "
            "images: save=False, save_frames=True."
        )

    def _add(self, writer: cv2.VideoWriter, image: Image) -> None:
        # the writer itself does not tell of a full disk
        if shutil.disk_usage(self._folder).free < image.nbytes + _RESERVE:
            raise output_error(self._target, OSError(errno.ENOSPC, "No space left on device"))
        if (image.shape[1], image.shape[0]) != self._size:
            if not self._resized:
                LOGGER.warning(
                    f"{self._target}: its first frame has {self._size[0]}x{self._size[1]} pixels, frame "
                    f"{self.count + 1} has {image.shape[1]}x{image.shape[0]}; all are fitted into the first size."
                )
            self._resized = True
            image = fitted(image, self._size)
        writer.write(image)
        self.count += 1

    def _check(self) -> None:
        """Open what was written: a quota or a fault of the disk shows only here."""
        video = cv2.VideoCapture(str(self._temporary))
        there = int(video.get(cv2.CAP_PROP_FRAME_COUNT)) if video.isOpened() else 0
        video.release()
        if abs(there - self.count) > max(2, self.count // 100):
            raise OutputError(
                f"Cannot write {self._target}: of {self.count} frames {max(there, 0)} reached the disk. See whether it "
                "is full or your quota is used up, and run it again. Files that were already there are unchanged."
            )


def rate(held: list[tuple[Image, Frame, float]], stride: int) -> float:
    """Return the frames a second that a video should play at.

    Args:
        held: its first images, each with its frame and the time when it came, seconds.
        stride: the run's `vid_stride`.
    """
    (_, first, began), (_, _, ended) = held[0], held[-1]
    if first.live:  # as they come; what a stream says of its rate is often wrong
        fps = (len(held) - 1) / (ended - began) if ended > began else _FPS
        return min(max(fps, _LIVE[0]), _LIVE[1])
    return min(max(first.fps / stride if first.fps > 0 else _FPS, _SLOWEST), _FASTEST)


def fitted(image: Image, size: tuple[int, int]) -> Image:
    """Scale an image to fit into (width, height), black around it."""
    width, height = size
    scale = min(width / image.shape[1], height / image.shape[0])
    inner = max(round(image.shape[1] * scale), 1), max(round(image.shape[0] * scale), 1)
    canvas = np.zeros((height, width, 3), np.uint8)
    left, top = (width - inner[0]) // 2, (height - inner[1]) // 2
    canvas[top : top + inner[1], left : left + inner[0]] = cv2.resize(image, inner, interpolation=cv2.INTER_AREA)
    return canvas
