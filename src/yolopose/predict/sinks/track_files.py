"""Track files of videos: MOTChallenge text, Parquet, CSV of DeepLabCut, and the other formats of `data.tracks`."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from yolopose.data.tracks import TRACK_FORMATS, TrackWriter, open_track_writer, read_tracks
from yolopose.predict.sinks.base import Sink, WriteContext, format_count
from yolopose.predict.sinks.tables import JSON_LINES_FILE
from yolopose.results import Results
from yolopose.track.recording import track_frame, video_of


class TrackFiles(Sink):
    """Writes `tracks/NAME.txt` (or another suffix) for each video; the files appear when the run ends.

    Images without a frame number are the frames of one video named after their order.

    Args:
        format: a key of `TRACK_FORMATS`.
        has_raw: whether keypoints are smoothed, and the measured ones are written, too, where the format has them.
    """

    def __init__(self, format: str, has_raw: bool = False) -> None:
        self._format = format
        self._has_raw = has_raw
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
            self._writers[stem] = open_track_writer(path, self._format, video=video_of(result), has_raw=self._has_raw)
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


class SmoothedTracks(Sink):
    """Writes `predictions-smooth.jsonl` of the tracks in `predictions.jsonl`, when the run ends.

    Args:
        enabled: False where the results are smoothed already.
    """

    def __init__(self, enabled: bool) -> None:
        self._enabled = enabled
        self._source: Path | None = None
        self._target: Path | None = None

    def accepts(self, result: Results) -> bool:
        """Accept all results, if enabled."""
        return self._enabled

    def write(self, context: WriteContext) -> None:
        """Note the folder; the tracks are written by `JsonLines`."""
        self._source = context.folder / JSON_LINES_FILE

    def close(self) -> None:
        """Smooth the tracks, if there are any."""
        source, self._source = self._source, None
        if source is None:
            return
        from yolopose.track.smoothing import smooth_file  # scipy is only needed here

        tracks = read_tracks(source)
        if any(len(video) and video.num_keypoints for video in tracks):
            self._target = smooth_file(source)

    @property
    def summary(self) -> str:
        """File, or nothing without tracks."""
        return self._target.name if self._target is not None else ""
