"""Track files of results: what the sinks write is what the readers of track files return."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from yolopose.data.tracks import TRACK_FORMATS, Tracks, read_tracks
from yolopose.data.tracks.tracks import NO_ID
from yolopose.predict.sinks.base import Sink, WriteContext
from yolopose.predict.sinks.tables import CsvTable, JsonLines
from yolopose.predict.sinks.track_files import TrackFiles
from yolopose.results import Results
from yolopose.results.results import Frame
from yolopose.schema import KeypointSchema
from yolopose.track.recording import collect_tracks

SCHEMA = KeypointSchema(count=2, names={0: ("head", "tail")})


def make_results(path: str = "walk.mp4", count: int = 3, **changes: Any) -> list[Results]:
    """Frames with two tracked instances; the second frame is empty."""
    rng = np.random.default_rng(3)
    results: list[Results] = []
    for number in range(1, count + 1):
        rows = 0 if number == 2 else 2
        corners = rng.uniform(0, 20, (rows, 2))
        boxes = np.column_stack((corners, corners + 20, np.arange(rows) + 5, np.full(rows, 0.75), np.zeros(rows)))
        points = rng.uniform(0.1, 0.9, (rows, 2, 3)) * (40, 40, 1)
        frame = Frame(number, total=count, fps=20.0)
        values: dict[str, Any] = {"boxes": boxes, "keypoints": points, "schema": SCHEMA, "frame": frame, **changes}
        results.append(Results(np.zeros((48, 64, 3), np.uint8), path, {0: "mouse"}, **values))
    return results


def written(sink: Sink, folder: Path, results: list[Results]) -> None:
    for result in results:
        sink.write(WriteContext(result, folder, Path(result.path).stem, {}))
    sink.close()
    sink.close()


def check(tracks: Tracks, results: list[Results], points: bool = True) -> None:
    boxes = np.concatenate([np.asarray(result.boxes.data) for result in results if result.boxes is not None])
    assert tracks.frames.tolist() == [1, 1, 3, 3]
    assert tracks.ids.tolist() == [5, 6, 5, 6]
    np.testing.assert_allclose(tracks.boxes, boxes[:, :4], atol=1e-3)
    if points:
        expected = np.concatenate([np.asarray(result.keypoints.data) for result in results if result.keypoints])
        np.testing.assert_allclose(tracks.keypoints, expected, atol=1e-5)
        assert tracks.keypoint_names == ("head", "tail")


@pytest.mark.parametrize("format", [name for name in TRACK_FORMATS if name != "deeplabcut"])
def test_formats(tmp_path: Path, format: str) -> None:
    if format == "parquet":
        pytest.importorskip("pyarrow")
    results = make_results()
    sink = TrackFiles(format)
    written(sink, tmp_path, results)
    assert sink.summary == "1 track file"
    (tracks,) = read_tracks(tmp_path / "tracks" / f"walk{TRACK_FORMATS[format]}")
    check(tracks, results, points=format != "mot")


def test_deeplabcut_has_points_only(tmp_path: Path) -> None:
    results = make_results()
    written(TrackFiles("deeplabcut"), tmp_path, results)
    (tracks,) = read_tracks(tmp_path / "tracks/walk.csv")
    assert tracks.ids.tolist() == [5, 6, 5, 6]
    assert tracks.frame_numbers.tolist() == [1, 2, 3]


@pytest.mark.parametrize(("sink", "file"), [(JsonLines(), "predictions.jsonl"), (CsvTable(), "predictions.csv")])
def test_tables_of_predict_are_track_files(tmp_path: Path, sink: Sink, file: str) -> None:
    results = make_results()
    written(sink, tmp_path, results)
    (tracks,) = read_tracks(tmp_path / file)
    check(tracks, results)
    if file.endswith("jsonl"):
        assert (tracks.fps, tracks.size, tracks.frame_numbers.tolist()) == (20.0, (48, 64), [1, 2, 3])


def test_videos_have_separate_files(tmp_path: Path) -> None:
    sink = TrackFiles("mot")
    first, second = make_results("a.mp4"), make_results("b.mp4")
    written(sink, tmp_path, [result for pair in zip(first, second, strict=True) for result in pair])
    assert sorted(path.name for path in (tmp_path / "tracks").iterdir()) == ["a.txt", "b.txt"]
    assert [video.name for video in read_tracks(tmp_path / "tracks")] == ["a", "b"]


def test_images_are_the_frames_of_one_video(tmp_path: Path) -> None:
    written(TrackFiles("mot"), tmp_path, make_results(frame=None))
    (tracks,) = read_tracks(tmp_path / "tracks/images.txt")
    assert tracks.frames.tolist() == [1, 1, 3, 3]


@pytest.mark.parametrize("format", ["jsonl", "csv"])
def test_measured_points_of_smoothed_results(tmp_path: Path, format: str) -> None:
    results = make_results()
    for result in results:
        measured = np.asarray(result.keypoints.data) + np.array([1.5, 0, 0])
        result.raw_keypoints = Results(np.zeros((48, 64, 3), np.uint8), "x", {}, keypoints=measured).keypoints
    written(TrackFiles(format, has_raw=True), tmp_path, results)
    (from_file,) = read_tracks(tmp_path / f"tracks/walk.{format}")
    (collected,) = collect_tracks(results)
    for tracks in (from_file, collected):
        assert tracks.raw_keypoints is not None
        shift = np.tile([1.5, 0, 0], (4, 2, 1))
        np.testing.assert_allclose(tracks.raw_keypoints - tracks.keypoints, shift, atol=2e-5)


def test_collected_results_are_tracks() -> None:
    results = make_results("a.mp4")
    both = [result for pair in zip(results, make_results("b.mp4"), strict=True) for result in pair]
    first, second = collect_tracks(iter(both))
    assert (first.name, second.name, first.fps, first.size) == ("a.mp4", "b.mp4", 20.0, (48, 64))
    check(first, results)
    assert first.frame_numbers.tolist() == [1, 2, 3]
    (images,) = collect_tracks(make_results("folder/1.jpg", frame=None))
    assert (images.name, images.frames.tolist()) == ("folder", [1, 1, 3, 3])
    (empty,) = collect_tracks(make_results()[1:2])
    assert (len(empty), empty.frame_numbers.tolist()) == (0, [2])
    assert collect_tracks([]) == []


def test_without_ids_points_or_boxes(tmp_path: Path) -> None:
    results = make_results()
    for result in results:
        result.boxes = Results(
            np.zeros((48, 64, 3), np.uint8), "x", {}, boxes=np.delete(np.asarray(result.boxes.data), 4, axis=1)
        ).boxes
    written(TrackFiles("jsonl"), tmp_path, results)
    (tracks,) = read_tracks(tmp_path / "tracks/walk.jsonl")
    assert set(tracks.ids.tolist()) == {NO_ID}
    written(TrackFiles("csv"), tmp_path, make_results(keypoints=None))
    (tracks,) = read_tracks(tmp_path / "tracks/walk.csv")
    assert tracks.num_keypoints == 0
