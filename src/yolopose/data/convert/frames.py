"""Frames of a video as image files, for annotations that refer to frames by number."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import cv2

from yolopose.base.errors import DataError
from yolopose.data.convert.record import ImageRecord, IssueLog
from yolopose.data.convert.source_files import ForeignLocator, foreign_parts

VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".m4v", ".mpg", ".mpeg", ".wmv", ".webm")


def find_video(stem: str, folders: Sequence[Path]) -> Path | None:
    """Return the video of a name without suffix in one of some folders, or None."""
    for folder in folders:
        files = sorted(folder.iterdir()) if folder.is_dir() else []
        for file in files:
            if file.stem == stem and file.suffix.lower() in VIDEO_SUFFIXES and file.is_file():
                return file
    return None


class VideoFrames:
    """The frames of a video, decoded when they are needed.

    Frames are decoded one after the other, since seeking is not exact in many codecs: reading them in ascending order
    decodes the video once.

    Args:
        path: the video.

    Raises:
        DataError: it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._capture: Any = None
        self._position = 0
        self._open()

    def _open(self) -> None:
        if self._capture is not None:
            self._capture.release()
        self._capture = cv2.VideoCapture(str(self.path))
        self._position = 0
        if not self._capture.isOpened():
            raise DataError(f"The video {self.path} cannot be opened.")

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return int(self._capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(self._capture.get(cv2.CAP_PROP_FRAME_HEIGHT))

    def reader(self, index: int) -> Callable[[], bytes]:
        """Return a function that returns a frame as a PNG file."""
        return lambda: self.encode(index)

    def encode(self, index: int) -> bytes:
        """Return a frame as the content of a PNG file.

        Args:
            index: number of the frame, from 0.

        Raises:
            DataError: the video does not have the frame.
        """
        if index < self._position:
            self._open()
        while self._position < index and self._capture.grab():
            self._position += 1
        success, frame = self._capture.read() if self._position == index else (False, None)
        if not success or frame is None:
            raise DataError(f"The video {self.path} has no frame {index}; its annotations belong to another video.")
        self._position += 1
        return cv2.imencode(".png", frame)[1].tobytes()


def common_folder(names: Sequence[str]) -> tuple[str, ...]:
    """Return the parts of the folder that all of some foreign file names share."""
    folders = [foreign_parts(name)[:-1] for name in names]
    parts = itertools.takewhile(lambda level: len(set(level)) == 1, zip(*folders, strict=False))
    return tuple(level[0] for level in parts)


class FrameSource:
    """Where the images of numbered frames are: a sequence of image files, a video, or inside of the annotations.

    Args:
        names: names of the images of a sequence, or name of the video, as written.
        number: number of the source among those of the annotations.
        annotations: the file of the annotations.
        embedded: returns a function that reads the image of a frame, for images inside of the annotations.
        folder: folder that the names of images are relative to, see `common_folder`.

    Attributes:
        size: (width, height) of the frames, where the annotations state it.
    """

    def __init__(
        self,
        names: str | Sequence[str],
        number: int,
        annotations: Path,
        embedded: Callable[[int], Callable[[], bytes]] | None = None,
        folder: tuple[str, ...] = (),
    ) -> None:
        self.size: tuple[int, int] | None = None
        self.index = number
        self._annotations = annotations
        self._embedded = embedded
        self._files = [] if isinstance(names, str) else list(names)
        self._video = names if isinstance(names, str) else ""
        self._frames: VideoFrames | None = None
        self._is_searched = False
        self._names = ["/".join(foreign_parts(name)[len(folder) :]) for name in self._files]
        first = self._files[0] if self._files else self._video
        self._stem = PurePosixPath(first.replace("\\", "/")).stem

    def name(self, index: int) -> str:
        """Return the name of the image of a frame, unique among all sources.

        Raises:
            DataError: a sequence does not have the frame.
        """
        if not self._files or self._embedded:
            return f"{self.index}_{self._stem}/img{index:06d}.png"
        if not 0 <= index < len(self._files):
            raise DataError(
                f"{self._annotations}: frame {index} of video {self.index} is labeled, but it has {len(self._files)} "
                "images."
            )
        return self._names[index]

    def locate(self, image: ImageRecord, index: int, locator: ForeignLocator, issues: IssueLog) -> None:
        """Set where the image of a frame is, and its size.

        Args:
            image: the record of the image.
            index: number of the frame, from 0.
            locator: finds files.
            issues: log of files that were not found.
        """
        if self.size is not None:
            image.width, image.height = self.size
        if self._embedded is not None:
            image.encoded = self._embedded(index)
        elif self._files:
            image.path = locator.find(self._files[index], issues)
            return
        elif not self._is_searched:
            self._is_searched = True
            path = locator.find(self._video, issues)
            self._frames = None if path is None else VideoFrames(path)
        image.attributes["frame"] = index
        if self._frames is not None:
            image.encoded = self._frames.reader(index)
            image.width, image.height = self._frames.size
