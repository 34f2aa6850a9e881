"""Fault tolerance: kills, full disks, non-finite losses, full memory, dead workers."""

from __future__ import annotations

import csv
import errno
import itertools
import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import pytest
import torch
from train_worlds import FAST, make_world

from yolopose import YOLO
from yolopose.base.errors import DataError, OutputError, TrainError
from yolopose.config import make_options
from yolopose.train import new_trainer, validation
from yolopose.train import state as state_module
from yolopose.train.feed.image_cache import FileImages
from yolopose.weights import read_checkpoint

SCRIPT = Path(__file__).with_name("kill_and_resume.py")


@pytest.fixture
def world(tmp_path: Path) -> tuple[Path, Path]:
    return make_world(tmp_path / "blocks")


@pytest.fixture
def runs(tmp_path: Path) -> dict[str, Any]:
    return {**FAST, "project": str(tmp_path / "runs")}


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    monkeypatch.setattr("yolopose.base.log.LOGGER.propagate", True)
    return caplog


@pytest.fixture
def limit() -> Iterator[None]:
    """End a test that hangs."""

    def late(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "results.csv").open() as file:
        return [{**row, "time": ""} for row in csv.DictReader(file)]


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def assert_same_run(one: Path, other: Path) -> None:
    """Compare all files, rows and weights, bit for bit."""
    assert names(one) == names(other)
    assert rows(one) == rows(other)
    for path in (one / "weights").iterdir():
        first, second = read_checkpoint(path), read_checkpoint(other / "weights" / path.name)
        assert (first.epoch, first.metrics, first.extra) == (second.epoch, second.metrics, second.extra)
        assert all(torch.equal(first.state[name], second.state[name]) for name in first.state | second.state)


