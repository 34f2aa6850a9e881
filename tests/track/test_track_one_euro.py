"""The live filter: its formula, missing points, gaps, times, and its state."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from yolopose.base.errors import UsageError
from yolopose.track.one_euro import LiveSmoother, OneEuro

BOX = np.array([[0.0, 0, 100, 100]])


def weight(cutoff: float, interval: float) -> float:
    tau = 1 / (2 * math.pi * cutoff)
    return 1 / (1 + tau / interval)


def reference(values: list[float], interval: float, parameters: OneEuro, size: float) -> list[float]:
    """The One-Euro filter of a scalar, written as in the publication."""
    result = [values[0]]
    speed = 0.0
    for value in values[1:]:
        step = (value - result[-1]) / interval / size
        speed += weight(parameters.speed_cutoff, interval) * (step - speed)
        alpha = weight(parameters.min_cutoff + parameters.beta * abs(speed), interval)
        result.append(alpha * value + (1 - alpha) * result[-1])
    return result


def test_equals_the_published_filter() -> None:
    rng = np.random.default_rng(0)
    values = (np.cumsum(rng.normal(0, 3, 50)) + 40).tolist()
    parameters = OneEuro(min_cutoff=0.7, beta=5, speed_cutoff=2)
    smoother = LiveSmoother(parameters, fps=25)
    points = [smoother.update([1], BOX, [[[value, 7.0, 0.9]]])[0, 0] for value in values]
    np.testing.assert_allclose([point[0] for point in points], reference(values, 1 / 25, parameters, 100.0))
    np.testing.assert_allclose([point[1:] for point in points], np.tile([7.0, 0.9], (50, 1)))


def test_common_motion_has_no_lag() -> None:
    smoother = LiveSmoother(fps=30)
    pose = np.random.default_rng(1).uniform(10, 90, (1, 6, 3))
    pose[..., 2] = 0.9
    for step in range(20):
        moved = pose + np.array([7.0 * step, -3.0 * step, 0])
        np.testing.assert_allclose(smoother.update([1], BOX, moved), moved)
    raised = moved.copy()
    raised[0, 2, 1] -= 20  # one point moves: it is filtered, the others are not affected
    result = smoother.update([1], BOX, raised)
    assert raised[0, 2, 1] < result[0, 2, 1] < moved[0, 2, 1]
    np.testing.assert_allclose(np.delete(result, 2, axis=1), np.delete(raised, 2, axis=1))


def test_times_decide_not_frames() -> None:
    slow, fast = LiveSmoother(fps=30), LiveSmoother(fps=30)
    slow.update([1], BOX, [[[0.0, 0, 1]]], 0.0)
    fast.update([1], BOX, [[[0.0, 0, 1]]], 0.0)
    after_long = slow.update([1], BOX, [[[10.0, 0, 1]]], 0.4)[0, 0, 0]
    after_short = fast.update([1], BOX, [[[10.0, 0, 1]]], 0.02)[0, 0, 0]
    assert 0 < after_short < after_long < 10


def test_a_clock_that_stops_or_runs_back_counts_as_one_interval() -> None:
    normal, stopped = LiveSmoother(fps=10), LiveSmoother(fps=10)
    for index, value in enumerate((0.0, 5.0, 9.0)):
        first = normal.update([1], BOX, [[[value, 0, 1]]], index / 10)
        second = stopped.update([1], BOX, [[[value, 0, 1]]], 0.0 if index < 2 else -3.0)
    np.testing.assert_allclose(first, second)


def test_points_without_confidence_move_with_the_others() -> None:
    smoother = LiveSmoother(fps=30)
    points = np.array([[[10.0, 10, 0.9], [20, 10, 0.9], [30, 10, 0.9]]])
    smoother.update([1], BOX, points)
    moved = points + np.array([5, 0, 0])
    moved[0, 2] = (999, 999, 0.05)
    result = smoother.update([1], BOX, moved)
    shift = result[0, 0, 0] - 10
    np.testing.assert_allclose(result[0, 2], (30 + shift, 10, 0.05))
    for _ in range(20):  # after max_gap the point is what the network outputs
        result = smoother.update([1], BOX, moved)
    np.testing.assert_allclose(result[0, 2], (999, 999, 0.05))


def test_gap_starts_anew_and_other_ids_are_independent() -> None:
    smoother = LiveSmoother(OneEuro(max_gap=0.2), fps=10)
    smoother.update([1, 2], np.tile(BOX, (2, 1)), [[[0.0, 0, 1]], [[50.0, 0, 1]]])
    result = smoother.update([2], BOX, [[[60.0, 0, 1]]])
    assert 50 < result[0, 0, 0] < 60
    for _ in range(3):
        smoother.update([], np.zeros((0, 4)), np.zeros((0, 1, 3)))
    result = smoother.update([1, 2], np.tile(BOX, (2, 1)), [[[90.0, 0, 1]], [[70.0, 0, 1]]])
    np.testing.assert_allclose(result[:, 0, 0], (90, 70))


def test_instances_without_a_track_and_without_points() -> None:
    smoother = LiveSmoother()
    for value in (0.0, 10.0):
        result = smoother.update([0, -1], np.tile(BOX, (2, 1)), [[[value, 0, 1]], [[value, 0, 1]]])
        assert result[:, 0, 0].tolist() == [value, value]
    assert smoother.update(None, BOX, [[[1.0, 2, 1]]]).tolist() == [[[1, 2, 1]]]
    assert smoother.update([1], BOX, np.zeros((1, 0, 3))).shape == (1, 0, 3)
    assert smoother.update([1], BOX, [[[4.0, 5.0]]])[0, 0].tolist() == [4, 5]


def test_state_is_plain_and_continues() -> None:
    rng = np.random.default_rng(2)
    frames = rng.uniform(0, 90, (12, 1, 4, 3))
    frames[..., 2] = rng.uniform(0.1, 1, (12, 1, 4))
    one, two = LiveSmoother(), LiveSmoother()
    for points in frames[:6]:
        one.update([3], BOX, points)
    two.load_state_dict(json.loads(json.dumps(one.state_dict())))
    for points in frames[6:]:
        np.testing.assert_array_equal(one.update([3], BOX, points), two.update([3], BOX, points))
    one.reset()
    np.testing.assert_array_equal(one.update([3], BOX, frames[0]), frames[0])
    with pytest.raises(UsageError, match="not the state"):
        one.load_state_dict({"instances": 3})


def test_memory_does_not_grow_with_ids() -> None:
    smoother = LiveSmoother(fps=30)
    for track_id in range(1, 3000):
        smoother.update([track_id], BOX, [[[1.0, 1, 1]]])
    assert len(smoother.state_dict()["instances"]) < 30


def test_input_is_not_changed() -> None:
    smoother = LiveSmoother()
    points = np.array([[[1.0, 2, 1]]])
    smoother.update([1], BOX, points)
    later = points + 10
    smoother.update([1], BOX, later)
    assert later.tolist() == [[[11, 12, 11]]]
