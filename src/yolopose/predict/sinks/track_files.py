"""Track files of videos: MOTChallenge text, Parquet, CSV of DeepLabCut, and the other formats of `data.tracks`."""

from __future__ import annotations

from contextlib import ExitStack

from yolopose.data.tracks import TRACK_FORMATS, TrackWriter, open_track_writer
from yolopose.predict.sinks.base import Sink, WriteContext, format_count
from yolopose.track.recording import track_frame, video_of


class TrackFiles(Sink):
    """Writes `tracks/NAME.txt` (or another suffix) for each video; the files appear when the run ends.

    Images without a frame number are the frames of one video named after their order.

    Args:
        format: a key of `TRACK_FORMATS`.
    """

    def __init__(self, format: str) -> None:
        self._format = format
        self._writers: dict[str, TrackWriter] = {}
        self._num_images = 0
        self._num_files = 0

    def write(self, context: WriteContext) -> None:
        """Add the instances of one frame."""
        result = context.result
        if result.frame is None:
            self._num_images += 1
            stem, number = "images", self._num_images
        else:
            stem, number = context.stem, result.frame.number
        if stem not in self._writers:
            path = context.folder / "tracks" / f"{stem}{TRACK_FORMATS[self._format]}"
            self._writers[stem] = open_track_writer(path, self._format, video=video_of(result))
            self._num_files += 1
        self._writers[stem].write(track_frame(result, number))

    def close(self) -> None:
        """Finish all files, also if one of them fails."""
        writers, self._writers = self._writers, {}
        with ExitStack() as stack:
            for writer in writers.values():
                stack.callback(writer.close)

    @property
    def summary(self) -> str:
        """Number of files."""
        return format_count(self._num_files, "track file")
