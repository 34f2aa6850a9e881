"""The progress line off and on a terminal, and the image of labels."""

from __future__ import annotations

import io
import re
import sys
from dataclasses import replace
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import rich.console
import rich.progress

from yolopose.base.log import LOGGER
from yolopose.data import load_dataset, load_labels
from yolopose.train.record import EpochLine, console, plot_labels
from yolopose.train.record.images import keypoint_shares

from train_worlds import make_world  # isort: skip

LOSSES = {"box_loss": 1.25, "pose_loss": 4.5, "kobj_loss": 0.5, "cls_loss": 1.125, "dfl_loss": 12345.6}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is logged."""
    lines: list[str] = []
    monkeypatch.setattr(LOGGER, "info", lines.append)
    return lines


def test_heads_stand_over_their_numbers_and_once_is_enough(said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    clock = count(step=2)  # seconds: each look at it finds two more gone
    monkeypatch.setattr(console, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    for epoch in (1, 2):
        with EpochLine(epoch, 100, 1, head=epoch == 1) as shown:
            shown.update(LOSSES, 37, (640, 640), 16)
            assert len(said) == epoch  # nothing while it runs
    assert said[0] == console.header(LOSSES)
    assert " ".join(said[0].split()) == "Epoch memory box pose kobj cls dfl instances size images/s"
    assert said[1].split()[2:9] == ["1.25", "4.5", "0.5", "1.125", "1.23e+04", "37", "640"]
    assert said[1].split()[9] == "8.0"  # 16 images in the 2 s since the epoch began
    assert len(said) == 3
    ends = [[match.end() for match in re.finditer(r"\S+", text)] for text in said]
    assert ends[0] == ends[1] == ends[2]


def test_disabled_shows_nothing_but_keeps_its_text(said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    out = Terminal()
    monkeypatch.setattr(sys, "stdout", out)
    with EpochLine(1, 2, 1, enabled=False) as shown:
        shown.update(LOSSES, 37, (640, 640), 16)
    assert (said, out.getvalue()) == ([], "")
    assert shown.text.split()[0] == "1/2"


def test_an_epoch_that_fails_has_no_line(said: list[str]) -> None:
    def fail() -> None:
        with EpochLine(1, 2, 1, head=False) as shown:
            shown.update(LOSSES, 37, (640, 640), 16)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert said == []


@pytest.mark.parametrize(("width", "shown"), [(60, "0.5"), (80, "1.23e+04"), (200, "images/s")])
def test_live_line_stays_one_and_says_how_far_it_is(
    width: int, shown: str, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = Terminal()
    console = rich.console.Console(file=out, width=width, force_terminal=True, color_system=None)
    monkeypatch.setattr(rich, "get_console", lambda: console)
    monkeypatch.setattr("rich.progress.get_console", lambda: console)
    monkeypatch.setattr(sys, "stdout", out)
    with EpochLine(3, 100, 4) as epoch:
        for _ in range(2):
            epoch.update(LOSSES, 37, (640, 640), 16)
    frames = [text for text in re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", out.getvalue())) if text]
    assert all(frame.split()[0] == "3/100" for frame in frames)  # a folded line would begin otherwise
    assert max(map(len, frames)) <= width
    assert re.search(r"(50%|2/4) +[-\d:]+ *$", frames[-1])
    assert (shown in frames[-1]) is (width < 200)
    assert said[1:] == [epoch.text]


def test_keypoint_shares() -> None:
    seen = np.array([[2, 1, 0], [2, 0, 0], [1, 0, 0], [2, 2, 0]])
    found = keypoint_shares(seen, 3)
    assert found["visible"].tolist() == [0.75, 0.25, 0]
    assert found["hidden"].tolist() == [0.25, 0.25, 0]
    assert found["unlabeled"].tolist() == [0, 0.5, 1]
    flat = keypoint_shares(seen, 2)
    assert list(flat) == ["labeled", "unlabeled"]
    assert flat["labeled"].tolist() == [1, 0.5, 0]
    assert keypoint_shares(seen[:0], 3)["unlabeled"].tolist() == [0, 0, 0]


def test_labels_without_an_object_are_drawn(tmp_path: Path) -> None:
    data, _ = make_world(tmp_path / "own", images=2)
    dataset = load_dataset(data)
    table = load_labels(dataset, "train")
    none = replace(
        table,
        offsets=np.zeros_like(table.offsets),
        classes=table.classes[:0],
        boxes=table.boxes[:0],
        keypoints=table.keypoints[:0],
    )
    plot_labels(none, dataset.spec, tmp_path / "labels.jpg")
    assert cv2.imread(str(tmp_path / "labels.jpg")).std() > 2
