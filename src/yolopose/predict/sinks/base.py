"""What the kinds of output share: the protocol of a sink, file names."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
import numpy.typing as npt

from yolopose.results import Results

_FRAME_STEM = re.compile(r"(.+)_\d+")


class WriteContext:
    """A result to be written.

    Args:
        result: the result.
        folder: the run folder.
        stem: file stem of its source (image, video or stream), unique in the run.
        style: arguments of `Results.plot`.
        video_ended: for a result of an interrupted run: whether its video had ended, so that its file is complete.
    """

    def __init__(
        self, result: Results, folder: Path, stem: str, style: dict[str, Any], video_ended: bool = False
    ) -> None:
        self.result = result
        self.folder = folder
        self.stem = stem
        self._style = style
        self.video_ended = video_ended

    @property
    def name(self) -> str:
        """The stem; for a frame with its number, `STEM_12`."""
        frame = self.result.frame
        return self.stem if frame is None else f"{self.stem}_{frame.number}"

    @cached_property
    def annotated(self) -> npt.NDArray[np.uint8]:
        """(H, W, 3) BGR image with the detections, drawn once for all sinks."""
        return self.result.plot(**self._style)


class Sink(ABC):
    """A kind of output."""

    def accepts(self, result: Results) -> bool:
        """Return whether the sink writes this result; by default all images that could be read."""
        return result.error is None

    @abstractmethod
    def write(self, context: WriteContext) -> None:
        """Write one result.

        Raises:
            OutputError: it cannot be written; no incomplete file is left under a final name.
        """

    def replay(self, context: WriteContext) -> None:
        """Process a result that the interrupted run has written before, to continue its files; by default write it.

        Raises:
            OutputError: as from `write`.
        """
        self.write(context)

    def close(self) -> None:  # noqa: B027  # most files are complete after `write`
        """Finish open files; may be called again.

        Raises:
            OutputError: a file cannot be written.
        """

    @property
    @abstractmethod
    def summary(self) -> str:
        """What was written, `"12 images"`; empty for nothing."""


def format_count(number: int, noun: str) -> str:
    """Return `"1 image"`, `"12 images"`, or an empty text for 0."""
    return f"{number} {noun}{'' if number == 1 else 's'}" if number else ""


class SourceNames:
    """Assigns each source of a run a unique file stem, also for case-insensitive file systems.

    The second source of the same name is `NAME_2`. Frames of a video `NAME` are written to `NAME_12`, so an image with
    that name becomes `NAME_12_2`.
    """

    def __init__(self) -> None:
        self._used: set[str] = set()
        self._numbers: dict[str, int] = {}
        self._videos: dict[tuple[int, str], str] = {}
        self._video_stems: set[str] = set()
        self._frame_like: set[str] = set()  # "a" for an image stem "a_12"

    def stem_for(self, result: Results) -> str:
        """Return the stem of a result: a new one for each image, the same one for all frames of a video."""
        if result.frame is None:
            return self.reserve(source_stem(result.path))
        source = result.frame.video, result.path
        if source not in self._videos:
            self._videos[source] = self.reserve(source_stem(result.path), video=True)
        return self._videos[source]

    def reserve(self, stem: str, video: bool = False) -> str:
        """Reserve an unused stem: `stem` itself, or `STEM_2`, `STEM_3`, …."""
        unique = stem
        number = self._numbers.get(stem.casefold(), 1)
        while not self._is_unused(unique.casefold(), video):
            number += 1
            unique = f"{stem}_{number}"
        self._numbers[stem.casefold()] = number
        self._used.add(unique.casefold())
        if video:
            self._video_stems.add(unique.casefold())
        elif match := _FRAME_STEM.fullmatch(unique.casefold()):
            self._frame_like.add(match[1])
        return unique

    def _is_unused(self, stem: str, video: bool) -> bool:
        if stem in self._used:
            return False
        if video:
            return stem not in self._frame_like
        match = _FRAME_STEM.fullmatch(stem)
        return match is None or match[1] not in self._video_stems


def source_stem(path: str) -> str:
    """Return the file name of a source without folder and suffix; for a URL, without unsafe characters."""
    if "://" not in path:
        return Path(path).stem or "image"
    parsed = urlsplit(path)
    name = Path(unquote(parsed.path)).stem or parsed.hostname or parsed.scheme
    return re.sub(r"[^\w.-]+", "_", name).strip("._") or "stream"
