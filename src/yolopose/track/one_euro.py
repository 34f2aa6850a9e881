"""Live smoothing of points: the One-Euro filter (Casiez et al., 2012, doi:10.1145/2207676.2208639) per point.

With five points or more, the motion that all points of an instance share (the median of their steps) is applied
without delay, and only the movement of each point relative to it is filtered.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from yolopose.base.errors import UsageError

Floats = npt.NDArray[np.float64]

_MIN_COMMON = 5
"""Number of measured points from which the common motion of an instance is applied without delay."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OneEuro:
    """Parameters of the live filter. Speeds are in box sizes √(w·h) per second, so they fit near and far instances.

    Attributes:
        min_cutoff: cutoff frequency of a point at rest, Hz; lower is smoother.
        beta: increase of the cutoff frequency per speed, Hz; higher follows movements with less lag.
        speed_cutoff: cutoff frequency of the speed, Hz.
        min_conf: points with a lower confidence are not used: they move with the others of the instance.
        max_gap: seconds after which an unseen instance or point starts anew.

    Raises:
        UsageError: a value is out of range.

    Examples:
        >>> from yolopose.track.one_euro import OneEuro
        >>> OneEuro(min_cutoff=1.0).beta
        8.0
    """

    min_cutoff: float = 2.0
    beta: float = 8.0
    speed_cutoff: float = 0.7
    min_conf: float = 0.3
    max_gap: float = 0.5

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not math.isfinite(value) or value < 0 or (value == 0 and "cutoff" in field.name):
                raise UsageError(f"OneEuro: {field.name}={value!r} is not possible: it must be a positive number.")


@dataclass(slots=True)
class _State:
    """Filter state of one instance; a point that was never measured is NaN."""

    points: Floats  # (K, 2) filtered, pixels
    speeds: Floats  # (K, 2) filtered, box sizes per second
    seen: Floats  # (K,) time of the last measurement of each point, seconds
    center: Floats  # (2,) of the box, pixels
    time: float


