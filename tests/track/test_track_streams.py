from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from fake_runtime import FakeRuntime
from servers import Server
from stream_server import in_turn, refused, stream_images
from yolopose.base.errors import SourceError, UsageError
from yolopose.config import PredictOptions, TrackOptions
from yolopose.predict import predict
from yolopose.predict.sources import live
from yolopose.predict.sources.base import RetryPolicy
from yolopose.results import Frame, HostArray, Results
from yolopose.track import StreamTrackers

SIZE = (96, 128)


def scene(t: int, *, green: bool = True, offset: int = 0) -> np.ndarray:
    """A red rectangle that moves to the right, and a green one that moves to the left."""
    image = np.zeros((*SIZE, 3), np.uint8)
    image[20:60, 10 + offset + 2 * t : 30 + offset + 2 * t, 2] = 255
    if green:
        image[30:80, 100 - t : 120 - t, 1] = 255
    return image


def write_video(path: Path, frames: list[np.ndarray], fps: float = 25) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), fps, SIZE[::-1])
    for image in frames:
        writer.write(image)
    writer.release()
    return path


def track(source: Any, trackers: StreamTrackers | None = None, **options: Any) -> Iterator[Results]:
    given = TrackOptions(**{"imgsz": 128, "verbose": False, **options})
    return predict(FakeRuntime(), source, given, tracker=trackers or StreamTrackers(given.tracker))


def ids_of(results: Iterator[Results]) -> list[list[int]]:
    return [result.boxes.id.astype(int).tolist() for result in results]  # type: ignore[union-attr]


