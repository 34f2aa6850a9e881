"""Track files of videos: MOTChallenge text, Parquet, CSV of DeepLabCut, and the other formats of `data.tracks`."""

from __future__ import annotations

from contextlib import ExitStack

import numpy as np

from yolopose.data.tracks import TRACK_FORMATS, TrackFrame, Tracks, TrackWriter, open_track_writer
from yolopose.data.tracks.tracks import NO_ID
from yolopose.predict.sinks.base import Sink, WriteContext, format_count
from yolopose.results import Results
from yolopose.results.arrays import to_numpy


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


def video_of(result: Results) -> Tracks:
    """Return tracks without instances that describe the video of a result: name, rate, size, classes, keypoints."""
    count = 0 if result.keypoints is None else result.keypoints.shape[1]
    return Tracks.build(
        frames=[],
        ids=[],
        boxes=[],
        keypoints=np.zeros((0, count, 3)),
        name=result.path,
        fps=0.0 if result.frame is None else result.frame.fps,
        size=result.orig_shape,
        class_names=result.names,
        schema=result.schema,
    )


def track_frame(result: Results, number: int) -> TrackFrame:
    """Return the instances of a result as a frame; those without a track have the id `NO_ID`.

    Args:
        result: the result.
        number: frame number from 1.
    """
    data = np.zeros((0, 6)) if result.boxes is None else to_numpy(result.boxes.data).astype(np.float64)
    points = np.zeros((len(data), 0, 3))
    if result.keypoints is not None:
        points = to_numpy(result.keypoints.data).astype(np.float64)
        if points.shape[2] == 2:
            points = np.concatenate((points, np.ones((*points.shape[:2], 1))), axis=2)
    ids = np.full(len(data), NO_ID, dtype=np.int64)
    if result.boxes is not None and result.boxes.is_track:
        ids = np.where(data[:, 4] > 0, data[:, 4], NO_ID).astype(np.int64)
    return TrackFrame(
        number=number,
        ids=ids,
        boxes=data[:, :4],
        scores=data[:, -2],
        classes=data[:, -1].astype(np.int64),
        keypoints=points,
        seconds=None if result.frame is None else result.frame.seconds,
    )