class LiveSmoother:
    """Smooths the points of tracked instances frame by frame, with the lag that `beta` allows.

    Args:
        parameters: the filter.
        fps: frame rate where frames have no time.

    Examples:
        >>> import numpy as np
        >>> from yolopose.track.one_euro import LiveSmoother
        >>> smoother = LiveSmoother(fps=30)
        >>> rng = np.random.default_rng(0)
        >>> noisy = 50 + rng.normal(0, 1, (60, 1, 1, 2))  # 60 frames of one point that does not move
        >>> smooth = np.array([smoother.update([1], [[0, 0, 100, 100]], points) for points in noisy])
        >>> bool(smooth[20:].std() < 0.7 * noisy[20:].std())
        True
    """

    def __init__(self, parameters: OneEuro | None = None, fps: float = 30.0) -> None:
        self._parameters = parameters or OneEuro()
        self._interval = 1 / fps if fps > 0 else 1 / 30
        self._states: dict[int, _State] = {}
        self._time: float | None = None  # of the last frame

    def update(
        self, ids: npt.ArrayLike | None, boxes: npt.ArrayLike, keypoints: npt.ArrayLike, time: float | None = None
    ) -> Floats:
        """Smooth the points of the next frame.

        Args:
            ids: (N,) track ids; instances with an id below 1 are returned unchanged, as all are with None.
            boxes: (N, 4) x1, y1, x2, y2, pixels.
            keypoints: (N, K, 2 or 3) x, y in pixels and confidence.
            time: seconds; one frame interval after the previous frame by default. A time that does not increase counts
                as that, too.

        Returns:
            (N, K, 2 or 3) new array; the confidences are unchanged.
        """
        points = np.array(keypoints, dtype=np.float64)
        corners = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
        previous = -math.inf if self._time is None else self._time
        if time is not None and math.isfinite(time) and time > previous:
            self._time = float(time)
        else:
            self._time = 0.0 if self._time is None else self._time + self._interval
        numbers = [] if ids is None else np.asarray(ids, dtype=np.int64).reshape(-1).tolist()
        for row, track_id in enumerate(numbers):
            if track_id > 0 and points.shape[1]:
                points[row, :, :2] = self._update_instance(track_id, corners[row], points[row], self._time)
        self._remove_old(self._time)
        return points

    def _update_instance(self, track_id: int, box: Floats, points: Floats, now: float) -> Floats:
        """Return (K, 2) smoothed points of one instance at a time."""
        parameters = self._parameters
        xy = points[:, :2]
        measured = np.isfinite(xy).all(axis=1)
        if points.shape[1] == 3:
            measured &= points[:, 2] >= parameters.min_conf
        center = (box[:2] + box[2:]) / 2
        state = self._states.get(track_id)
        if state is None or state.points.shape != xy.shape or now - state.time > parameters.max_gap:
            unknown = np.full_like(xy, np.nan)
            state = _State(unknown, np.zeros_like(xy), np.full(len(xy), -math.inf), center, now)
            self._states[track_id] = state
        is_known = now - state.seen <= parameters.max_gap
        if (measured & is_known).sum() >= _MIN_COMMON:
            # the common motion of all points is not filtered, so that only movements of the body itself lag
            state.points = state.points + np.median((xy - state.points)[measured & is_known], axis=0)
        size = max(math.sqrt(max(float((box[2:] - box[:2]).prod()), 0.0)), 1.0)
        filtered = np.where(is_known[:, None], state.points, xy)
        update = measured & is_known
        if update.any():
            elapsed = np.maximum(now - state.time, 1e-6)
            self._filter(state, xy, update, filtered, size, elapsed)
        shift = (filtered - state.points)[update].mean(axis=0) if update.any() else center - state.center
        hidden = is_known & ~measured
        filtered[hidden] += shift
        state.points = np.where((measured | hidden)[:, None], filtered, np.nan)
        state.speeds[~(measured | hidden)] = 0
        state.speeds[measured & ~is_known] = 0
        state.seen = np.where(measured, now, state.seen)
        state.center, state.time = center, now
        return filtered

    def _filter(
        self, state: _State, xy: Floats, update: npt.NDArray[np.bool_], filtered: Floats, size: float, elapsed: float
    ) -> None:
        """Apply the filter to the points `update` of one instance."""
        parameters = self._parameters
        step = (xy[update] - state.points[update]) / (elapsed * size)
        weight = _weight(parameters.speed_cutoff, elapsed)
        speeds = weight * step + (1 - weight) * state.speeds[update]
        cutoff = parameters.min_cutoff + parameters.beta * np.linalg.norm(speeds, axis=1, keepdims=True)
        filtered[update] += _weight(cutoff, elapsed) * (xy[update] - filtered[update])
        state.speeds[update] = speeds

    def _remove_old(self, now: float) -> None:
        limit = now - self._parameters.max_gap
        for track_id in [track_id for track_id, state in self._states.items() if state.time < limit]:
            del self._states[track_id]

    def reset(self) -> None:
        """Forget all instances, before another video."""
        self._states.clear()
        self._time = None

    def state_dict(self) -> dict[str, Any]:
        """Return the state as plain values that JSON can store."""
        states = {
            str(track_id): {
                "points": [[None if value != value else value for value in point] for point in state.points.tolist()],
                "speeds": state.speeds.tolist(),
                "seen": [value if math.isfinite(value) else None for value in state.seen.tolist()],
                "center": state.center.tolist(),
                "time": state.time,
            }
            for track_id, state in self._states.items()
        }
        return {"time": self._time, "instances": states}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state.

        Raises:
            UsageError: it is not the state of a live filter.
        """
        try:
            states = {
                int(track_id): _State(
                    points=np.array(values["points"], dtype=np.float64).reshape(-1, 2),  # None becomes NaN
                    speeds=np.array(values["speeds"], dtype=np.float64),
                    seen=np.array([-math.inf if item is None else item for item in values["seen"]]),
                    center=np.array(values["center"], dtype=np.float64),
                    time=float(values["time"]),
                )
                for track_id, values in state["instances"].items()
            }
            self._time = None if state["time"] is None else float(state["time"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UsageError(
                f"This is not the state of a live smoother ({error}); save it with state_dict()."
            ) from error
        self._states = states


def _weight(cutoff: Any, elapsed: float) -> Any:
    """Return the weight of a new value in a low-pass filter of the given cutoff frequency, Hz."""
    return 1 / (1 + 1 / (2 * math.pi * cutoff * elapsed))
