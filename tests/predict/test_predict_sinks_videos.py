"""Annotated videos: what is in them, what they are called, what is left when something goes wrong."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import cv2
import numpy as np
import pytest

import yolopose
from fake_runtime import SPEC, settings
from yolopose.base.errors import OutputError
from yolopose.predict.sinks import RunFiles, videos
from yolopose.results import Frame, HostArray, Results


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def frame(number: int, path: str = "in/a.mov", size: tuple[int, int] = (48, 64), **more: object) -> Results:
    """A frame as gray as its number says, with one box."""
    image = np.full((*size, 3), 10 * number % 250, np.uint8)
    boxes = HostArray(np.array([[8, 8, 40, 40, 0.9, 0]], np.float32))
    points = HostArray(np.array([[[10, 10, 0.9], [30, 30, 0.9]]], np.float32))
    times = {"at": (number - 1) / 10} if more.get("live") else {}
    place = Frame(number, **{"fps": 10.0, **times, **more})  # type: ignore[arg-type]  # any field
    return Results(image, path, SPEC.names, boxes=boxes, keypoints=points, schema=SPEC.keypoints, frame=place)


def still(path: str = "in/s.png") -> Results:
    one = frame(1, path)
    one.frame = None
    return one


def saved(results: list[Results], **values: object) -> RunFiles:
    files = RunFiles(settings(**{"save": True, "verbose": False, **values}))  # type: ignore[arg-type]  # any key
    for result in results:
        files.write(result)
    files.close()
    return files


def listed(folder: str = "runs/pose/predict") -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file())


def read(name: str) -> tuple[float, list[np.ndarray]]:
    """Frames per second, and the frames."""
    opened = cv2.VideoCapture(f"runs/pose/predict/{name}")
    frames = []
    while (got := opened.read())[0]:
        frames.append(got[1])
    return opened.get(cv2.CAP_PROP_FPS), frames


@pytest.mark.parametrize(("stride", "fps", "expected"), [(1, 10, 10), (3, 30, 10), (1, 29.97, 29.97), (2, 0, 30)])
def test_video_has_annotated_frames_and_source_fps(stride: int, fps: float, expected: float) -> None:
    results = [frame(number, fps=fps) for number in range(1, 20, stride)]
    saved(results, vid_stride=stride)
    assert listed() == ["a.mp4"]
    rate, frames = read("a.mp4")
    assert rate == pytest.approx(expected, rel=1e-3)
    assert len(frames) == len(results)
    for got, result in zip(frames, results, strict=True):
        assert np.abs(got.astype(int) - result.plot()).mean() < 6  # coded with loss; neighbors differ by 10
        assert np.abs(got.astype(int) - result.orig_img).mean() > 6


@pytest.mark.parametrize(
    ("path", "times", "expected", "count"),
    [
        ("rtsp://host:554/live/cam?user=x", [n / 20 for n in range(12)], 20, 12),
        ("0", [n / 8 for n in range(12)], 8, 12),
        ("0", [float(n) for n in range(12)], 5, 56),  # a frame per second is shown five times
        ("0", [n / 100 for n in range(101)], 30, 31),  # more than can be shown: some are left out
        ("0", [*(n / 100 for n in range(10)), 1.0, 2.0, 3.0], 30, 91),  # what had waited comes at once
        ("0", [*(n / 10 for n in range(10)), 3600.9], 10, 110),  # an hour away: ten seconds of it are redact
        ("0", [0.0], 30, 1),
    ],
)
def test_live_video_runs_in_real_time(path: str, times: list[float], expected: float, count: int) -> None:
    saved([frame(number, path, fps=25, live=True, at=at) for number, at in enumerate(times, start=1)])
    (name,) = listed()
    assert name == ("0.mkv" if path == "0" else "cam.mkv")
    rate, frames = read(name)
    assert rate == pytest.approx(expected, rel=1e-2)
    assert len(frames) == pytest.approx(count, abs=1)


def test_fits_frames_of_other_sizes_with_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    sizes = [(48, 64), (96, 64), (20, 200), (48, 64)]
    saved([frame(20, size=size) for size in sizes])
    _, frames = read("a.mp4")
    assert [one.shape for one in frames] == [(48, 64, 3)] * 4
    assert [one[24, 4].mean() > 100 for one in frames] == [True, False, True, True]  # black left of the tall one
    assert frames[2][4].mean() < 60  # and above the wide one
    assert caplog.text.count("fitted into the first size") == 1


def test_videos_and_images_in_one_run(capsys: pytest.CaptureFixture[str]) -> None:
    results = [still("in/a_2.png"), still(), frame(1), frame(2), still("in/a.png"), frame(1, "other/a.mp4", video=1)]
    results += [frame(1, "b.mp4", video=2), frame(2, "b.mp4", video=2), still("in/b_2.png")]
    every = ("save_txt", "save_frames", "save_crop", "save_json", "save_jsonl", "save_csv")
    saved(results, verbose=True, **dict.fromkeys(every, True))
    names = {Path(name).name for name in listed() if "/" not in name and name != "predictions.json"}
    # labels of frame 2 of the video would be called a_2.txt, as those of the image are
    assert names == {
        "a_2.png", "s.png", "a_3.mp4", "a.png", "a_4.mp4", "b.mp4", "b_2_2.png", "predictions.jsonl", "predictions.csv"
    }  # fmt: skip
    assert len(list(Path("runs/pose/predict/labels").iterdir())) == len(results)
    assert [name for name in listed() if "_frames" in name] == [
        "a_3_frames/1.jpg", "a_3_frames/2.jpg", "a_4_frames/1.jpg", "b_frames/1.jpg", "b_frames/2.jpg"
    ]  # fmt: skip
    plain = cv2.imread("runs/pose/predict/a_3_frames/2.jpg")
    assert plain is not None
    assert np.abs(plain.astype(int) - 20).max() <= 2
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == (
        f"Results saved to {Path('runs/pose/predict')}: 4 images, 3 videos (5 frames), 5 frames, labels of 9, "
        "9 crops, predictions.json (9 detections), predictions.jsonl (9 lines), predictions.csv (9 rows)"
    )


def test_next_source_finishes_video() -> None:
    files = RunFiles(settings(save=True))
    files.write(frame(1))
    assert not Path("runs/pose/predict/a.mp4").exists()
    files.write(still())
    assert len(read("a.mp4")[1]) == 1
    files.write(frame(2))  # late frames are not lost
    files.close()
    files.close()
    assert listed() == ["a.mp4", "a_2.mp4", "s.png"]


def test_limits_open_videos(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(videos, "_MAX_OPEN_VIDEOS", 2)
    order = [0, 1, 0, 2, 0, 1]
    saved([frame(n, f"rtsp://h/{index}", video=index, live=True) for n, index in enumerate(order, 1)])
    assert {name: len(read(name)[1]) for name in listed()} == {"0.mkv": 3, "1.mkv": 1, "1_2.mkv": 1, "2.mkv": 1}


def test_skips_unreadable_frames() -> None:
    broken = Results.unreadable("in/a.mov", SPEC.names, "It is damaged.", schema=SPEC.keypoints, frame=Frame(2))
    saved([frame(1), broken, frame(3)], save_jsonl=True)
    assert len(read("a.mp4")[1]) == 2
    lines = [json.loads(line) for line in Path("runs/pose/predict/predictions.jsonl").read_text().splitlines()]
    assert [line["frame"] for line in lines] == [1, 2, 3]
    assert lines[1]["error"] == "It is damaged."


def test_falls_back_to_motion_jpeg(monkeypatch: pytest.MonkeyPatch) -> None:
    real, works = cv2.VideoWriter, ".avi"

    def writer(path: str, *rest: object) -> cv2.VideoWriter:
        return real(path, *rest) if path.endswith(works) else real()  # type: ignore[call-overload]

    writer.fourcc = real.fourcc  # type: ignore[attr-defined]
    monkeypatch.setattr(cv2, "VideoWriter", writer)
    saved([frame(1), frame(2)])
    assert listed() == ["a.avi"]
    assert len(read("a.avi")[1]) == 2
    works = ".none"
    with pytest.raises(OutputError, match="save_frames=True"):
        saved([frame(1)])
    assert listed("runs/pose/predict2") == []


def test_full_disk_keeps_written_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "free")
    files = RunFiles(settings(save=True))
    files.write(frame(1))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(1 << 20))
    with pytest.raises(OutputError, match="disk is full"):
        files.write(frame(2))
    files.close()
    assert len(read("a.mp4")[1]) == 1


def test_verifies_written_video(capsys: pytest.CaptureFixture[str]) -> None:
    files = RunFiles(settings(save=True, save_json=True, verbose=True))
    for number in range(1, 9):
        files.write(frame(number))
    (opened,) = (
        one for sink in files._sinks if isinstance(sink, videos.AnnotatedVideos) for one, _ in sink._open.values()
    )
    assert opened._writer is not None
    opened._writer.release()
    os.truncate(opened._temporary, 100)
    with pytest.raises(OutputError, match="only 0 of 8 frames are on the disk"):
        files.close()
    assert listed() == ["predictions.json"]
    assert len(json.loads(Path("runs/pose/predict/predictions.json").read_text())) == 8
    assert capsys.readouterr().out.splitlines()[-1].endswith("predict: predictions.json (8 detections)")


def test_killed_run_leaves_no_partial_files() -> None:
    code = (
        "import sys, os, signal; sys.path.insert(0, sys.argv[1])\n"
        "from test_predict_sinks_videos import *\n"
        "files = RunFiles(settings(save=True, save_jsonl=True, save_json=True, verbose=True))\n"
        "noise = np.random.default_rng(0).integers(0, 255, (480, 640, 3), np.uint8)\n"
        "for number in range(1, 60):\n"
        "    one = frame(number, 'rtsp://h/live', live=True)\n"
        "    one.orig_img = noise\n"
        "    files.write(one)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    ours = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(str, (Path(yolopose.__file__).parents[1], Path(__file__).parents[1]))),
    }
    values = [sys.executable, "-c", code, str(Path(__file__).parent)]
    done = subprocess.run(values, capture_output=True, text=True, env=ours, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert [name for name in listed() if not name.startswith(".")] == ["predictions.jsonl"]
    lines = Path("runs/pose/predict/predictions.jsonl").read_text().splitlines()
    assert [json.loads(line)["frame"] for line in lines] == list(range(1, 60))
    (named,) = [line.rpartition(" ")[2] for line in done.stdout.splitlines() if "its temporary file is" in line]
    assert len(read(Path(named).name)[1]) > 10  # what was written so far can be played
