"""Sequences of moving figures: known ids, the same for the same seed, and what each group promises."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from yolopose.base.errors import UsageError
from yolopose.data.figures.sequences import (
    SEQUENCES,
    FigureSequence,
    SequenceSpec,
    sequence_names,
    write_frames,
    write_sequences,
)
from yolopose.data.tracks import read_tracks
from yolopose.data.tracks.tracks import NO_ID
from yolopose.geometry import box_iou


def short(name: str, frames: int = 20, seed: int = 0, **changes: object) -> FigureSequence:
    return FigureSequence(name, seed, replace(SEQUENCES[name], frames=frames, **changes))  # type: ignore[arg-type]


def test_there_are_enough_sequences_in_every_group() -> None:
    assert len(SEQUENCES) >= 12
    groups = {spec.group for spec in SEQUENCES.values()}
    assert {"crossing", "crowd", "occlusion", "reentry", "pan", "low_fps", "false_positives", "missed"} <= groups
    assert {spec.count for spec in SEQUENCES.values()} >= {2, 20}
    assert sequence_names("crossing") == ["crossing-2", "crossing-4", "crossing-8"]


def test_a_sequence_depends_on_its_seed_only() -> None:
    first, again, other = short("crowd-6"), short("crowd-6"), short("crowd-6", seed=1)
    np.testing.assert_array_equal(first.gt.boxes, again.gt.boxes)
    np.testing.assert_array_equal(first.detections.keypoints, again.detections.keypoints)
    np.testing.assert_array_equal(first.render(3), again.render(3))
    assert not np.array_equal(first.gt.boxes[:3], other.gt.boxes[:3])


def test_gt_moves_smoothly_with_constant_ids() -> None:
    gt = short("crossing-4", frames=60).gt
    assert set(gt.ids.tolist()) == {1, 2, 3, 4}
    assert gt.num_keypoints == 17
    for track_id in range(1, 5):
        rows = np.flatnonzero(gt.ids == track_id)
        rows = rows[1:][(np.diff(gt.frames[rows]) == 1)]
        both = (gt.keypoints[rows, :, 2] > 0) & (gt.keypoints[rows, :, 2] > 0)
        centers = gt.keypoints[rows, 11, :2]
        steps = np.linalg.norm(np.diff(centers, axis=0), axis=1)
        assert both.any()
        assert np.median(steps) < 0.1 * np.ptp(gt.boxes[rows][:, [1, 3]], axis=1).mean()


def test_figures_of_a_crossing_meet() -> None:
    sequence = FigureSequence("crossing-2", 0)
    overlap = 0.0
    gt = sequence.gt
    for frame in gt.by_frame():
        if len(frame.ids) == 2:
            overlap = max(overlap, float(box_iou(frame.boxes[:1], frame.boxes[1:])[0, 0]))
    first, last = gt.boxes[gt.ids == 1][[0, -1], 0]
    other_first, other_last = gt.boxes[gt.ids == 2][[0, -1], 0]
    assert overlap > 0.3
    assert (first - other_first) * (last - other_last) < 0  # they have changed sides


def test_figures_leave_and_come_back() -> None:
    gt = FigureSequence("reentry-4", 0).gt
    gaps = [np.diff(gt.frames[gt.ids == track_id]).max() for track_id in range(1, 5)]
    assert max(gaps) > 15


def test_rates_of_the_detector() -> None:
    base = {"missed": 0.0, "false_positives": 0.0}
    clean = short("crowd-6", frames=40, **base)
    missed = short("crowd-6", frames=40, missed=0.5, false_positives=0.0)
    noisy = short("crowd-6", frames=40, missed=0.0, false_positives=3.0)
    assert (clean.detections.ids == NO_ID).all()
    assert len(missed.detections) == pytest.approx(0.5 * len(clean.detections), rel=0.25)
    assert len(noisy.detections) - len(clean.detections) == pytest.approx(120, rel=0.5)
    best = [box_iou(frame.boxes, clean.gt.boxes[clean.gt.frames == frame.number]).max(axis=1)
            for frame in clean.detections.by_frame() if len(frame.ids)]  # fmt: skip
    assert np.median(np.concatenate(best)) > 0.8


def test_hidden_points_have_a_low_confidence() -> None:
    sequence = short("crossing-2", frames=10)
    points = sequence.detections.keypoints[..., 2]
    assert points.min() > 0
    assert points.max() < 1


def test_camera_moves_the_background(tmp_path: Path) -> None:
    static, moving = short("crowd-6", frames=12), short("pan-6", frames=12)
    changes = []
    for sequence in (static, moving):
        first, last = (cv2.GaussianBlur(sequence.render(n), (0, 0), 3).astype(float) for n in (1, 12))
        changes.append(np.median(np.abs(first - last).max(axis=2)))
    assert changes[1] > 2 * changes[0]


def test_posts_hide_figures() -> None:
    open_field, posts = (short("occlusion-4", frames=100, posts=count) for count in (0, 2))
    assert len(posts.gt) < len(open_field.gt)


def test_written_sequences_are_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = SequenceSpec(group="crossing", scenario="crossing", count=2, frames=5, size=(90, 160))
    monkeypatch.setitem(SEQUENCES, "tiny", tiny)
    (folder,) = write_sequences(tmp_path, ["tiny"], [3], video=True)
    assert sorted(path.name for path in folder.iterdir()) == ["detections.jsonl", "frames.mp4", "gt.jsonl"]
    (gt,) = read_tracks(folder / "gt.jsonl")
    sequence = FigureSequence("tiny", 3)
    np.testing.assert_allclose(gt.keypoints, sequence.gt.keypoints, atol=1e-5)
    assert (gt.name, gt.fps, gt.size) == ("tiny-s3", 30.0, (90, 160))
    video = cv2.VideoCapture(str(folder / "frames.mp4"))
    assert int(video.get(cv2.CAP_PROP_FRAME_COUNT)) == 5
    images = write_frames(tmp_path / "frames", sequence)
    assert [path.name for path in sorted(images.iterdir())] == [f"{number:06d}.png" for number in range(1, 6)]
    np.testing.assert_array_equal(cv2.imread(str(images / "000002.png")), sequence.render(2))
    before = (folder / "gt.jsonl").stat().st_mtime_ns
    write_sequences(tmp_path, ["tiny"], [3])
    assert (folder / "gt.jsonl").stat().st_mtime_ns == before


def test_impossible_requests() -> None:
    with pytest.raises(UsageError, match=r"Did you mean 'crowd-6'"):
        FigureSequence("crowd-7")
    with pytest.raises(UsageError, match="from 0"):
        FigureSequence("crowd-6", -1)
    with pytest.raises(UsageError, match="does not exist"):
        short("crowd-6").render(21)