@pytest.mark.parametrize(
    ("how", "number"),
    [
        ("2", 1),
        pytest.param("20", 2, marks=pytest.mark.slow),
        pytest.param("every", 1, marks=pytest.mark.slow),
        pytest.param("drawn", 11, marks=pytest.mark.slow),
    ],
)
def test_a_killed_run_equals_an_uninterrupted_one(how: str, number: int, tmp_path: Path) -> None:
    line = [sys.executable, str(SCRIPT), str(tmp_path), how, str(number)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    whole, *broken = map(Path, told["folders"])
    assert told["kills"] >= (int(how) if how.isdigit() else len(broken))
    table = rows(whole)
    assert [row["epoch"] for row in table] == [str(epoch + 1) for epoch in range(len(table))]
    assert float(table[-1]["metrics/mAP50(P)"]) > 0.5
    assert broken
    for folder in broken:
        assert_same_run(whole, folder)


class Disk:
    """A disk on which files cannot be renamed into place while `full` is set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.full = False
        honest = os.replace

        def replace(*args: Any) -> None:
            if self.full:
                raise OSError(errno.ENOSPC, "No space left on device")
            honest(*args)

        monkeypatch.setattr(os, "replace", replace)


@pytest.mark.parametrize(("full", "on_disk"), [({0, 1}, [0, 0, 0, 3]), ({1, 2}, [0, 1, 1, 1])], ids=str)
def test_a_temporarily_full_disk_loses_nothing(full, on_disk, world, runs, monkeypatch, log) -> None:
    data, model_yaml = world
    options = {**runs, "data": data, "epochs": 4, "save_period": 2, "verbose": True}
    whole = YOLO(model_yaml)
    whole.train(name="whole", **options)
    disk, kept = Disk(monkeypatch), []

    def fill(trainer: Any) -> None:
        disk.full = trainer.epoch in full
        kept.append(read_checkpoint(trainer.last).extra["training"]["epoch"])

    model = YOLO(model_yaml)
    model.add_callback("on_train_epoch_start", fill)
    model.train(name="full", **options)
    assert kept == on_disk
    folder = model.trainer.save_dir
    assert names(folder) == names(whole.trainer.save_dir)
    assert rows(folder) == rows(whole.trainer.save_dir)
    for name in ("best.pt", "last.pt", "epoch2.pt", "epoch4.pt"):
        first, second = (read_checkpoint(one.trainer.wdir / name) for one in (whole, model))
        assert first.epoch == second.epoch
        assert all(torch.equal(first.state[key], second.state[key]) for key in first.state)
    assert [record.levelname for record in log.records].count("ERROR") == 1
    assert "the disk is full" in log.text
    assert "written again" in log.text


def test_an_image_that_cannot_be_written_is_skipped(world, runs, monkeypatch, log) -> None:
    data, model_yaml = world
    options = make_options("train", {**runs, "data": str(data), "plots": True})
    trainer = new_trainer(options, YOLO(model_yaml).model.yaml, None)
    disk = Disk(monkeypatch)
    for number, batch in enumerate(trainer._batches.epoch(0)):
        disk.full = True
        trainer._folder.draw_batch(batch, 0, number)
    assert names(trainer.save_dir) == set()
    assert log.text.count("continues without this image") == 1


def test_a_permanently_full_disk_is_an_error_and_can_be_resumed(world, runs, monkeypatch) -> None:
    data, model_yaml = world
    options = {**runs, "data": data, "epochs": 3}
    whole = YOLO(model_yaml)
    whole.train(name="whole", **options)
    disk = Disk(monkeypatch)
    model = YOLO(model_yaml)
    model.add_callback("on_train_epoch_start", lambda trainer: setattr(disk, "full", trainer.epoch > 0))
    with pytest.raises(OutputError, match=r"disk is full.*resume=True model=.*last\.pt"):
        model.train(name="full", **options)
    assert read_checkpoint(model.trainer.last).extra["training"]["epoch"] == 1
    disk.full = False
    YOLO(model.trainer.last).train(resume=True)
    assert_same_run(whole.trainer.save_dir, model.trainer.save_dir)


class Poison:
    """Makes the loss of selected batches non-finite, in the forward pass or in the gradient."""

    def __init__(self, bad: Callable[[int], bool], kind: str = "loss") -> None:
        self.bad, self.kind, self.count = bad, kind, 0

    def start(self, trainer: Any) -> None:
        state, honest = trainer._state, trainer._state.losses

        def losses(*args: Any) -> Any:
            terms = honest(*args)
            self.count += 1
            if not self.bad(self.count - 1):
                return terms
            if self.kind == "gradient":
                terms.total.register_hook(lambda gradient: gradient * float("nan"))
                return terms
            for buffer in trainer.model.buffers():  # what an overflow in the network does
                if buffer.is_floating_point():
                    buffer.fill_(float("nan"))
            return replace(terms, total=terms.total * float("nan"), values=terms.values * float("nan"))

        state.losses = losses


@pytest.mark.parametrize("kind", ["loss", "gradient"])
def test_skips_non_finite_losses_and_gradients(kind, world, runs, log) -> None:
    data, model_yaml = world
    model, poison = YOLO(model_yaml), Poison({1, 2, 4}.__contains__, kind)
    before: list[Any] = []
    model.add_callback("on_train_start", poison.start)
    model.add_callback("on_train_batch_start", lambda trainer: before.append(next(trainer.model.parameters()).clone()))
    model.train(data=data, **{**runs, "epochs": 4, "warmup_epochs": 0})
    moved = [not torch.equal(one, two) for one, two in itertools.pairwise(before)]
    assert moved == [True, False, False, True, False, True, True]
    assert log.text.count("is not finite; the") == 3
    assert all(torch.isfinite(value).all() for value in model.model.state_dict().values())
    assert model.trainer._state.lr_scale == 1


def test_rolls_back_with_half_the_learning_rate(world, runs, log) -> None:
    """Two batches per epoch: batches 3, 4 and 5 of the run are non-finite, so the third epoch is repeated."""
    data, model_yaml = world
    model, poison = YOLO(model_yaml), Poison({3, 4, 5}.__contains__)
    starts: list[tuple[int, float, torch.Tensor]] = []

    def note(trainer: Any) -> None:
        starts.append((trainer.epoch, trainer._state.lr_scale, next(trainer.model.parameters()).clone()))

    rates: list[float] = []
    model.add_callback("on_train_start", poison.start)
    model.add_callback("on_train_epoch_start", note)
    model.add_callback("on_train_batch_end", lambda trainer: rates.append(trainer.optimizer.param_groups[0]["lr"]))
    model.train(data=data, **{**runs, "epochs": 4, "optimizer": "SGD", "warmup_epochs": 0})
    assert [(epoch, rate) for epoch, rate, _ in starts] == [(0, 1), (1, 1), (2, 1), (2, 0.5), (3, 0.5)]
    assert torch.equal(starts[2][2], starts[3][2])
    expected = [0.01, 0.01, 0.007525, 0.007525, 0.00505, 0.00505 / 2, 0.00505 / 2, 0.002575 / 2, 0.002575 / 2]
    assert rates == pytest.approx(expected)
    assert "learning rates times 0.5" in log.text
    assert [row["epoch"] for row in rows(model.trainer.save_dir)] == ["1", "2", "3", "4"]


def test_repeated_divergence_ends_the_run(world, runs) -> None:
    data, model_yaml = world
    model, poison = YOLO(model_yaml), Poison(lambda count: count > 1)
    model.add_callback("on_train_start", poison.start)
    with pytest.raises(TrainError, match=r"after 3 rollbacks .* Lower lr0"):
        model.train(data=data, **{**runs, "epochs": 9})
    assert read_checkpoint(model.trainer.last).extra["training"]["epoch"] >= 1


def test_never_saves_non_finite_weights(world, runs) -> None:
    data, model_yaml = world
    model, once = YOLO(model_yaml), []

    def spoil(trainer: Any) -> None:
        if (trainer.epoch, trainer.batch_i) == (1, 1) and not once:
            once.append(1)
            next(trainer.model.parameters()).data.fill_(float("nan"))

    model.add_callback("on_train_batch_end", spoil)
    model.train(data=data, **runs)
    assert model.trainer._state.lr_scale == 0.5
    assert all(torch.isfinite(value).all() for value in read_checkpoint(model.trainer.last).state.values())


def test_full_memory_splits_batches(world, runs, monkeypatch, log) -> None:
    """A step accumulates the gradients of two micro-batches."""
    data, model_yaml = world
    honest, sizes = state_module.TrainState.losses, []

    def losses(self: Any, batch: Any, *place: int) -> Any:
        sizes.append(len(batch))
        if len(batch) > 2:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return honest(self, batch, *place)

    with monkeypatch.context() as patch:
        patch.setattr(state_module.TrainState, "losses", losses)
        model = YOLO(model_yaml)
        model.train(data=data, **{**runs, "epochs": 1})
    assert sizes == [4, 2, 2, 2, 2]
    assert "from now on 2 pass" in log.text
    assert model.trainer._state.micro_batches == 2
    assert model.trainer.state_dict(0, 0)["parts"] == 2

    def always(*_: object) -> None:
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes")

    monkeypatch.setattr(state_module.TrainState, "losses", always)
    with pytest.raises(TrainError, match="smaller imgsz"):
        YOLO(model_yaml).train(data=data, **runs)


def test_full_memory_in_validation_lowers_its_batch(world, runs, monkeypatch, log) -> None:
    data, model_yaml = world
    honest, sizes = validation.validate, []

    def validate(runtime: Any, options: Any, *args: Any, **named: Any) -> Any:
        sizes.append(options.batch)
        if options.batch > 2:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")
        return honest(runtime, options, *args, **named)

    whole = YOLO(model_yaml)
    expected = whole.train(data=data, **{**runs, "epochs": 1})
    monkeypatch.setattr(validation, "validate", validate)
    model = YOLO(model_yaml)
    found = model.train(data=data, **{**runs, "epochs": 1})
    assert sizes == [8, 4, 2] * 2
    assert found.results_dict == pytest.approx(expected.results_dict)
    assert "validating 8 images" in log.text


def test_micro_batches_accumulate_equal_gradients(world, runs) -> None:
    data, model_yaml = world
    options = make_options("train", {**runs, "data": str(data)})
    trainer = new_trainer(options, YOLO(model_yaml).model.yaml, None)
    state, found = trainer._state, []
    state.model.eval()  # only norm statistics differ between a batch and its micro-batches
    batch = next(iter(trainer._batches.epoch(0)))
    for parts, batches in ((1, [batch.slice_images(0, 2), batch.slice_images(2, 4)]), (2, [batch])):
        state.micro_batches = parts
        trainer.optimizer.zero_grad()
        for one in batches:
            state.forward_backward(one, 0, 0)
        found.append([one.grad.clone() for one in state.model.parameters() if one.grad is not None])
    assert len(found[0]) > 10
    for one, two in zip(*found, strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=0)


@pytest.mark.usefixtures("limit")
def test_a_dead_worker_is_an_error_and_can_be_resumed(world, runs, monkeypatch) -> None:
    data, model_yaml = world
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(2)), raising=False)
    options = {**runs, "data": data, "epochs": 3, "workers": 2}
    whole = YOLO(model_yaml)
    whole.train(name="whole", **options)

    def kill(trainer: Any) -> None:
        if trainer.epoch == 1 and trainer.batch_i == 0:
            os.kill(multiprocessing.active_children()[0].pid or 0, signal.SIGKILL)
            threading.Event().wait(0.2)  # the signal of its end comes here, outside of the loader

    model = YOLO(model_yaml)
    model.add_callback("on_train_batch_start", kill)
    with pytest.raises(DataError, match=r"has died.*workers.*resume=True model="):
        model.train(name="dead", **options)
    YOLO(model.trainer.last).train(resume=True)
    assert_same_run(whole.trainer.save_dir, model.trainer.save_dir)


@pytest.mark.usefixtures("limit")
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("split", ["train", "val"])
def test_reports_an_image_that_disappears(split, workers, world, runs, monkeypatch) -> None:
    data, model_yaml = world
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(2)), raising=False)
    monkeypatch.setattr(FileImages.__init__, "__defaults__", (0, 0))  # no decoded image is cached
    gone = data.parent / "images" / split / "5.png"
    model = YOLO(model_yaml)
    model.add_callback("on_train_epoch_start", lambda trainer: trainer.epoch == 1 and gone.unlink(missing_ok=True))
    with pytest.raises(DataError, match=r"5\.png.*resume=True model="):
        model.train(data=data, **{**runs, "epochs": 3, "workers": workers})


def cut_short(path: Path) -> None:
    """Replace an image by a JPEG of half its data; the headers are intact, so that the scan of the labels passes it."""
    image = cv2.imread(str(path))
    path.unlink()
    jpeg = cv2.imencode(".jpg", cv2.resize(image, (320, 320)), [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
    path.with_suffix(".jpg").write_bytes(jpeg[: len(jpeg) // 2] + b"\xff\xd9")


@pytest.mark.usefixtures("limit")
@pytest.mark.parametrize("workers", [0, 2])
def test_images_that_do_not_decode_are_skipped(workers, world, runs, monkeypatch, capfd) -> None:
    data, model_yaml = world
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(2)), raising=False)
    for split in ("train", "val"):
        cut_short(data.parent / "images" / split / "5.png")
    model = YOLO(model_yaml)
    model.train(data=data, **{**runs, "epochs": 2, "workers": workers})
    text = capfd.readouterr().err
    for split in ("train", "val"):
        assert len(re.findall(rf"{split}/5\.jpg is cut short.*It is not used\.", text)) == 1
        summary = rf"blocks\.yaml, {split}: 1 of \d+ images do not decode and were not used: 5\.jpg"
        assert len(re.findall(summary, text)) == 1


@pytest.mark.usefixtures("limit")
@pytest.mark.parametrize(("split", "cache"), [("train", False), ("train", "ram"), ("val", False)])
def test_too_many_images_that_do_not_decode_end_the_training(split, cache, world, runs) -> None:
    data, model_yaml = world
    for index in range(5):
        cut_short(data.parent / "images" / split / f"{index}.png")
    with pytest.raises(DataError, match=rf"{split}: 4 of \d+ images do not decode so far; at most 3") as error:
        YOLO(model_yaml).train(data=data, **{**runs, "cache": cache})
    assert str(error.value).count("is cut short" if not cache else "does not decode") == 4
    assert "fix=FOLDER" in str(error.value)
