"""Hand-made scenes: instances with known positions in each frame."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from yolopose.track import TrackDetections, Tracker

SIZE = np.array([40.0, 100.0])
# Limbs of two instances: points relative to the center, in box sizes.
POSES = np.random.default_rng(4).uniform(-0.45, 0.45, (8, 6, 2))

Path = Callable[[int], "tuple[float, float] | None"]


def line(start: tuple[float, float], velocity: tuple[float, float], hidden: Sequence[int] = ()) -> Path:
    """A straight path; no detection in the hidden frames."""
    return lambda t: None if t in hidden else (start[0] + velocity[0] * t, start[1] + velocity[1] * t)


def detections(
    centers: Sequence[tuple[float, float]],
    poses: Sequence[int] = (),
    *,
    scores: Sequence[float] | None = None,
    classes: Sequence[int] | None = None,
    time: float | None = None,
    size: np.ndarray = SIZE,
    shape: tuple[int, int] | None = (480, 640),
) -> TrackDetections:
    """Instances at the given centers, with the given poses (`POSES`)."""
    at = np.asarray(centers, float).reshape(-1, 2)
    points = None
    if len(poses):
        xy = at[:, None] + POSES[list(poses)] * size
        points = np.concatenate((xy, np.full((*xy.shape[:2], 1), 0.9)), 2)
    return TrackDetections.of(
        np.concatenate((at - size / 2, at + size / 2), 1),
        [0.9] * len(at) if scores is None else scores,
        classes,
        points,
        time=time,
        shape=shape,
    )


def frame(
    paths: Sequence[Path], t: int, *, poses: bool = True, fps: float | None = 30
) -> tuple[TrackDetections, list[int]]:
    """The visible instances of a frame, and which paths they belong to."""
    visible = [(index, path(t)) for index, path in enumerate(paths)]
    shown = [(index, center) for index, center in visible if center is not None]
    owners = [index for index, _ in shown]
    made = detections([c for _, c in shown], owners if poses else (), time=None if fps is None else t / fps)
    if poses and not owners:
        made = TrackDetections.of(np.zeros((0, 4)), [], None, np.zeros((0, 6, 3)), time=made.time, shape=made.shape)
    return made, owners


def run(tracker: Tracker, paths: Sequence[Path], frames: int | Sequence[int], **options: object) -> list[list[int]]:
    """The distinct ids of each path, in order of appearance; 0 (not yet confirmed) is left out."""
    ids: list[list[int]] = [[] for _ in paths]
    for t in range(frames) if isinstance(frames, int) else frames:
        given, owners = frame(paths, t, **options)  # type: ignore[arg-type]
        tracked = tracker.update(given).ids
        assert len(tracked) == len(given)
        for owner, track_id in zip(owners, tracked.tolist(), strict=True):
            if track_id and track_id not in ids[owner]:
                ids[owner].append(track_id)
    return ids
