"""Progress lines, metrics per epoch and the final report."""

from __future__ import annotations

import io
import re
import sys
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import rich.console
import rich.progress
from train_worlds import FAST, make_world

from yolopose import YOLO
from yolopose.base.log import LOGGER
from yolopose.train.record import HEADER_EVERY, EpochLine, console, epoch_summary, final_report

LOSSES = {"box_loss": 1.25, "pose_loss": 4.5, "kobj_loss": 0.5, "cls_loss": 1.125, "dfl_loss": 12345.6}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr(LOGGER, "info", lines.append)
    return lines


def test_headers_are_aligned_and_printed_on_request(logged: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    clock = count(step=2)  # seconds, one step per reading
    monkeypatch.setattr(console, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    for epoch in (1, 2):
        with EpochLine(epoch, 100, 1, header=epoch == 1) as line:
            line.update(LOSSES, 37, (640, 640), 16)
            assert len(logged) == epoch  # nothing during the epoch
    assert logged[0] == console.epoch_header(LOSSES)
    assert " ".join(logged[0].split()) == "Epoch memory box pose kobj cls dfl instances size images/s"
    assert logged[1].split()[2:9] == ["1.25", "4.5", "0.5", "1.125", "1.23e+04", "37", "640"]
    assert logged[1].split()[9] == "8.0"  # 16 images in 2 s
    assert len(logged) == 3
    ends = [[match.end() for match in re.finditer(r"\S+", text)] for text in logged]
    assert ends[0] == ends[1] == ends[2]


def test_shows_mean_losses_instances_size_and_memory(logged: list[str]) -> None:
    with EpochLine(3, 10, 2, losses=["box_loss"]) as line:
        line.update({"box_loss": 1.25}, 7, (320, 320), 4)
        line.update({"box_loss": 1.5}, 5, (320, 256), 4)
    values = logged[-1].split()
    assert values[0] == "3/10"
    assert float(values[1].removesuffix("G")) > 0.01
    assert values[2:5] == ["1.5", "5", "320x256"]


def test_shows_the_time_left_if_asked(logged: list[str]) -> None:
    with EpochLine(3, 10, 1, header=False, time_left=lambda: 180) as line:
        line.update(LOSSES, 37, (640, 640), 16)
    assert logged == [f"{line.text}   about 3 minutes left"]


def test_disabled_line_prints_nothing_but_keeps_its_text(logged: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    out = Terminal()
    monkeypatch.setattr(sys, "stdout", out)
    with EpochLine(1, 2, 1, enabled=False) as line:
        line.update(LOSSES, 37, (640, 640), 16)
    assert (logged, out.getvalue()) == ([], "")
    assert line.text.split()[0] == "1/2"


def test_failed_epoch_has_no_line(logged: list[str]) -> None:
    def fail() -> None:
        with EpochLine(1, 2, 1, header=False) as line:
            line.update(LOSSES, 37, (640, 640), 16)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert logged == []


@pytest.mark.parametrize(("width", "text"), [(60, "0.5"), (80, "1.23e+04"), (200, "images/s")])
def test_live_line_fits_the_terminal(width: int, text: str, logged: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    out = Terminal()
    terminal = rich.console.Console(file=out, width=width, force_terminal=True, color_system=None)
    monkeypatch.setattr(rich, "get_console", lambda: terminal)
    monkeypatch.setattr("rich.progress.get_console", lambda: terminal)
    monkeypatch.setattr(sys, "stdout", out)
    with EpochLine(3, 100, 4) as line:
        for _ in range(2):
            line.update(LOSSES, 37, (640, 640), 16)
    frames = [frame for frame in re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", out.getvalue())) if frame]
    assert all(frame.split()[0] == "3/100" for frame in frames)  # a wrapped line would start differently
    assert max(map(len, frames)) <= width
    assert re.search(r"(50%|2/4) +[-\d:]+ *$", frames[-1])
    assert (text in frames[-1]) is (width < 200)
    assert logged[1:] == [line.text]


def make_metrics(box: float, pose: float) -> Any:
    return SimpleNamespace(
        names={0: "mouse"}, nt_per_class=np.array([7]),
        box=SimpleNamespace(map50=box), pose=SimpleNamespace(map50=pose),
        mean_results=lambda: [0.1, 0.2, box, 0.3, 0.4, 0.5, pose, 0.6], pixels=SimpleNamespace(num_labeled=0),
    )  # fmt: skip


def test_epoch_summary_is_one_row_with_the_time_left() -> None:
    header, row = epoch_summary(make_metrics(0.75, 0.5), 3, 180, header=True).splitlines()
    assert header.split()[:3] == ["Class", "Images", "Instances"]
    assert " ".join(row.split()) == "all 3 7 0.1 0.2 0.75 0.3 0.4 0.5 0.5 0.6 about 3 minutes left"
    assert epoch_summary(make_metrics(0.75, 0.5), 3, 0, header=False).endswith("0.6")


@pytest.mark.parametrize(
    ("box", "pose", "problem"),
    [(0.0, 0.0, "nothing of this data set"), (0.3, 0.001, "no correct pose yet"), (0.3, 0.2, "")],
)
def test_final_report_explains_an_map_of_zero(box: float, pose: float, problem: str) -> None:
    lines = final_report(make_metrics(box, pose), 3, 12).splitlines()
    assert len(lines) == 2 + bool(problem)
    assert problem in lines[-1]
    assert not problem or "here 12" in lines[-1]
    assert ("start from pretrained weights" in lines[-1]) == bool(problem)
    assert "start from pretrained weights" not in final_report(make_metrics(box, pose), 3, 12, fresh=False)


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    monkeypatch.setattr(LOGGER, "propagate", True)
    caplog.set_level("INFO")
    return caplog


def test_run_logs_its_data_and_each_validation(log: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    data, model = make_world(tmp_path)
    events = []
    net = YOLO(model)
    for event in ("on_fit_epoch_end", "on_train_end", "teardown"):
        net.add_callback(event, lambda trainer, event=event: events.append((event, trainer.epoch)))
    options = {**FAST, "epochs": HEADER_EVERY + 2, "verbose": True, "fraction": 0.5, "project": str(tmp_path / "runs")}
    net.train(data=data, **options)
    lines = [line.split() for line in log.text.splitlines()]
    # one row per epoch, and one for best.pt
    assert len([line for line in lines if "all" in line and "8" in line]) == HEADER_EVERY + 3
    assert len([line for line in lines if "Class" in line]) == 3
    assert "4 of 8 images (fraction=0.5), 8 for validation" in log.text
    assert f"{HEADER_EVERY + 2} epochs completed in " in log.text
    assert f"Validated {net.trainer.best}" in log.text
    last = HEADER_EVERY + 1
    expected = ("on_fit_epoch_end", "on_fit_epoch_end", "on_train_end", "teardown")
    assert events[-4:] == [(event, last) for event in expected]
    log.clear()
    net.train(data=data, **{**options, "epochs": 1, "verbose": False})
    assert log.text == ""


def test_time_left_is_never_on_a_line_of_its_own(log: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    data, model = make_world(tmp_path)
    YOLO(model).train(data=data, **{**FAST, "epochs": 3, "val": False, "verbose": True, "project": tmp_path / "runs"})
    lines = [record.message for record in log.records if " left" in record.message]
    assert [line.split()[0] for line in lines] == ["1/3", "2/3"]


@pytest.mark.parametrize(
    ("keys", "options", "parts"),
    [
        ("", {}, ("fliplr without effect", "3 integers", "fliplr=0")),
        ("", {"flipud": 0.1}, ("fliplr and flipud", "fliplr=0 flipud=0")),
        (
            "kpt_names: {0: [left_eye, right_eye, nose]}",
            {},
            ("`flip_idx: [1, 0, 2]`", "names of the keypoints suggest"),
        ),
        ("", {"fliplr": 0.0}, ()),
        ("flip_idx: [0, 1, 2]", {}, ()),
    ],
)
def test_warns_if_flips_need_a_missing_flip_idx(keys, options, parts, log, tmp_path) -> None:
    data, model = make_world(tmp_path)
    data.write_text(data.read_text().replace("flip_idx: [1, 0, 2]", keys))
    YOLO(model).train(data=data, **{**FAST, "epochs": 1, "val": False, "project": str(tmp_path / "runs"), **options})
    lines = [record.message for record in log.records if "no image is flipped" in record.message]
    assert len(lines) == bool(parts)
    assert all(part in lines[0] for part in parts)
