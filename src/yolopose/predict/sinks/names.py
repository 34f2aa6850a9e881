"""Names of the files of a run: called after their sources, and never twice the same."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from yolopose.results import Results

_FRAME = re.compile(r"(.+)_\d+")


class SourceNames:
    """Gives each source of a run a stem of its own, also on file systems that ignore case.

    When two sources share a name, the second one is `NAME_2`. Frames of a video `NAME` get files `NAME_12`, so a
    image of that name becomes `NAME_12_2`.
    """

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._numbers: dict[str, int] = {}
        self._videos: dict[tuple[int, str], str] = {}
        self._video_stems: set[str] = set()
        self._like_frames: set[str] = set()

    def of(self, result: Results) -> str:
        """The stem for a result: a new one for each image, the same for all frames of a video."""
        if result.frame is None:
            return self.free(source_stem(result.path))
        source = result.frame.video, result.path
        if source not in self._videos:
            self._videos[source] = self.free(source_stem(result.path), video=True)
        return self._videos[source]

    def free(self, stem: str, video: bool = False) -> str:
        """Take a stem that nothing else of the run has: the one given, or `STEM_2`, `STEM_3`, …."""
        free, number = stem, self._numbers.get(stem.casefold(), 1)
        while not self._is_free(free.casefold(), video):
            number += 1
            free = f"{stem}_{number}"
        self._numbers[stem.casefold()] = number
        self._taken.add(free.casefold())
        if video:
            self._video_stems.add(free.casefold())
        elif like := _FRAME.fullmatch(free.casefold()):
            self._like_frames.add(like[1])
        return free

    def _is_free(self, stem: str, video: bool) -> bool:
        if stem in self._taken:
            return False
        if video:
            return stem not in self._like_frames
        like = _FRAME.fullmatch(stem)
        return like is None or like[1] not in self._video_stems


def source_stem(path: str) -> str:
    """Return the name of a source without folder and suffix; of an address, what a file can be called after it."""
    if "://" not in path:
        return Path(path).stem or "image"
    parts = urlsplit(path)
    name = Path(unquote(parts.path)).stem or parts.hostname or parts.scheme
    return re.sub(r"[^\w.-]+", "_", name).strip("._") or "stream"
