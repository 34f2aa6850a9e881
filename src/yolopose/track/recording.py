"""Results as tracks: `collect_tracks`, and the frames that track files are written from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from yolopose.data.tracks import TrackFrame, Tracks
from yolopose.data.tracks.tracks import NO_ID, Floats
from yolopose.results import Results
from yolopose.results.arrays import to_numpy
from yolopose.track.frames import keypoint_rows


def collect_tracks(results: Iterable[Results]) -> list[Tracks]:
    """Collect the instances of results, for evaluation, smoothing and track files.

    Args:
        results: of `model.track` or `model.predict`, of one or several videos. Images without a frame number are the
            frames of one video. Results of images that could not be read are frames without instances.

    Returns:
        The tracks of each video, in the order in which they appear.

    Examples:
        >>> (tracks,) = collect_tracks(model.track("walk.mp4", stream=True))
    """
    videos: dict[tuple[int, str], _Recording] = {}
    num_images = 0
    for result in results:
        if result.frame is None:
            num_images += 1
            key, number = (-1, str(Path(result.path).parent)), num_images
        else:
            key, number = (result.frame.video, result.path), result.frame.number
        if key not in videos:
            videos[key] = _Recording(video_of(result, key[1]))
        videos[key].frames.append(track_frame(result, number))
    return [recording.build() for recording in videos.values()]


@dataclass(slots=True)
class _Recording:
    """Frames of one video."""

    video: Tracks
    frames: list[TrackFrame] = field(default_factory=list[TrackFrame])

    def build(self) -> Tracks:
        filled = [frame for frame in self.frames if len(frame.ids)] or self.frames[:1]
        return Tracks.build(
            frames=np.concatenate([np.full(len(frame.ids), frame.number) for frame in filled]),
            ids=np.concatenate([frame.ids for frame in filled]),
            boxes=np.concatenate([frame.boxes for frame in filled]),
            scores=np.concatenate([frame.scores for frame in filled]),
            classes=np.concatenate([frame.classes for frame in filled]),
            keypoints=np.concatenate([frame.keypoints for frame in filled]),
            raw_keypoints=self._raw_keypoints(filled),
            frame_numbers=[frame.number for frame in self.frames],
            name=self.video.name,
            fps=self.video.fps,
            size=self.video.size,
            class_names=self.video.class_names,
            schema=self.video.schema,
        )

    @staticmethod
    def _raw_keypoints(frames: list[TrackFrame]) -> Floats | None:
        """Return the measured points of all frames; None if no points are smoothed."""
        if all(frame.raw_keypoints is None for frame in frames):
            return None
        points = [frame.keypoints if frame.raw_keypoints is None else frame.raw_keypoints for frame in frames]
        return np.concatenate(points)


def video_of(result: Results, name: str | None = None) -> Tracks:
    """Return tracks without instances that describe the video of a result: name, rate, size, classes, keypoints.

    Args:
        result: a frame.
        name: name of the video; the path of the result by default.
    """
    count = result.keypoints.shape[1]
    return Tracks.build(
        frames=[],
        ids=[],
        boxes=[],
        keypoints=np.zeros((0, count, 3)),
        name=result.path if name is None else name,
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
    data = to_numpy(result.boxes.data).astype(np.float64)
    points = keypoint_rows(result.keypoints)
    ids = np.full(len(data), NO_ID, dtype=np.int64)
    if result.boxes.is_track:
        ids = np.where(data[:, 4] > 0, data[:, 4], NO_ID).astype(np.int64)
    return TrackFrame(
        number=number,
        ids=ids,
        boxes=data[:, :4],
        scores=data[:, -2],
        classes=data[:, -1].astype(np.int64),
        keypoints=points,
        raw_keypoints=None if result.raw_keypoints is None else keypoint_rows(result.raw_keypoints),
        seconds=None if result.frame is None else result.frame.seconds,
    )
