"""A killed run of `track` is resumed: its files are those of an uninterrupted run."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import yolopose
from fake_runtime import FakeRuntime, painted
from yolopose import YOLO
from yolopose.base.errors import UsageError
from yolopose.cli import main

pytest.importorskip("torch")

SMALL = """
nc: 2
kpt_shape: [2, 3]
backbone: [[-1, 1, Conv, [8, 3, 2]]]
head: [[[0], 1, Pose, [nc, kpt_shape]]]
"""
# The command line, with an engine that detects colored rectangles and takes some time for each frame.
PROGRAM = f"""
import sys, time
sys.path[:0] = {[str(Path(yolopose.__file__).parents[1]), str(Path(__file__).parents[1])]!r}
from fake_runtime import FakeRuntime
from yolopose import YOLO
from yolopose.cli import main

class SlowRuntime(FakeRuntime):
    def infer(self, batch, **options):
        time.sleep(0.02)
        return super().infer(batch, **options)

YOLO._runtime_for = lambda self, options: SlowRuntime()
raise SystemExit(main(sys.argv[1:]))
"""
OUTPUTS = ("save=True", "save_jsonl=True", "save_csv=True", "save_txt=True", "save_json=True", "save_tracks=mot")


def write_video(path: Path, count: int, offset: int = 0) -> Path:
    """Two figures that move in curves; the second is visible in parts of the video only."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25, (128, 96))
    for t in range(offset, offset + count):
        x, y = 20 + 18 * np.sin(t / 9), 10 + 8 * np.cos(t / 7)
        image = painted(96, 128, (int(x), int(y), int(x) + 30, int(y) + 60))
        if t % 30 > 8:
            image = image + painted(96, 128, (90, int(y), 120, int(y) + 35), cls=1)
        writer.write(image)
    writer.release()
    return path


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "small.yaml").write_text(SMALL)
    monkeypatch.setattr(YOLO, "_runtime_for", lambda self, options: FakeRuntime())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def contents(run: Path) -> dict[str, bytes]:
    """All files of a run; those with the name of the run folder in their paths are compared by it, too."""
    return {str(path.relative_to(run)): path.read_bytes() for path in sorted(run.rglob("*")) if path.is_file()}


def test_killed_process_is_resumed(folder: Path) -> None:
    """`kill -9` several times; all files, also the annotated videos, are those of an uninterrupted run."""
    write_video(folder / "a.avi", 60)
    write_video(folder / "b.avi", 90, offset=100)
    (folder / "videos.txt").write_text("a.avi\nb.avi\n")
    common = ["pose", "track", "model=small.yaml", "source=videos.txt", "imgsz=128", "smooth=True", *OUTPUTS]
    assert main([*common, "project=whole", "verbose=False"]) == 0
    command = [sys.executable, "-c", PROGRAM]
    process = subprocess.Popen([*command, *common, "project=killed", "save_period=10"], cwd=folder)
    run = folder / "killed/track"
    for minimum in (20, 90):
        wait_and_kill(process, run, minimum)
        with (run / "predictions.jsonl").open("ab") as file:
            file.write(b'{"path": "b.avi", "fra')  # an unfinished line
        process = subprocess.Popen([*command, "pose", "track", f"resume={run}"], cwd=folder)
    assert process.wait(timeout=120) == 0
    assert contents(run) == contents(folder / "whole/track")
    rows = [json.loads(line) for line in (run / "predictions.jsonl").read_text().splitlines()]
    assert len({row["track_id"] for line in rows for row in line["detections"]}) >= 2
    with pytest.raises(UsageError, match="nothing to resume"):
        YOLO("small.yaml").track(resume=run)


def wait_and_kill(process: subprocess.Popen[bytes], run: Path, minimum: int) -> None:
    """Kill a process when the state of that many results is saved."""
    state = run / "unfinished/state.json"
    while process.poll() is None:
        if state.exists() and json.loads(state.read_text())["count"] >= minimum:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            return
        time.sleep(0.005)
    pytest.fail("the run ended before it could be killed")


def interrupt(model: YOLO, number: int, **options: Any) -> Path:
    """Return the folder of a run that is left after some results."""
    results = model.track(stream=True, imgsz=128, verbose=False, save_jsonl=True, **options)
    run = [next(results) for _ in range(number)][-1].save_dir
    results.close()
    assert run is not None
    return Path(run)


