"""`save` for videos and streams: one annotated video for each."""

from __future__ import annotations

from contextlib import ExitStack

from yolopose.base.log import warn_once
from yolopose.predict.sinks.names import SourceNames
from yolopose.predict.sinks.sink import Place, Sink, counted
from yolopose.predict.sinks.video import VideoFile
from yolopose.results import Results

_OPEN = 32


class Videos(Sink):
    """Writes `NAME.mp4` for each video, `NAME.mkv` for each live stream.

    A video is finished when another source follows it. Streams come side by side; when there are more than 32, the one
    that was quiet longest is finished, and goes on in a file of another name.

    Args:
        names: names of the run's files.
        stride: the run's `vid_stride`.
        verbose: whether to say where a video is until it is finished.
    """

    def __init__(self, names: SourceNames, stride: int, verbose: bool) -> None:
        self._names, self._stride, self._verbose = names, stride, verbose
        self._open: dict[str, tuple[VideoFile, bool]] = {}  # by stem, the last written one last; and whether it is live
        self._begun: set[str] = set()
        self._done = self._frames = 0

    def takes(self, result: Results) -> bool:
        """Frames; and images while videos are open, which they end."""
        return result.error is None and (result.frame is not None or bool(self._open))

    def write(self, place: Place) -> None:
        """Add one frame to its video."""
        frame, stem = place.result.frame, place.stem
        self._finish([other for other, (_, live) in self._open.items() if other != stem and not live])
        if frame is None:
            return
        video, _ = self._open.pop(stem, None) or (self._start(place), False)
        self._open[stem] = video, frame.live
        video.write(place.drawn, frame)
        if len(self._open) > _OPEN:
            self._finish([next(iter(self._open))])

    def _start(self, place: Place) -> VideoFile:
        stem = place.stem
        if stem in self._begun:
            stem = self._names.free(stem, video=True)
            warn_once("Frames of a video came after it was finished; they go into a video of another name.")
        self._begun.add(stem)
        return VideoFile(place.folder, stem, self._stride, self._verbose)

    def _finish(self, stems: list[str]) -> None:
        with ExitStack() as closing:  # all are closed, whatever happens to one
            for stem in stems:
                closing.callback(self._finish_one, self._open.pop(stem)[0])

    def _finish_one(self, video: VideoFile) -> None:
        video.close()
        self._done += video.count > 0
        self._frames += video.count

    def close(self) -> None:
        """Finish all videos."""
        self._finish(list(self._open))

    @property
    def words(self) -> str:
        """How many, with how many frames."""
        videos = counted(self._done, "video")
        return f"{videos} ({counted(self._frames, 'frame')})" if videos else ""
