"""Offline smoothing: less jitter and no larger error, gaps filled within a track only, measured points kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from yolopose.base.errors import UsageError
from yolopose.data.tracks import Tracks, read_tracks, write_tracks
from yolopose.evaluate.tracking import jitter, point_error
from yolopose.track.kalman import estimate_noise, rts_smooth
from yolopose.track.one_euro import OneEuro
from yolopose.track.smoothing import RTS, SavitzkyGolay, smooth_file, smooth_tracks

LENGTH = 120
NOISE = 1.2


def make_walk(noise: float = NOISE, seed: int = 0, drop: tuple[int, ...] = ()) -> tuple[Tracks, Tracks]:
    """Return noisy tracks and the ground truth of two instances with five points that swing and move."""
    rng = np.random.default_rng(seed)
    time = np.arange(LENGTH)
    frames, ids, boxes, points = [], [], [], []
    for track_id in (1, 2):
        center = np.stack((100 * track_id + 1.5 * time, 120 + 10 * np.sin(time / 25)), axis=1)
        swing = 12 * np.sin(time[:, None] / 9 + np.arange(5))
        xy = center[:, None] + np.stack((np.arange(5) * 4.0 + swing, 0.5 * swing), axis=2)
        for t in time.tolist():
            if t not in drop:
                frames.append(t + 1)
                ids.append(track_id)
                boxes.append(np.concatenate((center[t] - 40, center[t] + 40)))
                points.append(np.column_stack((xy[t], np.full(5, 2))))
    gt = Tracks.build(frames=frames, ids=ids, boxes=boxes, keypoints=points, frame_numbers=time + 1, fps=30.0)
    measured = gt.keypoints.copy()
    measured[..., :2] += rng.normal(0, noise, measured[..., :2].shape)
    measured[..., 2] = 0.9
    tracks = Tracks.build(
        frames=gt.frames, ids=gt.ids, boxes=gt.boxes, keypoints=measured, frame_numbers=time + 1, fps=30.0
    )
    return tracks, gt


@pytest.mark.parametrize(("method", "bound"), [(RTS(), 0.35), (SavitzkyGolay(), 0.5), (OneEuro(), 0.7)])
def test_less_jitter_without_a_larger_error(method: RTS | SavitzkyGolay | OneEuro, bound: float) -> None:
    if isinstance(method, SavitzkyGolay):
        pytest.importorskip("scipy")
    tracks, gt = make_walk()
    smoothed = smooth_tracks(tracks, method)
    assert jitter(smoothed) < bound * jitter(tracks)
    assert point_error(smoothed, gt) < 1.03 * point_error(tracks, gt)
    np.testing.assert_array_equal(smoothed.raw_keypoints, tracks.keypoints)
    np.testing.assert_array_equal(smoothed.boxes, tracks.boxes)
    np.testing.assert_array_equal(smoothed.keypoints[..., 2], tracks.keypoints[..., 2])


def test_kalman_smoother_equals_weighted_least_squares() -> None:
    """With constant velocity and no acceleration the smoother is a straight-line fit."""
    rng = np.random.default_rng(1)
    time = np.arange(30.0)
    line = np.stack((3 + 0.7 * time, 50 - 1.2 * time), axis=1)[:, None]
    points = line + rng.normal(0, 1, (30, 1, 2))
    ones = np.ones((30, 1), dtype=bool)
    smoothed = rts_smooth(points, ones, np.full(30, 100.0), np.array([0.01]), np.array([0.0]))
    design = np.stack((np.ones(30), time), axis=1)
    fit = design @ np.linalg.lstsq(design, points[:, 0], rcond=None)[0]
    np.testing.assert_allclose(smoothed[:, 0], fit, atol=0.1)


def test_noise_is_estimated_from_the_tracks() -> None:
    for noise in (0.5, 1.0, 3.0):
        tracks, _ = make_walk(noise)
        rows = tracks.ids == 1
        segment = (tracks.keypoints[rows, :, :2], np.ones((LENGTH, 5), bool), np.full(LENGTH, 80.0))
        estimated, _ = estimate_noise([segment], 1000)
        np.testing.assert_allclose(estimated.mean() * 80, noise, rtol=0.35)


def test_outliers_do_not_pull() -> None:
    tracks, gt = make_walk(0.5)
    tracks.keypoints[60, 2, :2] += 60
    smoothed = smooth_tracks(tracks)
    assert np.abs(smoothed.keypoints[60, 2, :2] - gt.keypoints[60, 2, :2]).max() < 10


@pytest.mark.parametrize("method", [RTS(max_gap=5), SavitzkyGolay(max_gap=5)])
def test_short_gaps_are_filled_and_long_ones_not(method: RTS | SavitzkyGolay) -> None:
    missing = (30, 31, 32, 33, 34, 70, 71, 72, 73, 74, 75)
    tracks, _ = make_walk(drop=missing)
    _, gt = make_walk()
    smoothed = smooth_tracks(tracks, method)
    filled = smoothed.select(smoothed.interpolated)
    assert sorted(set(filled.frames.tolist())) == [31, 32, 33, 34, 35]  # five frames, but not six
    assert set(filled.ids.tolist()) == {1, 2}
    assert np.isnan(filled.raw_keypoints).all()
    rows = [np.flatnonzero((gt.frames == frame) & (gt.ids == track_id))[0]
            for frame, track_id in zip(filled.frames, filled.ids, strict=True)]  # fmt: skip
    assert np.abs(filled.keypoints[..., :2] - gt.keypoints[rows, :, :2]).mean() < 4
    np.testing.assert_allclose(filled.boxes, gt.boxes[rows], atol=1.5)


def test_gaps_of_points_are_filled_but_not_their_ends() -> None:
    tracks, gt = make_walk()
    first = np.flatnonzero(tracks.ids == 1)
    tracks.keypoints[first[50:53], 0] = (0, 0, 0.05)
    tracks.keypoints[first[80:95], 0] = (0, 0, 0.05)
    tracks.keypoints[first[-3:], 0] = (7, 7, 0.05)
    smoothed = smooth_tracks(tracks)
    assert np.abs(smoothed.keypoints[first[50:53], 0, :2] - gt.keypoints[first[50:53], 0, :2]).max() < 6
    assert (smoothed.keypoints[first[80:95], 0, :2] == 0).all()
    assert (smoothed.keypoints[first[-3:], 0, :2] == 7).all()


def test_tracks_never_influence_each_other() -> None:
    tracks, _ = make_walk()
    both = smooth_tracks(tracks, SavitzkyGolay())
    alone = smooth_tracks(tracks.select(tracks.ids == 1), SavitzkyGolay())
    np.testing.assert_allclose(both.keypoints[both.ids == 1], alone.keypoints)


@pytest.mark.parametrize("method", [RTS(), SavitzkyGolay()])
def test_exchanged_ids_are_not_smoothed_together(method: RTS | SavitzkyGolay) -> None:
    tracks, gt = make_walk(0.5)
    exchanged = tracks.frames > 60
    tracks.ids[exchanged] = 3 - tracks.ids[exchanged]
    smoothed = smooth_tracks(tracks, method)
    near = np.abs(smoothed.frames - 60) < 6
    order = np.lexsort((np.where(smoothed.frames > 60, 3 - smoothed.ids, smoothed.ids), smoothed.frames))
    error = np.abs(smoothed.keypoints[order] - gt.keypoints)[..., :2]
    assert error[near].max() < 4
    assert not smooth_tracks(tracks.select(np.abs(tracks.frames - 60) > 2), method).interpolated.any()


def test_a_wrong_pose_in_one_frame_is_not_a_jump() -> None:
    tracks, gt = make_walk(0.5)
    row = np.flatnonzero((tracks.ids == 1) & (tracks.frames == 60))[0]
    tracks.keypoints[row, :, :2] += 50
    smoothed = smooth_tracks(tracks)
    assert np.abs(smoothed.keypoints[row, :, :2] - gt.keypoints[row, :, :2]).max() < 12


def test_instances_without_an_id_and_short_tracks_are_unchanged() -> None:
    rng = np.random.default_rng(0)
    boxes = np.tile([0.0, 0, 50, 50], (5, 1))
    points = rng.uniform(1, 50, (5, 4, 3))
    tracks = Tracks.build(frames=[1, 2, 3, 4, 5], ids=[-1, -1, -1, 3, 3], boxes=boxes, keypoints=points)
    np.testing.assert_array_equal(smooth_tracks(tracks).keypoints, tracks.keypoints)


def test_smoothing_again_starts_from_measured_points() -> None:
    tracks, _ = make_walk(drop=(30, 31))
    once = smooth_tracks(tracks)
    twice = smooth_tracks(once)
    np.testing.assert_allclose(once.keypoints, twice.keypoints)
    assert len(smooth_tracks(once, RTS(max_gap=0))) == len(tracks)


def test_strength_and_frame_stride() -> None:
    tracks, _ = make_walk()
    weak, strong = (jitter(smooth_tracks(tracks, RTS(strength=value))) for value in (0.3, 3.0))
    assert strong < weak
    strided = Tracks.build(
        frames=tracks.frames * 5 - 4,
        ids=tracks.ids,
        boxes=tracks.boxes,
        keypoints=tracks.keypoints,
        frame_numbers=tracks.frame_numbers * 5 - 4,
    )
    np.testing.assert_allclose(smooth_tracks(strided).keypoints, smooth_tracks(tracks).keypoints)


def test_files(tmp_path: Path) -> None:
    tracks, _ = make_walk(drop=(30,))
    source = write_tracks(tmp_path / "walk.jsonl", tracks)
    before = source.read_bytes()
    target = smooth_file(source)
    assert target == tmp_path / "walk-smooth.jsonl"
    (loaded,) = read_tracks(target)
    assert loaded.interpolated.sum() == 2
    assert source.read_bytes() == before
    smooth_file(source, tmp_path / "walk.csv", format="deeplabcut")
    with pytest.raises(UsageError, match="is the source"):
        smooth_file(source, source)
    boxes = write_tracks(tmp_path / "boxes.txt", tracks)
    with pytest.raises(UsageError, match="no keypoints"):
        smooth_file(boxes)


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (RTS, {"max_gap": -1}),
        (RTS, {"min_conf": 1.5}),
        (RTS, {"strength": 0}),
        (SavitzkyGolay, {"window": 4}),
        (SavitzkyGolay, {"window": 3, "order": 3}),
        (OneEuro, {"min_cutoff": 0}),
        (OneEuro, {"beta": -1}),
        (OneEuro, {"max_gap": float("nan")}),
    ],
)
def test_impossible_parameters(kind: type, values: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="is not possible"):
        kind(**values)
