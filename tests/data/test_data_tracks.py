"""Track files: every format holds what it can hold, and damaged files are one plain error."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from yolopose.base.errors import DataError, NotFoundError, UsageError
from yolopose.data.tracks import TrackFrame, Tracks, open_track_writer, read_tracks, track_format, write_tracks
from yolopose.data.tracks.tracks import NO_ID
from yolopose.schema import KeypointSchema

NAMES = ("snout", "left_ear", "tail")


def make_tracks(**changes: Any) -> Tracks:
    """Two mice over four frames; frame 3 is empty, and one instance has no id."""
    rng = np.random.default_rng(5)
    frames = np.array([1, 1, 2, 2, 4, 4])
    corners = rng.uniform(0, 50, (6, 2)).round(3)
    points = np.concatenate((rng.uniform(0, 90, (6, 3, 2)), rng.uniform(0.1, 1, (6, 3, 1))), axis=2).round(3)
    points[0, 1] = 0
    values: dict[str, Any] = {
        "frames": frames,
        "ids": [1, 7, 1, 7, 7, NO_ID],
        "boxes": np.concatenate((corners, corners + rng.uniform(5, 40, (6, 2)).round(3)), axis=1),
        "scores": rng.uniform(0.2, 1, 6).round(3),
        "classes": [0, 1, 0, 1, 1, 0],
        "keypoints": points,
        "frame_numbers": [1, 2, 3, 4],
        "name": "cage.mp4",
        "fps": 25.0,
        "size": (96, 128),
        "class_names": {0: "mouse", 1: "rat"},
        "schema": KeypointSchema(count=3, names={0: NAMES}),
    }
    return Tracks.build(**{**values, **changes})


def assert_same(first: Tracks, second: Tracks, names: tuple[str, ...]) -> None:
    for name in names:
        np.testing.assert_allclose(getattr(first, name), getattr(second, name), atol=1e-5, err_msg=name)


ALL = ("frames", "ids", "boxes", "scores", "classes", "keypoints", "interpolated")


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_tables_hold_everything(tmp_path: Path, suffix: str) -> None:
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    tracks = make_tracks()
    (loaded,) = read_tracks(write_tracks(tmp_path / f"tracks{suffix}", tracks))
    assert_same(tracks, loaded, ALL)
    assert loaded.name == "cage.mp4"
    assert loaded.class_names == {0: "mouse", 1: "rat"}
    assert loaded.keypoint_names == NAMES
    if suffix != ".csv":  # a CSV file has neither empty frames nor rate and size
        assert (loaded.fps, loaded.size) == (25.0, (96, 128))
        assert_same(tracks, loaded, ("frame_numbers",))


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_smoothed_tracks_keep_measured_points(tmp_path: Path, suffix: str) -> None:
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    tracks = make_tracks()
    raw = tracks.keypoints + 1.5
    raw[3] = np.nan
    filled = np.arange(6) == 3
    smoothed = replace(tracks, raw_keypoints=raw, interpolated=filled)
    (loaded,) = read_tracks(write_tracks(tmp_path / f"tracks{suffix}", smoothed))
    assert_same(smoothed, loaded, (*ALL, "raw_keypoints"))


def test_mot_holds_boxes(tmp_path: Path) -> None:
    tracks = make_tracks()
    path = write_tracks(tmp_path / "cage.txt", tracks)
    (loaded,) = read_tracks(path)
    assert_same(tracks, loaded, ("frames", "ids", "boxes", "scores"))
    assert loaded.num_keypoints == 0
    first = path.read_text().splitlines()[0].split(",")
    left, top, right, bottom = tracks.boxes[0]
    np.testing.assert_allclose([float(cell) for cell in first[2:6]], [left, top, right - left, bottom - top], atol=1e-3)


def test_mot_ground_truth_with_sequence_information(tmp_path: Path) -> None:
    folder = tmp_path / "MOT17-02"
    (folder / "gt").mkdir(parents=True)
    (folder / "gt/gt.txt").write_text("1,1,10,20,30,40,1,1,0.9\n2,1,11,20,30,40,1,1,1\n2,2,50,20,30,40,0,11,1\n")
    (folder / "seqinfo.ini").write_text("[Sequence]\nseqLength=5\nframeRate=30\nimWidth=640\nimHeight=480\n")
    for path in (folder / "gt/gt.txt", tmp_path):
        (gt,) = read_tracks(path)
        assert gt.name == "MOT17-02"
        assert gt.ids.tolist() == [1, 1]  # the row with flag 0 is not to be evaluated
        assert gt.boxes[0].tolist() == [10, 20, 40, 60]
        assert gt.frame_numbers.tolist() == [1, 2, 3, 4, 5]
        assert (gt.fps, gt.size) == (30.0, (480, 640))


def test_deeplabcut(tmp_path: Path) -> None:
    tracks = make_tracks()
    path = write_tracks(tmp_path / "cage.csv", tracks, "deeplabcut")
    with path.open(newline="") as file:
        rows = list(csv.reader(file))
    assert [row[0] for row in rows] == ["scorer", "individuals", "bodyparts", "coords", "0", "1", "2", "3"]
    assert rows[1][1:] == ["individual1"] * 9 + ["individual7"] * 9
    assert rows[2][1:10:3] == list(NAMES)
    assert rows[3][1:4] == ["x", "y", "likelihood"]
    assert set(rows[6][1:]) == {""}  # frame 3 is empty
    (loaded,) = read_tracks(path)
    tracked = tracks.select(tracks.ids != NO_ID)
    assert_same(tracked, loaded, ("frames", "ids", "keypoints"))
    assert loaded.keypoint_names == NAMES
    shown = tracked.keypoints[0, [0, 2], :2]
    np.testing.assert_allclose(loaded.boxes[0], np.concatenate((shown.min(axis=0), shown.max(axis=0))), atol=1e-5)


def test_movement_reads_deeplabcut(tmp_path: Path) -> None:
    loader = pytest.importorskip("movement.io.load_poses")
    tracks = make_tracks()
    path = write_tracks(tmp_path / "cage.csv", tracks, "deeplabcut")
    dataset = loader.from_dlc_file(path, fps=25)
    assert dataset.individuals.values.tolist() == ["individual1", "individual7"]
    points = tracks.keypoints[tracks.ids == 7]
    for axis, name in enumerate(("x", "y")):
        values = dataset.position.sel(individuals="individual7", keypoints="tail", space=name).values
        np.testing.assert_allclose(values, [points[0, 2, axis], points[1, 2, axis], np.nan, points[2, 2, axis]])
    assert dataset.confidence.sel(individuals="individual1", keypoints="snout").values[0] == tracks.keypoints[0, 0, 2]


def test_deeplabcut_with_one_animal_and_own_names(tmp_path: Path) -> None:
    path = tmp_path / "one.csv"
    path.write_text("scorer,d,d,d\nbodyparts,nose,nose,nose\ncoords,x,y,likelihood\n0,1,2,0.5\n1,,,\n2,3,4,0.9\n")
    (loaded,) = read_tracks(path)
    assert (loaded.frames.tolist(), loaded.ids.tolist()) == ([1, 3], [1, 1])
    path.write_text(
        "scorer,d,d,d,d,d,d\nindividuals,tom,tom,tom,kit,kit,kit\nbodyparts,a,a,a,a,a,a\n"
        "coords,x,y,likelihood,x,y,likelihood\n0,1,2,0.5,5,6,0.7\n"
    )
    (loaded,) = read_tracks(path)
    assert loaded.ids.tolist() == [1, 2]
    assert loaded.keypoints[1, 0].tolist() == [5, 6, 0.7]


def test_several_videos_in_one_file(tmp_path: Path) -> None:
    first, second = make_tracks(), make_tracks(name="b.mp4")
    for suffix in (".jsonl", ".csv"):
        videos = read_tracks(write_tracks(tmp_path / f"both{suffix}", [first, second]))
        assert [video.name for video in videos] == ["cage.mp4", "b.mp4"]
        assert_same(videos[1], second, ALL)
    with pytest.raises(DataError, match=r"one video"):
        write_tracks(tmp_path / "both.txt", [first, second])
    assert not (tmp_path / "both.txt").exists()
    with pytest.raises(DataError, match="same keypoints"):
        write_tracks(tmp_path / "x.csv", [first, make_tracks(keypoints=np.zeros((6, 2, 3)), schema=None)])


def test_an_interrupted_writer_leaves_the_older_file(tmp_path: Path) -> None:
    path = tmp_path / "tracks.jsonl"
    path.write_text("older")
    writer = open_track_writer(path, video=make_tracks())
    writer.write(next(make_tracks().by_frame()))
    writer.discard()
    assert path.read_text() == "older"
    assert [file.name for file in tmp_path.iterdir()] == ["tracks.jsonl"]


def test_boxes_without_keypoints(tmp_path: Path) -> None:
    tracks = make_tracks(keypoints=None, schema=None)
    (loaded,) = read_tracks(write_tracks(tmp_path / "boxes.jsonl", tracks))
    assert_same(tracks, loaded, ALL)
    with pytest.raises(DataError, match="boxes only"):
        write_tracks(tmp_path / "boxes.csv", tracks, "deeplabcut")


def test_unsorted_frames_are_sorted() -> None:
    tracks = make_tracks()
    order = [5, 3, 0, 4, 1, 2]
    names = ("frames", "ids", "boxes", "scores", "classes", "keypoints")
    shuffled = Tracks.build(**{name: getattr(tracks, name)[order] for name in names})
    assert shuffled.frames.tolist() == [1, 1, 2, 2, 4, 4]
    assert sorted(shuffled.scores.tolist()) == sorted(tracks.scores.tolist())
    frames = {frame.number: frame for frame in shuffled.by_frame()}
    assert len(frames[3].ids) == 0
    assert set(frames[2].ids.tolist()) == {1, 7}


def test_points_with_nan_are_not_labeled() -> None:
    points = make_tracks().keypoints
    points[2, 0, 0] = np.nan
    assert make_tracks(keypoints=points).keypoints[2, 0].tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ids": [1, 1, 1, 7, 7, 8]}, "id 1 is used twice in frame 1"),
        ({"boxes": np.full((6, 4), np.nan)}, "NaN or infinite"),
        ({"boxes": np.tile([5.0, 5, 4, 9], (6, 1))}, "x2 < x1"),
        ({"frames": [0, 1, 2, 2, 4, 4], "frame_numbers": None}, "frame|Frame"),
        ({"frames": [1, 1, 2, 2, 4, 9]}, "frame 9, which is not a frame of the video"),
        ({"ids": [1, 2]}, "2 ids do not match 6 frame numbers"),
        ({"keypoints": np.zeros((6, 3, 4))}, r"shape \(N, K, 3\)"),
    ],
)
def test_invalid_tracks(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        make_tracks(**changes)


DETECTION = '{"class":0,"confidence":0.9,"box":{"x1":1,"y1":2,"x2":3,"y2":4},"track_id":1%s}'


def line(frame: int, detections: str) -> str:
    return f'{{"path":"a.mp4","frame":{frame},"detections":[{detections}]}}\n'


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.jsonl", line(1, DETECTION % "") + "not json\n", "line 2: not valid JSON"),
        ("a.jsonl", '{"frame":1}\n', "line 1: not a frame of JSON Lines; it needs"),
        ("a.jsonl", line(1, '{"class":0}'), "line 1.*'box' is missing"),
        (
            "a.jsonl",
            line(1, DETECTION % ',"keypoints":{"x":[1],"y":[1]}') + line(2, DETECTION % ""),
            "line 2.*0 keyp",
        ),
        ("a.jsonl", line(1, (DETECTION % "").replace('"x2":3', '"x2":null')), "NaN or infinite"),
        ("a.jsonl", line(1, f"{DETECTION % ''},{DETECTION % ''}"), "id 1 is used twice in frame 1"),
        ("a.jsonl", "", "is empty"),
        ("a.txt", "1,1,10,20,30\n", "line 1: 5 columns"),
        ("a.txt", "1,1,10,20,30,40\n1,2,a,20,30,40\n", "line 2: not a MOTChallenge line"),
        ("a.txt", "1,1,nan,20,30,40,1,-1,-1,-1\n", "line 1: a value is NaN"),
        ("a.txt", "1.5,1,10,20,30,40,1,-1,-1,-1\n", "frame number 1.5 is not an integer"),
        ("a.csv", "frame,id\n1,2\n", "columns path, track_id"),
        ("a.csv", "scorer,d\nbodyparts,a\n", "needs the rows"),
        ("a.csv", "scorer,d,d\nbodyparts,a,a\ncoords,x,y\n0,1,2\n", "same bodyparts"),
        ("a.csv", "scorer,d,d,d\nbodyparts,a,a,a\ncoords,x,y,likelihood\n0,1,2\n", "line 4: 3 columns"),
        ("a.csv", "scorer,d,d,d\nbodyparts,a,a,a\ncoords,x,y,likelihood\n0,1,2,1\n0,1,2,1\n", "used twice"),
        ("a.h5", "x", "suffix must be"),
    ],
)
def test_damaged_files(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=message):
        read_tracks(tmp_path / name)


@pytest.mark.parametrize("name", ["t.jsonl", "t.csv", "t.txt", "t.parquet", "d.csv"])
def test_random_damage_is_a_plain_error_or_readable(tmp_path: Path, name: str) -> None:
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    path = write_tracks(tmp_path / name, make_tracks(), "deeplabcut" if name == "d.csv" else None)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    messages: list[str] = []
    for _ in range(150):
        damaged = bytearray(whole)
        for position in rng.integers(0, len(whole), rng.integers(1, 4)):
            damaged[position] = rng.choice(list(b'09e-.,{}[]":nN \n\x00\xff'))
        path.write_bytes(damaged[: rng.integers(1, len(whole) + 1)] if rng.random() < 0.3 else damaged)
        try:
            read_tracks(path)
        except DataError as error:
            messages.append(str(error))
    assert len(messages) > 20
    assert all(name in message for message in messages)


def test_values_that_are_not_finite_are_null(tmp_path: Path) -> None:
    tracks = make_tracks()
    frame = next(tracks.by_frame())
    frame.keypoints[0, 2] = np.nan
    writer = open_track_writer(tmp_path / "t.jsonl", video=tracks)
    writer.write(frame)
    writer.close()
    (loaded,) = read_tracks(tmp_path / "t.jsonl")
    assert loaded.keypoints[0, 2].tolist() == [0, 0, 0]


def test_damaged_table_names_line(tmp_path: Path) -> None:
    path = write_tracks(tmp_path / "t.csv", make_tracks())
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], lines[1].replace(lines[1].split(",")[6], "wide")]))
    with pytest.raises(DataError, match="line 2: x1 is 'wide'"):
        read_tracks(path)
    path.write_text("\n".join([lines[0], lines[1] + ",1"]))
    with pytest.raises(DataError, match="line 2"):
        read_tracks(path)


def test_binary_and_missing_files(tmp_path: Path) -> None:
    (tmp_path / "walking.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="UTF-8"):
        read_tracks(tmp_path / "walking.jsonl")
    with pytest.raises(NotFoundError, match=r"Did you mean .*walking.jsonl"):
        read_tracks(tmp_path / "walkin.jsonl")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no track files"):
        read_tracks(tmp_path / "empty")


def test_incomplete_last_line_of_a_killed_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(line(1, DETECTION % "") + line(2, DETECTION % "")[:40])
    (tracks,) = read_tracks(path)
    assert tracks.frames.tolist() == [1]


def test_images_without_frame_numbers_are_one_video(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    records = [{"path": f"seq/{n}.jpg", "frame": None, "detections": [json.loads(DETECTION % "")]} for n in range(3)]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    (tracks,) = read_tracks(path)
    assert (tracks.name, tracks.frames.tolist()) == ("seq", [1, 2, 3])


def test_format_of_a_file() -> None:
    assert track_format("a.csv") == "csv"
    assert track_format("a.csv", "deeplabcut") == "deeplabcut"
    with pytest.raises(UsageError, match=r"Did you mean 'jsonl'"):
        track_format("a.csv", "json")
    with pytest.raises(UsageError, match="suffix must be one of"):
        track_format("a.mp4")


def test_streaming_writer_of_deeplabcut_waits_for_all_ids(tmp_path: Path) -> None:
    video = make_tracks().select(slice(0, 0))
    writer = open_track_writer(tmp_path / "d.csv", "deeplabcut", video=video)
    for number, track_id in ((1, 4), (3, 2)):
        writer.write(
            TrackFrame(
                number=number,
                ids=np.array([track_id]),
                boxes=np.array([[0.0, 0, 9, 9]]),
                scores=np.ones(1),
                classes=np.zeros(1, np.int64),
                keypoints=np.full((1, 3, 3), 0.5),
            )
        )
    assert not (tmp_path / "d.csv").exists()
    writer.close()
    (loaded,) = read_tracks(tmp_path / "d.csv")
    assert (loaded.frames.tolist(), loaded.ids.tolist()) == ([1, 3], [4, 2])
    assert loaded.frame_numbers.tolist() == [1, 2, 3]
