"""Motion of boxes: one constant-velocity Kalman filter per track, for all tracks at once and for any time step.

The state is (center x, center y, width, height) and its velocities, in pixels and pixels per step, where a step is
1/30 second. Transition, process noise and measurement noise do not couple the four quantities, so
the filter of a track is four filters of two states, and each operation is elementwise over all tracks. Noise is
proportional to the size of the box, with the weights of SORT's successors (Wojke et al., "Simple online and realtime
tracking with a deep association metric", 2017; Aharon et al., "BoT-SORT", 2022).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from yolopose.track.frames import FloatArray

_POSITION_WEIGHT = 1 / 20
_VELOCITY_WEIGHT = 1 / 160
# Most virtual measurements between the last observation and the one that recovers a track.
_VIRTUAL_STEPS = 8


@dataclass(slots=True)
class MotionState:
    """Filter states of T tracks.

    Attributes:
        mean: (T, 2, 4) value and velocity of center x, center y, width, height.
        cov: (T, 3, 4) variance of the value, covariance, and variance of the velocity.
    """

    mean: FloatArray
    cov: FloatArray

    def __getitem__(self, index: object) -> MotionState:
        return MotionState(self.mean[index], self.cov[index])  # type: ignore[index]


def to_measurement(boxes: FloatArray) -> FloatArray:
    """Convert (..., 4) corners to center x, center y, width, height."""
    size = boxes[..., 2:] - boxes[..., :2]
    return np.concatenate((boxes[..., :2] + size / 2, size), axis=-1)


def to_corners(measurement: FloatArray) -> FloatArray:
    """Convert (..., 4) center x, center y, width, height to corners; a negative size becomes 0."""
    half = np.maximum(measurement[..., 2:], 0) / 2
    return np.concatenate((measurement[..., :2] - half, measurement[..., :2] + half), axis=-1)


def new_states(boxes: FloatArray) -> MotionState:
    """Return the states of tracks that start with (N, 4) corners: velocity 0 with a large variance."""
    measurement = to_measurement(boxes)
    mean = np.zeros((len(boxes), 2, 4))
    mean[:, 0] = measurement
    scale = _scale(measurement)
    cov = np.zeros((len(boxes), 3, 4))
    cov[:, 0] = (2 * _POSITION_WEIGHT * scale) ** 2
    cov[:, 2] = (10 * _VELOCITY_WEIGHT * scale) ** 2
    return MotionState(mean, cov)


def predict(states: MotionState, steps: FloatArray | float) -> MotionState:
    """Return the states after some time.

    Args:
        states: states of T tracks.
        steps: time in steps, a number or (T,).
    """
    step = np.broadcast_to(np.asarray(steps, np.float64).reshape(-1, 1), (len(states.mean), 1))
    value, velocity = states.mean[:, 0], states.mean[:, 1]
    var, cross, var_velocity = states.cov[:, 0], states.cov[:, 1], states.cov[:, 2]
    scale = _scale(value)
    mean = states.mean.copy()
    mean[:, 0] = value + step * velocity
    cov = np.empty_like(states.cov)
    cov[:, 0] = var + step * (2 * cross + step * var_velocity) + step * (_POSITION_WEIGHT * scale) ** 2
    cov[:, 1] = cross + step * var_velocity
    cov[:, 2] = var_velocity + step * (_VELOCITY_WEIGHT * scale) ** 2
    return MotionState(mean, cov)


def correct(states: MotionState, measurement: FloatArray) -> MotionState:
    """Return the states after measurements (T, 4) of center x, center y, width, height."""
    noise = (_POSITION_WEIGHT * _scale(states.mean[:, 0])) ** 2
    var, cross, var_velocity = states.cov[:, 0], states.cov[:, 1], states.cov[:, 2]
    total = var + noise
    gain = var / total
    gain_velocity = cross / total
    innovation = measurement - states.mean[:, 0]
    mean = np.stack((states.mean[:, 0] + gain * innovation, states.mean[:, 1] + gain_velocity * innovation), axis=1)
    cov = np.stack(((1 - gain) * var, (1 - gain) * cross, var_velocity - gain_velocity * cross), axis=1)
    return MotionState(mean, cov)


def recover(observed: MotionState, gap: FloatArray, measurement: FloatArray) -> MotionState:
    """Return the states of tracks that are observed again after a gap.

    The filter is run again from the last observation, along a straight line of virtual measurements: errors that grew
    while nothing was measured vanish (observation-centric re-update; Cao et al., "Observation-Centric SORT", 2023).

    Args:
        observed: states after the last observation.
        gap: (T,) time since then, in steps.
        measurement: (T, 4) center x, center y, width, height now.
    """
    start = observed.mean[:, 0].copy()
    states = observed
    count = int(np.clip(np.ceil(gap.max()), 1, _VIRTUAL_STEPS))
    for number in range(1, count + 1):
        states = predict(states, gap / count)
        states = correct(states, start + (measurement - start) * (number / count))
    return states


def move(states: MotionState, matrix: FloatArray) -> MotionState:
    """Return the states in the coordinates of a moved camera.

    Args:
        states: states of T tracks.
        matrix: (2, 3) affine transform of the pixels. Sizes and variances follow its scale in each direction.
    """
    mean = states.mean.copy()
    mean[..., :2] = mean[..., :2] @ matrix[:, :2].T
    mean[:, 0, :2] += matrix[:, 2]
    scale = np.hypot(matrix[0, :2], matrix[1, :2])
    mean[..., 2:] *= scale
    return MotionState(mean, states.cov * np.tile(scale, 2) ** 2)


def _scale(measurement: FloatArray) -> FloatArray:
    """Return (T, 4) width, height, width, height, at least 1 pixel: the unit of all noise."""
    size = np.maximum(measurement[:, 2:], 1.0)
    return np.concatenate((size, size), axis=1)