def test_left_run_of_images_is_resumed(folder: Path) -> None:
    """Images, one of them unreadable, with crops; the results after the saved state are returned."""
    (folder / "images").mkdir()
    for t in range(12):
        cv2.imwrite(f"images/{t:02}.png", painted(96, 128, (10 + 2 * t, 20, 40 + 2 * t, 80)))
    (folder / "images/00.png").write_bytes(b"no image")
    options: dict[str, Any] = {"save": True, "save_crop": True, "save_frames": True, "smooth": "offline"}
    model = YOLO("small.yaml")
    whole = model.track("images", imgsz=128, verbose=False, save_jsonl=True, project="whole", **options)
    run = interrupt(model, 9, source="images", save_period=4, project="left", **options)
    assert (run / "unfinished/state.json").is_file()
    assert (run / "crops/red/08.jpg").is_file()
    results = YOLO("small.yaml").track(resume=run, batch=2)
    assert [result.boxes.id.tolist() for result in results] == [result.boxes.id.tolist() for result in whole[8:]]
    assert contents(run) == contents(folder / "whole/track")


def test_run_without_a_saved_state_leaves_nothing(folder: Path) -> None:
    write_video(folder / "a.avi", 30)
    model = YOLO("small.yaml")
    run = interrupt(model, 5, source="a.avi")
    assert not (run / "unfinished").exists()
    run = interrupt(model, 5, source="a.avi", save_period=0)
    assert not (run / "unfinished").exists()
    with pytest.raises(UsageError, match="interrupted too early"):
        model.track(resume=run)
    with pytest.raises(UsageError, match="it does not exist"):
        model.track(resume="runs/none")
    assert main(["pose", "track", "resume=runs/none"]) == 1


def test_what_a_resumed_run_refuses(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_video(folder / "a.avi", 30)
    model = YOLO("small.yaml")
    run = interrupt(model, 12, source="a.avi", save_period=5)
    before = contents(run)
    for options, message in (
        ({"conf": 0.3}, "conf=0.3 is not possible with resume"),
        ({"tracker": "bytetrack.yaml"}, "tracker=bytetrack.yaml is not possible"),
        ({"source": "b.avi"}, "differs from that of the run"),
    ):
        with pytest.raises(UsageError, match=message):
            model.track(resume=run, **options)
    (folder / "other.yaml").write_text(SMALL)
    with pytest.raises(UsageError, match="is not that of the run"):
        YOLO("other.yaml").track(resume=run)
    (folder / "elsewhere").mkdir()
    monkeypatch.chdir(folder / "elsewhere")
    with pytest.raises(UsageError, match="resume it in that folder"):
        YOLO("../small.yaml").track(resume=folder / run)
    monkeypatch.chdir(folder)
    assert contents(run) == before


def test_changed_source_and_damaged_state(folder: Path) -> None:
    write_video(folder / "a.avi", 30)
    model = YOLO("small.yaml")
    run = interrupt(model, 12, source="a.avi", save_period=5)
    lines = (run / "predictions.jsonl").read_text()
    shutil.copytree(run, folder / "damaged")
    write_video(folder / "a.avi", 4)
    with pytest.raises(UsageError, match=r"image 5 was a\.avi \(frame 5\), and is now missing"):
        model.track(resume=run)
    assert (run / "predictions.jsonl").read_text() == lines
    write_video(folder / "a.avi", 30)
    log = folder / "damaged/unfinished/results.jsonl"
    log.write_bytes(log.read_bytes()[:700])
    with pytest.raises(UsageError, match="is damaged in line"):
        model.track(resume=folder / "damaged")
    (folder / "damaged/unfinished/state.json").write_text("{")
    with pytest.raises(UsageError, match="not JSON"):
        model.track(resume=folder / "damaged")
    model.track(resume=run)
    assert len((run / "predictions.jsonl").read_text().splitlines()) == 30


def test_running_process_is_not_resumed(folder: Path) -> None:
    write_video(folder / "a.avi", 30)
    model = YOLO("small.yaml")
    results = model.track("a.avi", stream=True, imgsz=128, verbose=False, save_jsonl=True, save_period=5)
    run = [next(results) for _ in range(12)][-1].save_dir
    with pytest.raises(UsageError, match="another process is writing"):
        YOLO("small.yaml").track(resume=run)
    assert len(list(results)) == 18
    assert not (Path(run) / "unfinished").exists()
