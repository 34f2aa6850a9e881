"""Kalman smoother of points with constant velocity, for many points at once, and the estimation of its noise.

Each coordinate is a state (position, velocity). In units of the box size s, measurements have the standard deviation
`noise`, and the velocity changes per frame by `acceleration`, a random value of that standard deviation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

_RATIOS = np.array([0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0])
"""Candidates of acceleration / noise; the most likely one is used."""
_DEFAULT_NOISE = 0.01  # of keypoints with too few measurements
_DEFAULT_RATIO = 0.2
_MIN_INNOVATIONS = 30
_OUTLIER = 3.0  # standard deviations from which a measurement loses weight
_MIN_NOISE = 1e-4
_FIRST_VELOCITY = 0.3  # standard deviation of the initial velocity, box sizes per frame


@dataclass(slots=True)
class _Filtered:
    """States of all frames; the shape of the arrays is (L, *channels)."""

    position: Floats
    velocity: Floats
    p00: Floats
    p01: Floats
    p11: Floats
    predicted_position: Floats
    predicted_velocity: Floats
    predicted_p00: Floats
    predicted_p01: Floats
    predicted_p11: Floats
    innovation: Floats
    innovation_var: Floats


def rts_smooth(points: Floats, measured: Mask, sizes: Floats, noise: Floats, acceleration: Floats) -> Floats:
    """Smooth the points of one track.

    Args:
        points: (L, K, 2) pixels, of consecutive frames.
        measured: (L, K) whether a point is measured; the others are ignored.
        sizes: (L,) box size √(w·h), pixels.
        noise: (K,) in box sizes.
        acceleration: (K,) in box sizes per frame².

    Returns:
        (L, K, 2) smoothed points, also where a point is not measured (NaN-free; unmeasured throughout: unchanged).
    """
    if len(points) < 2:
        return points.copy()
    states = _filter(points, measured, sizes, noise[:, None], acceleration[:, None], robust=True)
    position, velocity = states.position.copy(), states.velocity
    next_velocity = velocity[-1]
    for t in range(len(points) - 2, -1, -1):
        p00, p01, p11 = states.p00[t], states.p01[t], states.p11[t]
        q00, q01, q11 = states.predicted_p00[t + 1], states.predicted_p01[t + 1], states.predicted_p11[t + 1]
        determinant = np.maximum(q00 * q11 - q01 * q01, 1e-300)
        # gain = P·Fᵀ·Q⁻¹ with F = [[1, 1], [0, 1]]
        a, b, c = p00 + p01, p01, p01 + p11
        gain00, gain01 = (a * q11 - b * q01) / determinant, (b * q00 - a * q01) / determinant
        gain10, gain11 = (c * q11 - p11 * q01) / determinant, (p11 * q00 - c * q01) / determinant
        d_position = position[t + 1] - states.predicted_position[t + 1]
        d_velocity = next_velocity - states.predicted_velocity[t + 1]
        position[t] = position[t] + gain00 * d_position + gain01 * d_velocity
        next_velocity = velocity[t] + gain10 * d_position + gain11 * d_velocity
    is_measured = np.asarray(measured.any(axis=0))
    return np.where(is_measured[None, :, None], position, points)


def estimate_noise(segments: Sequence[tuple[Floats, Mask, Floats]], max_frames: int) -> tuple[Floats, Floats]:
    """Estimate noise and acceleration of each keypoint by maximum likelihood.

    Args:
        segments: (points, measured, sizes) of tracks as for `rts_smooth`; the first ones are used.
        max_frames: number of frames after which no further segment is used.

    Returns:
        (K,) noise and (K,) acceleration.
    """
    count = segments[0][0].shape[1]
    errors: list[Floats] = []
    variances: list[Floats] = []
    frames = 0
    ones = np.ones((1, 1, 1))
    for points, measured, sizes in segments:
        if frames >= max_frames or len(points) < 5:
            break
        points, measured, sizes = points[:max_frames], measured[:max_frames], sizes[:max_frames]
        frames += len(points)
        states = _filter(points, measured, sizes, ones, _RATIOS[:, None, None], robust=False)
        usable: Mask = measured & (np.cumsum(measured, axis=0) > 3)  # the first ones depend on the initial velocity
        shape = (len(points), len(_RATIOS), count, 2)
        ignored = np.broadcast_to(np.logical_not(usable)[:, None, :, None], shape)
        errors.append(np.where(ignored, np.nan, states.innovation))
        variances.append(np.where(ignored, np.nan, states.innovation_var))
    if not errors:
        return np.full(count, _DEFAULT_NOISE), np.full(count, _DEFAULT_NOISE * _DEFAULT_RATIO)
    return _most_likely(np.concatenate(errors), np.concatenate(variances))


def _most_likely(error: Floats, variance: Floats) -> tuple[Floats, Floats]:
    """Return (K,) noise and acceleration from (T, ratios, K, 2) innovations and their variances for noise 1."""
    count = error.shape[2]
    noise = np.full(count, _DEFAULT_NOISE)
    ratio = np.full(count, _DEFAULT_RATIO)
    for point in range(count):
        valid = np.isfinite(error[:, 0, point, 0])
        if valid.sum() < _MIN_INNOVATIONS:
            continue
        spread = variance[valid, :, point]
        squared = error[valid, :, point] ** 2 / spread  # (T, ratios, 2)
        # a robust scale: values beyond three standard deviations count as that
        limit = 9 * np.median(squared, axis=(0, 2), keepdims=True) / 0.455
        scale = np.maximum(np.minimum(squared, limit).mean(axis=(0, 2)), _MIN_NOISE**2)
        likelihood = -np.log(spread).mean(axis=(0, 2)) - np.log(scale)
        best = int(np.argmax(likelihood))
        noise[point], ratio[point] = np.sqrt(scale[best]), _RATIOS[best]
    return noise, noise * ratio


def _filter(
    points: Floats,
    measured: Mask,
    sizes: Floats,
    noise: Floats,
    acceleration: Floats,
    *,
    robust: bool,
) -> _Filtered:
    """Run the Kalman filter forward.

    Args:
        points: (L, K, 2).
        measured: (L, K).
        sizes: (L,).
        noise: shape that broadcasts with (K, 2), or with (ratios, K, 2).
        acceleration: likewise.
        robust: whether measurements far from the prediction lose weight.
    """
    shape = np.broadcast_shapes(noise.shape, acceleration.shape, points.shape[1:])
    length = len(points)
    arrays = [np.zeros((length, *shape)) for _ in range(12)]
    states = _Filtered(*arrays)
    first = np.argmax(measured, axis=0)  # index of the first measurement of each point
    position = np.broadcast_to(np.take_along_axis(points, first[None, :, None], axis=0)[0], shape)
    velocity = np.zeros(shape)
    r = np.maximum(noise, _MIN_NOISE) ** 2
    q = acceleration**2
    p00 = np.broadcast_to(r * sizes[0] ** 2 * 10, shape)
    p01 = np.zeros(shape)
    p11 = np.full(shape, (_FIRST_VELOCITY * sizes[0]) ** 2)
    for t in range(length):
        area = sizes[t] ** 2
        if t:  # predict; a random acceleration during the frame moves by half of it
            position = position + velocity
            p00, p01, p11 = p00 + 2 * p01 + p11 + q * area / 4, p01 + p11 + q * area / 2, p11 + q * area
        states.predicted_position[t], states.predicted_velocity[t] = position, velocity
        states.predicted_p00[t], states.predicted_p01[t], states.predicted_p11[t] = p00, p01, p11
        error = np.where(measured[t][:, None], points[t] - position, 0)
        total = p00 + r * area
        states.innovation[t], states.innovation_var[t] = error, total
        if robust:
            excess = np.maximum(np.abs(error) / (_OUTLIER * np.sqrt(total)), 1)
            total = p00 + r * area * excess**2
        use = measured[t][:, None]
        gain0, gain1 = np.where(use, p00 / total, 0), np.where(use, p01 / total, 0)
        position, velocity = position + gain0 * error, velocity + gain1 * error
        p00, p01, p11 = (1 - gain0) * p00, (1 - gain0) * p01, p11 - gain1 * p01
        states.position[t], states.velocity[t] = position, velocity
        states.p00[t], states.p01[t], states.p11[t] = p00, p01, p11
    return states
