"""Smoothing of recorded tracks without lag, with gaps filled: `smooth_tracks` and `smooth_file`.

`RTS` is a Kalman smoother (Rauch, Tung and Striebel, 1965, doi:10.2514/3.3166) that adjusts itself to the noise of each
keypoint, `SavitzkyGolay` a moving polynomial. The live filter is in `one_euro.py`.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from yolopose.base.errors import DependencyError, UsageError
from yolopose.data.tracks import Tracks, read_tracks, write_tracks
from yolopose.data.tracks.tracks import NO_ID, Floats, Integers
from yolopose.track.kalman import estimate_noise, rts_smooth
from yolopose.track.one_euro import LiveSmoother, OneEuro

Mask = npt.NDArray[np.bool_]

_MIN_MEASURED = 3  # points with fewer measurements in a segment are not smoothed
_JUMP_FRAMES = 3
_MIN_JUMP = 0.16  # box sizes; exchanges of ids were measured as 0.18 to 0.7, other movements as up to 0.13
_JUMP_SPEEDS = 3.5  # least jump in median steps, for low frame rates
_TUNING_FRAMES = 3000  # frames of the longest segments from which the noise is estimated


@dataclass(frozen=True, slots=True, kw_only=True)
class RTS:
    """Kalman smoother: constant velocity, with noise and acceleration estimated from the tracks themselves.

    Attributes:
        max_gap: largest number of missing frames that are filled, 0 for none.
        min_conf: points with a lower confidence are treated as missing.
        strength: above 1 smooths more than the estimate suggests, below 1 less.

    Raises:
        UsageError: a value is out of range.

    Examples:
        >>> import numpy as np
        >>> from yolopose.data.tracks import Tracks
        >>> from yolopose.track.smoothing import RTS, smooth_tracks
        >>> rng = np.random.default_rng(0)
        >>> frames = np.arange(1, 61)
        >>> points = np.concatenate((50 + rng.normal(0, 1, (60, 3, 2)), np.ones((60, 3, 1))), axis=2)
        >>> boxes = np.tile([0.0, 0.0, 100.0, 100.0], (60, 1))
        >>> tracks = Tracks.build(frames=frames, ids=np.ones(60), boxes=boxes, keypoints=points, fps=30.0)
        >>> smooth = smooth_tracks(tracks, RTS(strength=2.0))
        >>> bool(smooth.keypoints[..., :2].std() < 0.7 * points[..., :2].std())
        True
    """

    max_gap: int = 5
    min_conf: float = 0.3
    strength: float = 1.0

    def __post_init__(self) -> None:
        _check_common(self.max_gap, self.min_conf)
        if not 0 < self.strength <= 1000:
            raise UsageError(f"strength={self.strength!r} is not possible: it is above 0 and up to 1000.")


@dataclass(frozen=True, slots=True, kw_only=True)
class SavitzkyGolay:
    """Moving polynomial (needs scipy).

    Attributes:
        window: length of the window in frames, odd.
        order: degree of the polynomial, below the window.
        max_gap: largest number of missing frames that are filled, 0 for none.
        min_conf: points with a lower confidence are treated as missing.

    Raises:
        UsageError: a value is out of range.

    Examples:
        >>> from yolopose.track.smoothing import SavitzkyGolay
        >>> SavitzkyGolay(window=9).order
        2
    """

    window: int = 7
    order: int = 2
    max_gap: int = 5
    min_conf: float = 0.3

    def __post_init__(self) -> None:
        _check_common(self.max_gap, self.min_conf)
        if self.window < 3 or self.window % 2 == 0 or not 0 <= self.order < self.window:
            raise UsageError(
                f"window={self.window}, order={self.order} is not possible: the window is an odd number from 3, and "
                "the order is below it."
            )


SmoothingMethod = RTS | SavitzkyGolay | OneEuro


def _check_common(max_gap: int, min_conf: float) -> None:
    if max_gap < 0:
        raise UsageError(f"max_gap={max_gap!r} is not possible: it is a number of frames from 0.")
    if not 0 <= min_conf <= 1:
        raise UsageError(f"min_conf={min_conf!r} is not possible: it is between 0 and 1.")


def smooth_tracks(tracks: Tracks, method: SmoothingMethod | None = None) -> Tracks:
    """Smooth the points of each track; values of one track never influence another.

    Nor do values before and after a jump of the whole pose, where two ids were probably exchanged.

    Boxes and confidences stay as they are. Tracks that are already smoothed are smoothed anew from their measured
    points.

    Args:
        tracks: the tracks; instances without an id are unchanged.
        method: `RTS()` by default; `OneEuro()` applies the live filter.

    Returns:
        The tracks with smoothed `keypoints`, measured `raw_keypoints`, and rows with `interpolated` in gaps.

    Raises:
        DependencyError: `SavitzkyGolay` without scipy.
    """
    method = RTS() if method is None else method
    tracks = _restore_raw(tracks)
    if tracks.num_keypoints == 0 or len(tracks) == 0:
        return tracks
    if isinstance(method, OneEuro):
        return _smooth_live(tracks, method)
    segments = list(_segments(tracks, method.max_gap, method.min_conf))
    if isinstance(method, RTS):
        longest = sorted(segments, key=lambda segment: -len(segment.times))
        noise, acceleration = estimate_noise(
            [(segment.points, segment.measured, segment.sizes) for segment in longest], _TUNING_FRAMES
        )
        smoothed = [
            rts_smooth(segment.points, segment.measured, segment.sizes, noise, acceleration / method.strength)
            for segment in segments
        ]
    else:
        smoothed = [_moving_polynomial(segment.points, segment.measured, method) for segment in segments]
    return _assemble(tracks, segments, smoothed, method.max_gap)


def smooth_file(
    source: str | Path,
    output: str | Path | None = None,
    method: SmoothingMethod | None = None,
    format: str | None = None,
) -> Path:
    """Smooth the tracks of all videos of a file.

    Args:
        source: a track file of any format.
        output: the new file; its suffix decides the format. `SOURCE-smooth` with the same suffix by default.
        method: see `smooth_tracks`.
        format: format of the new file, see `track_format`.

    Returns:
        The new file.

    Raises:
        UsageError: the output is the source, or its format is unknown.
        NotFoundError: the source does not exist.
        DataError: the source is not a track file, or has no keypoints.
        OutputError: the new file cannot be written.
        DependencyError: a library is missing.
    """
    source = Path(source)
    target = source.with_name(f"{source.stem}-smooth{source.suffix}") if output is None else Path(output)
    if target.exists() and source.exists() and target.samefile(source):
        raise UsageError(f"output={target} is the source. Choose another name; the measured points are kept with it.")
    videos = read_tracks(source)
    if not any(video.num_keypoints for video in videos):
        raise UsageError(f"{source} has no keypoints, and smoothing changes keypoints only.")
    return write_tracks(target, [smooth_tracks(video, method) for video in videos], format)


def _restore_raw(tracks: Tracks) -> Tracks:
    """Return the tracks as measured."""
    if tracks.raw_keypoints is None:
        return tracks
    measured = tracks.select(~tracks.interpolated)
    raw = measured.raw_keypoints
    points = measured.keypoints if raw is None else np.where(np.isfinite(raw), raw, 0)
    return replace(measured, keypoints=points, raw_keypoints=None)


@dataclass(frozen=True, slots=True, eq=False)
class _Segment:
    """A part of a track without a gap that is too long.

    Attributes:
        track_id: its id.
        times: (L,) consecutive indices of frames.
        rows: (L,) row of the tracks at each of them; -1 where the instance is missing.
        points: (L, K, 2), 0 where the instance is missing.
        measured: (L, K) whether the point is measured with enough confidence.
        sizes: (L,) √(w·h) of the box, interpolated where it is missing.
    """

    track_id: int
    times: Integers
    rows: Integers
    points: Floats
    measured: Mask
    sizes: Floats


def _segments(tracks: Tracks, max_gap: int, min_conf: float) -> Iterator[_Segment]:
    index = np.searchsorted(tracks.frame_numbers, tracks.frames)
    order = np.lexsort((index, tracks.ids))
    order = order[tracks.ids[order] != NO_ID]
    ids, times = tracks.ids[order], index[order]
    breaks = np.flatnonzero((np.diff(ids) != 0) | (np.diff(times) > max_gap + 1)) + 1
    sides = np.maximum(tracks.boxes[:, 2:] - tracks.boxes[:, :2], 0)
    sizes = np.maximum(np.sqrt(sides.prod(axis=1)), 1.0)
    parts = [part for part in np.split(order, breaks) if len(part)]
    for rows in [rows for part in parts for rows in np.split(part, _jumps(tracks, part, index[part], sizes, min_conf))]:
        seen = index[rows]
        length = int(seen[-1] - seen[0]) + 1
        positions = seen - seen[0]
        points = np.zeros((length, tracks.num_keypoints, 2))
        points[positions] = tracks.keypoints[rows, :, :2]
        measured = np.zeros((length, tracks.num_keypoints), dtype=bool)
        confidence = tracks.keypoints[rows, :, 2]
        measured[positions] = (confidence >= min_conf) & (confidence > 0)
        all_rows = np.full(length, -1)
        all_rows[positions] = rows
        filled = np.interp(np.arange(length), positions, sizes[rows])
        yield _Segment(int(tracks.ids[rows[0]]), np.arange(length) + seen[0], all_rows, points, measured, filled)


def _jumps(tracks: Tracks, rows: Integers, times: Integers, sizes: Floats, min_conf: float) -> Integers:
    """Return the positions in `rows` where a track jumps for good, as after an exchange of ids.

    The common motion of an instance is the median step of its points. A jump is a difference between the medians of
    its positions in three frames before and after, beyond the usual step, that is large for the instance and for its
    speed. A pose that is off in a single frame is not a jump.
    """
    if len(rows) < 2 * _JUMP_FRAMES:
        return np.zeros(0, np.int64)
    points = tracks.keypoints[rows]
    usable = points[..., 2] >= min_conf
    both = usable[1:] & usable[:-1]
    intervals = np.diff(times)[:, None].astype(np.float64)
    centers = (tracks.boxes[rows, :2] + tracks.boxes[rows, 2:]) / 2
    steps = np.diff(centers, axis=0) / intervals
    for index in np.flatnonzero(both.any(axis=1)).tolist():
        change = points[index + 1, both[index], :2] - points[index, both[index], :2]
        steps[index] = np.median(change, axis=0) / intervals[index]
    path = np.concatenate((np.zeros((1, 2)), np.cumsum(steps * intervals, axis=0)))
    starts: list[int] = []
    last = -_JUMP_FRAMES
    for start in range(_JUMP_FRAMES, len(rows) - _JUMP_FRAMES + 1):
        near = steps[max(start - 9, 0) : start + 9]
        usual = np.median(near, axis=0)
        limit = max(_MIN_JUMP * sizes[rows[start]], _JUMP_SPEEDS * float(np.median(np.linalg.norm(near, axis=1))))
        straight = path - usual * (times - times[start])[:, None]
        before = np.median(straight[start - _JUMP_FRAMES : start], axis=0)
        after = np.median(straight[start : start + _JUMP_FRAMES], axis=0)
        if np.linalg.norm(after - before) > limit:
            window = np.arange(start - 2, start + 1)
            deviation = np.linalg.norm((steps[window] - usual) * intervals[window], axis=1)
            largest = int(window[deviation.argmax()]) + 1
            if largest - last > _JUMP_FRAMES:
                starts.append(largest)
            last = largest
    return np.array(starts, dtype=np.int64)


def _moving_polynomial(points: Floats, measured: Mask, method: SavitzkyGolay) -> Floats:
    """Return (L, K, 2) smoothed points; missing ones are interpolated linearly first."""
    try:
        signal: Any = importlib.import_module("scipy.signal")
    except ImportError as error:
        raise DependencyError(
            'method=savgol needs scipy, which is not installed. Install with: pip install "yolopose[track]", or use '
            "method=rts."
        ) from error
    result = points.copy()
    length = len(points)
    window = min(method.window, length if length % 2 else length - 1)
    if window <= method.order:
        return result
    times = np.arange(length)
    for point in range(points.shape[1]):
        known = np.flatnonzero(measured[:, point])
        if len(known) >= _MIN_MEASURED:
            columns = [np.interp(times, known, points[known, point, axis]) for axis in (0, 1)]
            result[:, point] = signal.savgol_filter(np.stack(columns, axis=1), window, method.order, axis=0)
    return result


def _replaceable(measured: Mask, max_gap: int) -> Mask:
    """Return (L, K): points to replace: measured ones, and unmeasured ones in gaps of up to `max_gap` frames."""
    result = measured.copy()
    for point in range(measured.shape[1]):
        known = np.flatnonzero(measured[:, point])
        if len(known) < _MIN_MEASURED:
            result[:, point] = False
            continue
        for first, last in zip(known[:-1].tolist(), known[1:].tolist(), strict=True):
            if 1 < last - first <= max_gap + 1:
                result[first:last, point] = True
    return result


def _assemble(tracks: Tracks, segments: list[_Segment], smoothed: list[Floats], max_gap: int) -> Tracks:
    """Return the tracks with smoothed points and new rows in gaps."""
    keypoints = tracks.keypoints.copy()
    new: list[dict[str, Any]] = []
    for segment, points in zip(segments, smoothed, strict=True):
        replaceable = _replaceable(segment.measured, max_gap)
        present = segment.rows >= 0
        rows = segment.rows[present]
        keypoints[rows, :, :2] = np.where(replaceable[present][..., None], points[present], keypoints[rows, :, :2])
        if not present.all():
            new.append(_filled_rows(tracks, segment, points, replaceable))
    return _with_rows(tracks, keypoints, new)


def _filled_rows(tracks: Tracks, segment: _Segment, points: Floats, replaceable: Mask) -> dict[str, Any]:
    """Return the columns of the rows that fill the gaps of a segment; boxes are interpolated linearly."""
    missing, known = np.flatnonzero(segment.rows < 0), np.flatnonzero(segment.rows >= 0)
    rows = segment.rows[known]

    def between(values: Floats) -> Floats:
        return np.stack([np.interp(missing, known, column) for column in values.reshape(len(rows), -1).T], axis=1)

    confidence = between(tracks.keypoints[rows, :, 2]) * replaceable[missing]
    before = rows[np.searchsorted(known, missing) - 1]
    return {
        "frames": tracks.frame_numbers[segment.times[missing]],
        "ids": np.full(len(missing), segment.track_id),
        "boxes": between(tracks.boxes[rows]),
        "scores": between(tracks.scores[rows])[:, 0],
        "classes": tracks.classes[before],
        "keypoints": np.concatenate(
            (np.where(replaceable[missing][..., None], points[missing], 0), confidence[..., None]), axis=2
        ),
    }


def _with_rows(tracks: Tracks, keypoints: Floats, new: list[dict[str, Any]]) -> Tracks:
    count = sum(len(rows["frames"]) for rows in new)
    columns: dict[str, Any] = {
        name: np.concatenate(
            [getattr(tracks, name) if name != "keypoints" else keypoints, *(rows[name] for rows in new)]
        )
        for name in ("frames", "ids", "boxes", "scores", "classes", "keypoints")
    }
    missing = np.full((count, *tracks.keypoints.shape[1:]), np.nan)
    return Tracks.build(
        **columns,
        raw_keypoints=np.concatenate((tracks.keypoints, missing)),
        interpolated=np.arange(len(tracks) + count) >= len(tracks),
        frame_numbers=tracks.frame_numbers,
        name=tracks.name,
        fps=tracks.fps,
        size=tracks.size,
        class_names=tracks.class_names,
        schema=tracks.schema,
    )


def _smooth_live(tracks: Tracks, parameters: OneEuro) -> Tracks:
    smoother = LiveSmoother(parameters, tracks.fps)
    frames = [
        smoother.update(frame.ids, frame.boxes, frame.keypoints, _live_time(frame.number, tracks))
        for frame in tracks.by_frame()
    ]
    return replace(tracks, keypoints=np.concatenate(frames), raw_keypoints=tracks.keypoints)


def _live_time(number: int, tracks: Tracks) -> float:
    return number / (tracks.fps or 30.0)
