"""Annotated videos (`save`) of videos and live streams."""

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
from yolopose.base.log import LOGGER, warn_once
from yolopose.predict.sinks.base import Sink, SourceNames, WriteContext, format_count
from yolopose.results import Frame, Results

Image = npt.NDArray[np.uint8]

_MAX_OPEN_VIDEOS = 32

_DEFAULT_FPS = 30.0
_MIN_FPS, _MAX_FPS = 0.1, 1000.0
_MIN_LIVE_FPS, _MAX_LIVE_FPS = 5.0, 30.0
_LIVE_PROBE_FRAMES = 10  # frames of a live stream that are buffered to measure its rate
_MAX_STILL_SECONDS = 10.0  # how long the last frame of an interrupted stream is repeated
# Free disk space required in addition to the frame, so that the index of the video can still be written.
_RESERVED_BYTES = 1 << 20


class AnnotatedVideos(Sink):
    """Writes `NAME.mp4` for each video, `NAME.mkv` for each live stream.

    A video is finished when the next source begins. Streams are written in parallel; with more than 32, the one that
    was idle longest is finished and continues in another file.

    Args:
        names: file stems of the run.
        stride: `vid_stride` of the run.
        verbose: whether to log the temporary file of a video.
    """

    def __init__(self, names: SourceNames, stride: int, verbose: bool) -> None:
        self._names = names
        self._stride = stride
        self._verbose = verbose
        # (video, whether it is live) by stem, the most recently written last
        self._open: dict[str, tuple[VideoFile, bool]] = {}
        self._started: set[str] = set()
        self._num_videos = 0
        self._num_frames = 0

    def accepts(self, result: Results) -> bool:
        """Accept frames, and images while videos are open, because they end the videos."""
        return result.error is None and (result.frame is not None or bool(self._open))

    def write(self, context: WriteContext) -> None:
        """Add one frame to its video."""
        frame = context.result.frame
        stem = context.stem
        self._finish([other for other, (_, live) in self._open.items() if other != stem and not live])
        if frame is None:
            return
        video, _ = self._open.pop(stem, None) or (self._start(context), False)
        self._open[stem] = video, frame.live
        video.write(context.annotated, frame)
        if len(self._open) > _MAX_OPEN_VIDEOS:
            self._finish([next(iter(self._open))])

    def replay(self, context: WriteContext) -> None:
        """Add a frame again, unless its video is complete: a video cannot be continued after an interruption."""
        frame = context.result.frame
        suffixes = (".mp4", ".avi")
        if frame is None or not context.video_ended:
            self.write(context)
        elif any((context.folder / f"{context.stem}{suffix}").is_file() for suffix in suffixes):
            self._num_videos += context.stem not in self._started
            self._started.add(context.stem)
            self._num_frames += 1
        else:
            self.write(context)

    def _start(self, context: WriteContext) -> VideoFile:
        stem = context.stem
        if stem in self._started:
            stem = self._names.reserve(stem, video=True)
            warn_once("Frames arrived after their video was finished; they are written to a video with another name.")
        self._started.add(stem)
        return VideoFile(context.folder, stem, self._stride, self._verbose)

    def _finish(self, stems: list[str]) -> None:
        with ExitStack() as stack:  # closes all videos, even if one of them fails
            for stem in stems:
                stack.callback(self._finish_video, self._open.pop(stem)[0])

    def _finish_video(self, video: VideoFile) -> None:
        video.close()
        self._num_videos += video.count > 0
        self._num_frames += video.count

    def close(self) -> None:
        """Finish all videos."""
        self._finish(list(self._open))

    @property
    def summary(self) -> str:
        """Number of videos and frames."""
        videos = format_count(self._num_videos, "video")
        return f"{videos} ({format_count(self._num_frames, 'frame')})" if videos else ""


class _CannotEncodeError(Exception):
    """Leaves an `atomic_path` without creating the file."""


