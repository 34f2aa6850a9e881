"""`YOLO.track`, with an engine that detects colored rectangles."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from fake_runtime import FakeRuntime, painted
from yolopose import YOLO
from yolopose.base.errors import UsageError
from yolopose.cli import main
from yolopose.config.options import TrackOptions

pytest.importorskip("torch")

SMALL = """
nc: 2
kpt_shape: [2, 3]
backbone: [[-1, 1, Conv, [8, 3, 2]]]
head: [[[0], 1, Pose, [nc, kpt_shape]]]
"""


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> YOLO:
    (tmp_path / "small.yaml").write_text(SMALL)
    monkeypatch.setattr(YOLO, "_runtime_for", lambda self, options: FakeRuntime())
    return YOLO(tmp_path / "small.yaml")


def scene(t: int) -> np.ndarray:
    return painted(96, 128, (10 + 2 * t, 20, 40 + 2 * t, 80))


def ids(model: YOLO, source: Any, **options: Any) -> list[list[int]]:
    results = model.track(source, imgsz=128, verbose=False, **options)
    return [result.boxes.id.int().numpy().tolist() for result in results]


def test_persist_continues_single_frames(model: YOLO) -> None:
    empty = np.zeros((96, 128, 3), np.uint8)
    got = [ids(model, image, persist=True) for image in (scene(0), empty, scene(2), scene(3))]
    assert got == [[[1]], [[]], [[1]], [[1]]]
    far = painted(96, 128, (90, 5, 120, 40))
    assert [ids(model, far, persist=True) for _ in range(2)] == [[[]], [[2]]]
    assert ids(model, far) == [[1]]  # without persist, ids start again
    model.reset_tracker()
    assert ids(model, far, persist=True) == [[1]]


def test_timestamps(model: YOLO) -> None:
    times = [(0.0, [1]), (0.5, [1]), (9.0, []), (9.5, [2])]
    for time, expected in times:
        assert ids(model, scene(0), persist=True, timestamp=time) == [expected]


def test_other_options_start_again(model: YOLO, capsys: pytest.CaptureFixture[str]) -> None:
    ids(model, scene(0), persist=True)
    assert ids(model, painted(96, 128, (90, 5, 120, 40)), persist=True, tracker="ocsort.yaml") == [[1]]
    assert "differ from those of the previous call" in capsys.readouterr().err


def test_killed_run_continues_from_a_saved_state(model: YOLO, tmp_path: Path) -> None:
    far = painted(96, 128, (90, 5, 120, 40), cls=1)
    ids(model, scene(0), persist=True)
    for _ in range(2):
        ids(model, scene(1) + far, persist=True)
    text = json.dumps(model.tracker.state_dict())
    after = YOLO(tmp_path / "small.yaml")
    after.load_tracker_state(json.loads(text))
    assert ids(after, far, persist=True) == ids(model, far, persist=True) == [[2]]
    with pytest.raises(UsageError, match="not the state"):
        after.load_tracker_state({"trackers": 3})


def test_default_confidence_is_that_of_the_tracker(model: YOLO, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float] = []
    infer = FakeRuntime.infer

    def spy(self: FakeRuntime, batch: np.ndarray, *, conf: float, **options: Any) -> Any:
        seen.append(conf)
        return infer(self, batch, conf=conf, **options)

    monkeypatch.setattr(FakeRuntime, "infer", spy)
    ids(model, scene(0))
    ids(model, scene(0), conf=0.4)
    model(scene(0), imgsz=128, verbose=False)
    assert seen == [0.1, 0.4, 0.25]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tracker": "bytetrak.yaml"}, "Did you mean 'bytetrack.yaml'"),
        ({"max_instances": 0}, "max_instances"),
        ({"fps": 0}, "fps"),
        ({"trakcer": "oks.yaml"}, "Did you mean 'tracker'"),
    ],
)
def test_wrong_options(model: YOLO, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as error:
        model.track(scene(0), **options)
    assert message in str(error.value)


def test_command_line(model: YOLO, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "walk.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 10, (128, 96))
    for t in range(6):
        writer.write(scene(t))
    writer.release()
    options = [f"model={tmp_path / 'small.yaml'}", f"source={path}", "imgsz=128", f"project={tmp_path / 'runs'}"]
    assert main(["pose", "track", *options, "save_csv=True", "max_instances=1", "tracker=ocsort"]) == 0
    rows = (tmp_path / "runs/track/predictions.csv").read_text().splitlines()
    assert [row.split(",")[2] for row in rows[1:]] == ["1"] * 6
    assert (tmp_path / "runs/track/walk.mp4").is_file()
    assert "ms track" in capsys.readouterr().out
    assert main(["track", *options[:1]]) == 1
    assert "Tracking needs a video" in capsys.readouterr().err
    assert TrackOptions.tracker == "oks.yaml"


def test_live_smoothing_keeps_the_measured_points(model: YOLO, tmp_path: Path) -> None:
    images = [scene(t + 3 * (t % 2)) for t in range(8)]  # trembling
    options: dict[str, Any] = {"imgsz": 128, "verbose": False, "project": str(tmp_path)}
    plain = model.track(images, **options)
    smoothed = model.track(images, smooth=True, save_jsonl=True, **options)
    lines = [json.loads(line) for line in (tmp_path / "track/predictions.jsonl").read_text().splitlines()]
    for one, other, line in zip(plain, smoothed, lines, strict=True):
        assert one.raw_keypoints is None
        np.testing.assert_array_equal(one.keypoints.data, other.raw_keypoints.data)
        np.testing.assert_array_equal(other[0].raw_keypoints.data, other.raw_keypoints.data)
        detection = line["detections"][0]
        np.testing.assert_allclose(detection["keypoints_raw"]["x"], one.keypoints.xy[0, :, 0], atol=1e-4)
        np.testing.assert_allclose(detection["keypoints"]["x"], other.keypoints.xy[0, :, 0], atol=1e-4)
    jumps = [np.abs(np.diff([r.keypoints.xy[0, 0, 0] for r in results], n=2)).mean() for results in (plain, smoothed)]
    assert jumps[1] < 0.8 * jumps[0]


def test_killed_run_on_a_video_continues_with_the_same_ids(model: YOLO, tmp_path: Path) -> None:
    """The frames are read by the caller, as docs/tracking.md shows, and the state is saved every fifth frame."""
    path = tmp_path / "walk.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25, (128, 96))
    for t in range(17):
        writer.write(scene(t) + (painted(96, 128, (90, 5, 120, 40), cls=1) if 3 <= t < 8 or t > 11 else 0))
    writer.release()

    def run(model: YOLO, first: int, saved: dict[int, str]) -> list[list[int]]:
        video = cv2.VideoCapture(str(path))
        for _ in range(first):
            video.grab()
        tracked: list[list[int]] = []
        for number in range(first, 17):
            tracked += ids(model, video.read()[1], persist=True, timestamp=number / 25)
            saved[number + 1] = json.dumps(model.tracker.state_dict())
        return tracked

    saved: dict[int, str] = {}
    whole = run(model, 0, saved)
    assert {1, 2} <= {track_id for frame in whole for track_id in frame}
    for first in (5, 10, 15):
        after = YOLO(tmp_path / "small.yaml")
        after.load_tracker_state(json.loads(saved[first]))
        assert run(after, first, {}) == whole[first:], first


def test_smoothed_state_continues(model: YOLO) -> None:
    images = [scene(t + 3 * (t % 2)) for t in range(8)]
    options: dict[str, Any] = {"imgsz": 128, "verbose": False, "persist": True, "smooth": True}
    whole = [model.track(image, **options)[0] for image in images]
    model.reset_tracker()
    for image in images[:4]:
        model.track(image, **options)
    model.load_tracker_state(json.loads(json.dumps(model.tracker.state_dict())))
    after = [model.track(image, **options)[0] for image in images[4:]]
    for one, other in zip(whole[4:], after, strict=True):
        np.testing.assert_array_equal(one.keypoints.data, other.keypoints.data)


def test_offline_smoothing_and_track_files(model: YOLO, tmp_path: Path) -> None:
    images = [scene(t + 3 * (t % 2)) for t in range(12)]
    options: dict[str, Any] = {"imgsz": 128, "verbose": False, "project": str(tmp_path)}
    results = model.track(images, smooth="offline", save_tracks="mot", **options)
    folder = Path(results[0].save_dir)
    assert (folder / "predictions.jsonl").is_file()
    lines = (folder / "predictions-smooth.jsonl").read_text().splitlines()
    assert len(lines) == 12
    assert "keypoints_raw" in json.loads(lines[5])["detections"][0]
    assert len((folder / "tracks/images.txt").read_text().splitlines()) == 12
    empty = [np.zeros((96, 128, 3), np.uint8)] * 2
    results = model.track(empty, smooth="offline", save_tracks="jsonl", **options)
    assert not (Path(results[0].save_dir) / "predictions-smooth.jsonl").exists()
    with pytest.raises(UsageError, match="offline"):
        model.track(images, smooth="later", **options)
