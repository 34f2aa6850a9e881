"""Distributed training in real processes, started by `train` or by torchrun: results, kills, Ctrl-C, errors."""

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
from train_worlds import DUAL_MODEL, FAST, make_world

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


def arguments(world: tuple[Path, Path], tmp_path: Path, **options: Any) -> list[str]:
    options = {**LONG, "data": world[0], "model": world[1], "project": tmp_path / "runs", **options}
    return ["-m", "yolopose", "pose", "train", *(f"{key}={value}" for key, value in options.items())]


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


def wait_for_epochs(folder: Path, epochs: int = 2) -> None:
    end = time.monotonic() + 60
    while len(rows(folder)) < epochs:
        assert time.monotonic() < end, "training has not started"
        time.sleep(0.05)


def descendants(pid: int) -> list[int]:
    """Return the processes below a process."""
    pids: list[int] = []
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        pids += [int(child), *descendants(int(child))]
    return pids


def pid_of_rank(rank: int, pids: list[int]) -> int:
    variable = f"RANK={rank}".encode()
    return next(pid for pid in pids if variable in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"))


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.slow
def test_two_devices_train_the_calling_object(world, tmp_path):
    model = YOLO(world[1])
    calls = []
    model.add_callback("on_train_epoch_end", lambda trainer: calls.append((os.getpid(), trainer.epoch)))
    options = {**FAST, "device": "cpu,cpu", "epochs": 2}
    metrics = model.train(data=world[0], project=tmp_path / "runs", **options)
    assert calls == [(os.getpid(), 0), (os.getpid(), 1)]
    folder = tmp_path / "runs/train"
    assert metrics is model.metrics is not None
    assert model.trainer.save_dir == folder
    best = read_checkpoint(folder / "weights/best.pt")
    torch.testing.assert_close(dict(model.model.state_dict()), dict(best.state), rtol=0, atol=0)
    assert len(rows(folder)) == 2
    assert not torch.distributed.is_initialized()
    assert model.val(plots=False).results_dict == metrics.results_dict


@pytest.mark.slow
def test_yolo26_trains_in_two_processes(world, tmp_path):
    """Rank 0 and a worker compute the losses of both branches; both hold the same weights."""
    model_yaml = tmp_path / "dual-pose.yaml"
    model_yaml.write_text(DUAL_MODEL)
    short = {"epochs": 2, "batch": 4, "verbose": True, "val": True, "optimizer": "SGD", "model": model_yaml}
    for name, device in (("two", "cpu,cpu"), ("one", "cpu")):
        line = arguments(world, tmp_path, **short, name=name, device=device)
        done = subprocess.run([sys.executable, *line], capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
    two, one = rows(tmp_path / "runs/two"), rows(tmp_path / "runs/one")
    assert len(two) == len(one) == 2
    # batch norms see half as many images at once; the residual log-likelihood depends on them most
    for key, tolerance in (("box", 0.15), ("pose", 0.15), ("cls", 0.15), ("l1", 0.15), ("rle", 0.5)):
        assert two[0][f"train/{key}_loss"] == pytest.approx(one[0][f"train/{key}_loss"], rel=tolerance), key


@pytest.mark.slow
def test_torchrun_trains_like_one_process_and_logs_once(world, tmp_path):
    short = {"epochs": 2, "batch": 4, "verbose": True, "val": True, "optimizer": "SGD"}
    line = arguments(world, tmp_path, **short, device="cpu")
    done = subprocess.run([*TORCHRUN, *line], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Training on cpu and 1 more in float32") == 1
    assert done.stdout.count("Results saved to") == 1
    alone = subprocess.run(
        [sys.executable, *arguments(world, tmp_path, **short, device="cpu", name="one")], timeout=120
    )
    assert alone.returncode == 0
    two, one = rows(tmp_path / "runs/run"), rows(tmp_path / "runs/one")
    assert len(two) == len(one) == 2
    # batch norms see half as many images at once, so the losses are close, not equal
    for key in ("train/box_loss", "train/pose_loss", "train/cls_loss"):
        assert two[0][key] == pytest.approx(one[0][key], rel=0.1)
    assert [path.name for path in (tmp_path / "runs").iterdir() if path.is_dir()].count("run2") == 0


@linux
@pytest.mark.slow
@pytest.mark.parametrize("how", ["here", "torchrun"])
def test_a_killed_worker_ends_all_processes_with_one_message(world, tmp_path, how):
    starter, device = STARTS[how]
    with started([*starter, *arguments(world, tmp_path, device=device)]) as process:
        wait_for_epochs(tmp_path / "runs/run")
        pids = descendants(process.pid)
        victim = pid_of_rank(1, pids)
        os.kill(victim, signal.SIGKILL)
        _, stderr = process.communicate(timeout=60)
        assert process.returncode == 1
        assert (
            len(re.findall(rf"error: Rank 1 of the 2 processes of this training \(process {victim} on ", stderr)) == 1
        )
        assert "resume=True" in stderr
        assert 'Traceback (most recent call last):\n  File "<string>"' not in stderr
        time.sleep(0.5)
        assert not [pid for pid in pids if is_alive(pid)]


@linux
@pytest.mark.slow
@pytest.mark.parametrize("how", ["here", "torchrun"])
def test_killing_rank_0_ends_the_others_with_one_message(world, tmp_path, how):
    starter, device = STARTS[how]
    with started([*starter, *arguments(world, tmp_path, device=device)]) as process:
        wait_for_epochs(tmp_path / "runs/run")
        pids = descendants(process.pid)
        os.kill(process.pid if how == "here" else pid_of_rank(0, pids), signal.SIGKILL)
        _, stderr = process.communicate(timeout=60)
        assert len(re.findall("error: (Rank 0 of the 2 processes|The main process of this training)", stderr)) == 1
        time.sleep(0.5)
        assert not [pid for pid in pids if is_alive(pid)]


@pytest.mark.slow
@pytest.mark.parametrize("how", ["here", "torchrun"])
def test_ctrl_c_ends_all_processes_and_the_run_can_be_resumed(world, tmp_path, how):
    starter, device = STARTS[how]
    with started([*starter, *arguments(world, tmp_path, device=device, epochs=30)]) as process:
        wait_for_epochs(tmp_path / "runs/run")
        os.killpg(process.pid, signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
        assert stderr.count("The state is saved; resume with") == 1
        assert process.returncode == (130 if how == "here" else 1)
    last = tmp_path / "runs/run/weights/last.pt"
    line = ["-m", "yolopose", "pose", "train", "resume=True", f"model={last}", f"device={device}"]
    done = subprocess.run([*starter, *line], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert [row["epoch"] for row in rows(tmp_path / "runs/run")] == list(range(1, 31))


@pytest.mark.slow
@pytest.mark.parametrize("how", ["here", "torchrun"])
def test_an_error_of_a_worker_is_reported_once(world, tmp_path, how):
    """Images disappear during training."""
    starter, device = STARTS[how]
    with started([*starter, *arguments(world, tmp_path, device=device)]) as process:
        wait_for_epochs(tmp_path / "runs/run")
        for number in range(8):
            (world[0].parent / f"images/train/{number}.png").unlink()
        _, stderr = process.communicate(timeout=60)
        assert process.returncode == 1
        assert len(re.findall(r"error: .*\.png", stderr)) == 1


@pytest.mark.slow
def test_errors_before_training_are_reported_once(world, tmp_path):
    done = subprocess.run(
        [*TORCHRUN, *arguments(world, tmp_path, device="0,1")], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 1
    assert done.stderr.count("error: device=0,1 contradicts the launcher") == 1
    assert not (tmp_path / "runs").exists()