class VideoFile:
    """An annotated video, written to a temporary file and renamed by `close`.

    A video is written as `STEM.mp4`. A live stream cannot be predicted again, so it is written as `STEM.mkv`, whose
    temporary file can be played even after the process was killed. If neither can be encoded, `STEM.avi` (Motion JPEG)
    is written.

    Args:
        folder: folder of the file.
        stem: file name without suffix.
        stride: `vid_stride` of the run.
        verbose: whether to log the temporary file.

    Attributes:
        count: number of written frames.
    """

    def __init__(self, folder: Path, stem: str, stride: int = 1, verbose: bool = False) -> None:
        self._folder = folder
        self._stem = stem
        self._stride = stride
        self._verbose = verbose
        self._buffer: list[tuple[Image, Frame, float]] = []
        self._stack = ExitStack()
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)
        self._resized = False
        self.count = 0

    def write(self, image: Image, frame: Frame) -> None:
        """Add a frame; one of another size than the first is fitted into that size, with a warning.

        Raises:
            OutputError: the disk is full or read-only, or this OpenCV cannot encode video.
        """
        time = monotonic() if frame.at is None else frame.at
        if self._writer is None:
            self._buffer.append((image, frame, time))
            if len(self._buffer) >= (_LIVE_PROBE_FRAMES if frame.live else 1):
                self._start()
        elif frame.live:
            self._add_live(self._writer, image, time)
        else:
            self._add(self._writer, image)

    def close(self) -> None:
        """Finish the video and rename it to its final path.

        Raises:
            OutputError: it cannot be written; the file is removed.
        """
        if self._buffer:
            self._start()
        if self._writer is not None:
            self._writer.release()
            self._writer = None
            with self._stack.pop_all():
                self._verify()

    def _start(self) -> None:
        """Open the file, now that the frame rate is known, and write the buffered frames."""
        buffer, self._buffer = self._buffer, []
        image, frame, self._start_time = buffer[0]
        self._size = image.shape[1], image.shape[0]
        self._fps = playback_fps(buffer, self._stride)
        writer = self._writer = self._open(frame.live, self._fps)
        for image, frame, time in buffer:
            if frame.live:
                self._add_live(writer, image, time)
            else:
                self._add(writer, image)

    def _add_live(self, writer: cv2.VideoWriter, image: Image, time: float) -> None:
        """Repeat or skip a frame so that the video runs in real time, although frames arrive irregularly."""
        behind = (time - self._start_time) * self._fps - self.count
        if behind > _MAX_STILL_SECONDS * self._fps:  # the stream was interrupted: cut the gap
            self._start_time += behind / self._fps - _MAX_STILL_SECONDS
            behind = _MAX_STILL_SECONDS * self._fps
        for _ in range(math.floor(behind + 0.5) + 1):
            self._add(writer, image)

    def _open(self, live: bool, fps: float) -> cv2.VideoWriter:
        for suffix, codec in ((".mkv" if live else ".mp4", "mp4v"), (".avi", "MJPG")):
            target = self._folder / f"{self._stem}{suffix}"
            with suppress(_CannotEncodeError), ExitStack() as stack:
                temporary = stack.enter_context(atomic_path(target))
                writer = cv2.VideoWriter(str(temporary), cv2.VideoWriter.fourcc(*codec), fps, self._size)
                if not writer.isOpened():
                    raise _CannotEncodeError
                self._stack = stack.pop_all()
                self._target = target
                self._temporary = temporary
                if self._verbose:
                    LOGGER.info(f"Writing {target}, {fps:g} frames per second; its temporary file is {temporary}")
                return writer
        raise OutputError(
            f"Cannot write a video of {self._size[0]}x{self._size[1]} pixels to {self._folder}: this OpenCV can encode "
            "neither MPEG-4 nor Motion JPEG. Install one of the OpenCV packages of PyPI, or write the frames as "
            "images: save=False, save_frames=True."
        )

    def _add(self, writer: cv2.VideoWriter, image: Image) -> None:
        # cv2.VideoWriter does not report a full disk.
        if shutil.disk_usage(self._folder).free < image.nbytes + _RESERVED_BYTES:
            raise output_error(self._target, OSError(errno.ENOSPC, "No space left on device"))
        if (image.shape[1], image.shape[0]) != self._size:
            if not self._resized:
                LOGGER.warning(
                    f"{self._target}: the first frame has {self._size[0]}x{self._size[1]} pixels, frame "
                    f"{self.count + 1} has {image.shape[1]}x{image.shape[0]}; all are fitted into the first size."
                )
            self._resized = True
            image = fit_frame(image, self._size)
        writer.write(image)
        self.count += 1

    def _verify(self) -> None:
        """Read the number of frames back: cv2.VideoWriter reports neither a quota nor a disk failure."""
        video = cv2.VideoCapture(str(self._temporary))
        readable = int(video.get(cv2.CAP_PROP_FRAME_COUNT)) if video.isOpened() else 0
        video.release()
        if abs(readable - self.count) > max(2, self.count // 100):
            raise OutputError(
                f"Cannot write {self._target}: only {max(readable, 0)} of {self.count} frames are on the disk. Check "
                "free space and quota, and run it again. Existing files are unchanged."
            )


def playback_fps(buffer: list[tuple[Image, Frame, float]], stride: int) -> float:
    """Return the frame rate of a video.

    Args:
        buffer: its first images, with frame and arrival time in seconds.
        stride: `vid_stride` of the run.
    """
    _, first, start = buffer[0]
    end = buffer[-1][2]
    if first.live:  # measured, because the rate that a stream announces is often wrong
        fps = (len(buffer) - 1) / (end - start) if end > start else _DEFAULT_FPS
        return min(max(fps, _MIN_LIVE_FPS), _MAX_LIVE_FPS)
    return min(max(first.fps / stride if first.fps > 0 else _DEFAULT_FPS, _MIN_FPS), _MAX_FPS)


def fit_frame(image: Image, size: tuple[int, int]) -> Image:
    """Scale an image to fit into (width, height) and pad it with black."""
    width, height = size
    scale = min(width / image.shape[1], height / image.shape[0])
    inner_width = max(round(image.shape[1] * scale), 1)
    inner_height = max(round(image.shape[0] * scale), 1)
    left = (width - inner_width) // 2
    top = (height - inner_height) // 2
    canvas = np.zeros((height, width, 3), np.uint8)
    resized = cv2.resize(image, (inner_width, inner_height), interpolation=cv2.INTER_AREA)
    canvas[top : top + inner_height, left : left + inner_width] = resized
    return canvas