def test_each_video_starts_with_id_1(tmp_path: Path) -> None:
    first = write_video(tmp_path / "a.mp4", [scene(t) for t in range(12)])
    second = write_video(tmp_path / "b.mp4", [scene(t, green=t > 3) for t in range(12)])
    results = list(track([str(first), str(second), str(first)]))
    by_video = [[r.boxes.id.astype(int).tolist() for r in results if r.frame.video == n] for n in range(3)]
    assert by_video[0] == by_video[2] == [[1, 2]] * 12
    assert by_video[1] == [[1]] * 5 + [[1, 2]] * 7
    assert all(result.boxes.is_track and result.speed["track"] >= 0 for result in results)


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("stride", [1, 3])
def test_batches_and_strides(tmp_path: Path, batch: int, stride: int) -> None:
    path = write_video(tmp_path / "a.mp4", [scene(t) for t in range(30)])
    assert ids_of(track(str(path), batch=batch, vid_stride=stride)) == [[1, 2]] * (30 // stride)


def test_images_are_one_sequence_and_bad_ones_keep_their_place(tmp_path: Path) -> None:
    for t in range(8):
        (tmp_path / f"{t}.png").write_bytes(cv2.imencode(".png", scene(t))[1].tobytes())
    (tmp_path / "3.png").write_bytes(b"no image")
    results = list(track(str(tmp_path)))
    assert ids_of(iter(results)) == [[1, 2], [1, 2], [1, 2], [], *[[1, 2]] * 4]
    assert results[3].error
    assert results[3].boxes.is_track


def test_arrays_are_reported_as_measured() -> None:
    images = [scene(t) for t in range(5)]
    plain = list(predict(FakeRuntime(), images, PredictOptions(imgsz=128, verbose=False)))
    tracked = list(track(images))
    for one, other in zip(plain, tracked, strict=True):
        np.testing.assert_array_equal(one.boxes.xyxy, other.boxes.xyxy)
        np.testing.assert_array_equal(one.keypoints.data, other.keypoints.data)
        assert isinstance(other.boxes.data, HostArray)


def test_files_have_the_ids(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", [scene(t) for t in range(6)])
    outputs = dict.fromkeys(("save", "save_txt", "save_conf", "save_csv", "save_jsonl", "save_json"), True)
    results = list(track(str(path), project=str(tmp_path / "runs"), **outputs))
    folder = Path(results[0].save_dir)
    assert folder == tmp_path / "runs/track"
    assert (folder / "a.mp4").stat().st_size > 0
    lines = [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]
    assert [[row["track_id"] for row in line["detections"]] for line in lines] == [[1, 2]] * 6
    rows = (folder / "predictions.csv").read_text().splitlines()[1:]
    assert [row.split(",")[2] for row in rows] == ["1", "2"] * 6
    labels = (folder / "labels/a_3.txt").read_text().splitlines()
    assert [line.split()[-1] for line in labels] == ["1", "2"]
    assert [row["track_id"] for row in results[2].summary()] == [1, 2]
    assert "1 red, 1 green" in results[2].verbose()


def test_streams_have_their_own_ids(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two streams at once have the ids that each has alone."""
    monkeypatch.setattr(live, "RETRY_POLICY", RetryPolicy(2, 0.7, 0.05, 0.2, 0.3, 1))
    scenes = {"/a.mjpg": [scene(t) for t in range(10)], "/b.mjpg": [scene(t, green=t > 4) for t in range(10)]}

    def run(*names: str) -> dict[str, list[list[int]]]:
        for name in names:
            server.answers[name] = in_turn(stream_images(scenes[name]), refused(404))
        listing = tmp_path / "cams.streams"
        listing.write_text("".join(f"{server.address}{name}\n" for name in names))
        got: dict[str, list[list[int]]] = {name: [] for name in names}
        with suppress(SourceError):  # the servers refuse the next connection
            for result in track(str(listing), stream_buffer=True):
                got[names[result.frame.video]].append(result.boxes.id.astype(int).tolist())
        return got

    alone = {**run("/a.mjpg"), **run("/b.mjpg")}
    assert run("/a.mjpg", "/b.mjpg") == alone
    assert alone["/a.mjpg"] == [[1, 2]] * 10
    assert alone["/b.mjpg"][-1] == [1, 2]


def result_at(t: int, frame: Frame | None) -> Results:
    """A result with one instance, as a frame of a stream."""
    box = np.array([[10 + t, 20, 40 + t, 90, 0.9, 0]], np.float32)
    image = np.zeros((*SIZE, 3), np.uint8)
    return Results(image, "x.jpg", {0: "red"}, boxes=HostArray(box), frame=frame)


def ids_at(trackers: StreamTrackers, frames: list[Frame | None], first: int = 0) -> list[list[int]]:
    got: list[list[int]] = []
    for t, frame in enumerate(frames, first):
        result = result_at(t, frame)
        trackers.track(result, HostArray)
        got.append(result.boxes.id.astype(int).tolist())  # type: ignore[union-attr]
    return got


def live_frames(at: list[float]) -> list[Frame | None]:
    return [Frame(number + 1, None, 25, live=True, at=time) for number, time in enumerate(at)]


def test_stream_that_stalls_for_a_minute() -> None:
    at = [0, 0.04, 0.08, 60, 60.04]
    assert ids_at(StreamTrackers(), live_frames(at)) == [[1], [1], [1], [], [2]]


def test_calls_continue_streams_and_images_but_not_videos() -> None:
    kinds: list[tuple[Callable[[], list[Frame | None]], list[list[int]]]] = [
        (lambda: live_frames([0, 0.04]), [[1], [1]]),
        (lambda: [None, None], [[1], [1]]),
    ]
    for make, expected in kinds:
        trackers = StreamTrackers()
        ids_at(trackers, make())
        trackers.start_call()
        assert ids_at(trackers, make(), first=2) == expected
    trackers = StreamTrackers()
    videos: list[Frame | None] = [Frame(1, 2, 25), Frame(2, 2, 25)]
    ids_at(trackers, videos)
    trackers.start_call()
    far = [result_at(80, frame) for frame in videos]  # somewhere else: it would have id 2 in the same video
    for result in far:
        trackers.track(result, HostArray)
    assert [int(result.boxes.id[0]) for result in far] == [1, 1]


def test_frame_rate_and_time() -> None:
    """A track that is lost for 0.5 s continues, at any frame rate."""
    for fps, number in ((10, 6), (100, 51)):
        frames: list[Frame | None] = [Frame(1, None, fps), Frame(2, None, fps), Frame(2 + number, None, fps)]
        assert ids_at(StreamTrackers(), frames) == [[1]] * 3
    trackers = StreamTrackers()
    for time, expected in ((0.0, [1]), (0.1, [1]), (5.0, [])):
        result = result_at(0, None)
        trackers.track(result, HostArray, time)
        assert result.boxes.id.astype(int).tolist() == expected  # type: ignore[union-attr]


def test_state_of_all_streams() -> None:
    trackers = StreamTrackers("bytetrack.yaml", max_instances=4)
    ids_at(trackers, [None, *live_frames([0, 0.04])])
    state = json.loads(json.dumps(trackers.state_dict()))
    again = StreamTrackers.from_state_dict(state)
    assert again.config == trackers.config
    assert ids_at(again, [None, *live_frames([0.08, 0.12])], first=1) == [[1], [1], [1]]
    for wrong in ({}, [], {"format": 1}, {**state, "format": 7}, {**state, "trackers": {"images": {}}}):
        with pytest.raises(UsageError, match="not the state"):
            StreamTrackers.from_state_dict(wrong)  # type: ignore[arg-type]
