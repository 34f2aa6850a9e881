"""Real processes: started here or by torchrun, one of them killed, all of them interrupted."""

from __future__ import annotations

import csv
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from train_worlds import FAST, make_world

from yolopose import YOLO
from yolopose.weights import read_checkpoint

LONG = {**FAST, "epochs": 3000, "name": "run", "mosaic": 0.0, "val": False}
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
STARTS = {"here": ([sys.executable], "cpu,cpu"), "torchrun": (TORCHRUN, "cpu")}
linux = pytest.mark.skipif(sys.platform != "linux", reason="children are looked up in /proc")


@pytest.fixture
def world(tmp_path: Path) -> tuple[Path, Path]:
    return make_world(tmp_path / "blocks")


def rows(folder: Path) -> list[dict[str, float]]:
    file = folder / "results.csv"
    if not file.is_file():
        return []
    with file.open() as lines:
        return [
            {key: float(value or "nan") for key, value in row.items() if key != "time"} for row in csv.DictReader(lines)
        ]


def words(world: tuple[Path, Path], tmp_path: Path, **options: Any) -> list[str]:
    given = {**LONG, "data": world[0], "model": world[1], "project": tmp_path / "runs", **options}
    return ["-m", "yolopose", "pose", "train", *(f"{key}={value}" for key, value in given.items())]


@contextmanager
def started(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def trains(folder: Path, epochs: int = 2) -> None:
    end = time.monotonic() + 60
    while len(rows(folder)) < epochs:
        assert time.monotonic() < end, "the training has not begun"
        time.sleep(0.05)


def below(pid: int) -> list[int]:
    """Process started by one, and by those."""
    found: list[int] = []
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        found += [int(child), *below(int(child))]
    return found


def with_rank(rank: int, every: list[int]) -> int:
    """Which of the processes has a rank."""
    told = f"RANK={rank}".encode()
    return next(pid for pid in every if told in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"))


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.slow
def test_a_training_on_two_devices_ends_in_the_object_that_began_it(world, tmp_path):
    model, seen = YOLO(world[1]), []
    model.add_callback("on_train_epoch_end", lambda trainer: seen.append((os.getpid(), trainer.epoch)))
    options = {**FAST, "device": "cpu,cpu", "epochs": 2}
    metrics = model.train(data=world[0], project=tmp_path / "runs", **options)
    assert seen == [(os.getpid(), 0), (os.getpid(), 1)]
    folder = tmp_path / "runs/train"
    assert metrics is model.metrics is not None
    assert model.trainer.save_dir == folder
    best = read_checkpoint(folder / "weights/best.pt")
    torch.testing.assert_close(dict(model.model.state_dict()), dict(best.state), rtol=0, atol=0)
    assert len(rows(folder)) == 2
    assert not torch.distributed.is_initialized()
    assert model.val(plots=False).results_dict == metrics.results_dict


@pytest.mark.slow
def test_torchrun_trains_as_one_process_does_and_speaks_once(world, tmp_path):
    short = {"epochs": 2, "batch": 4, "verbose": True, "val": True, "optimizer": "SGD"}
    line = words(world, tmp_path, **short, device="cpu")
    done = subprocess.run([*TORCHRUN, *line], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Training on cpu and 1 more in float32") == 1
    assert done.stdout.count("Results saved to") == 1
    alone = subprocess.run([sys.executable, *words(world, tmp_path, **short, device="cpu", name="one")], timeout=120)
    assert alone.returncode == 0
    two, one = rows(tmp_path / "runs/run"), rows(tmp_path / "runs/one")
    assert len(two) == len(one) == 2
    # norms see half as many images at once, so numbers are near and not equal
    for key in ("train/box_loss", "train/pose_loss", "train/cls_loss"):
        assert two[0][key] == pytest.approx(one[0][key], rel=0.1)
    assert [path.name for path in (tmp_path / "runs").iterdir() if path.is_dir()].count("run2") == 0


@linux
@pytest.mark.slow
@pytest.mark.parametrize("how", ["here", "torchrun"])
def test_a_killed_process_ends_all_with_one_message_within_a_minute(world, tmp_path, how):
    starter, device = STARTS[how]
    with started([*starter, *words(world, tmp_path, device=device)]) as process:
        trains(tmp_path / "runs/run")
        every = below(process.pid)
        victim = with_rank(1, every)
        os.kill(victim, signal.SIGKILL)
        start = time.monotonic()
        _, said = process.communicate(timeout=60)
        assert time.monotonic() - start < 60
        assert process.returncode == 1
        assert len(re.findall(rf"error: Rank 1 of the 2 processes of this training \(process {victim} on ", said)) == 1
        assert "resume=True" in said
        assert 'Traceback (most recent call last):\n  File "<string>"' not in said
        time.sleep(0.5)
        assert not [pid for pid in every if alive(pid)]


@linux
@pytest.mark.slow
@pytest.mark.parametrize("how", ["here", "torchrun"])
def test_when_the_first_is_killed_the_others_end_and_the_next_speaks(world, tmp_path, how):
    starter, device = STARTS[how]
    with started([*starter, *words(world, tmp_path, device=device)]) as process:
        trains(tmp_path / "runs/run")
        every = below(process.pid)
        os.kill(process.pid if how == "here" else with_rank(0, every), signal.SIGKILL)
        _, said = process.communicate(timeout=60)
        assert len(re.findall("error: (Rank 0 of the 2 processes|The process that leads)", said)) == 1
        time.sleep(0.5)
        assert not [pid for pid in every if alive(pid)]


@pytest.mark.slow
@pytest.mark.parametrize("how", ["here", "torchrun"])
def test_ctrl_c_ends_all_and_the_run_goes_on(world, tmp_path, how):
    starter, device = STARTS[how]
    with started([*starter, *words(world, tmp_path, device=device, epochs=30)]) as process:
        trains(tmp_path / "runs/run")
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=60)
        assert said.count("All is kept; go on with") == 1
        assert process.returncode == (130 if how == "here" else 1)
    last = tmp_path / "runs/run/weights/last.pt"
    line = ["-m", "yolopose", "pose", "train", "resume=True", f"model={last}", f"device={device}"]
    done = subprocess.run([*starter, *line], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert [row["epoch"] for row in rows(tmp_path / "runs/run")] == list(range(1, 31))


@pytest.mark.slow
@pytest.mark.parametrize("how", ["here", "torchrun"])
def test_an_error_of_one_process_is_said_once(world, tmp_path, how):
    """The last of 8 images in a fixed order is the other process's; it vanishes."""
    starter, device = STARTS[how]
    with started([*starter, *words(world, tmp_path, device=device)]) as process:
        trains(tmp_path / "runs/run")
        for number in range(8):
            (world[0].parent / f"images/train/{number}.png").unlink()
        _, said = process.communicate(timeout=60)
        assert process.returncode == 1
        assert said.count("It could be read when its labels were") == 1


@pytest.mark.slow
def test_errors_before_the_training_are_said_once(world, tmp_path):
    done = subprocess.run(
        [*TORCHRUN, *words(world, tmp_path, device="0,1")], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 1
    assert done.stderr.count("error: device=0,1 contradicts the launcher") == 1
    assert not (tmp_path / "runs").exists()
