"""What training says between its epochs and at its end, and about mirroring."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from train_worlds import FAST, make_world

from yolopose import YOLO
from yolopose.base.log import LOGGER
from yolopose.base.progress import format_duration
from yolopose.train.record import HEADER_EVERY, epoch_summary, final_report


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    monkeypatch.setattr(LOGGER, "propagate", True)
    caplog.set_level("INFO")
    return caplog


def metrics(box: float, pose: float) -> Any:
    return SimpleNamespace(
        names={0: "mouse"}, nt_per_class=np.array([7]),
        box=SimpleNamespace(map50=box), pose=SimpleNamespace(map50=pose),
        mean_results=lambda: [0.1, 0.2, box, 0.3, 0.4, 0.5, pose, 0.6],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.4, "0 seconds"), (1, "1 second"), (89, "89 seconds"), (90, "2 minutes"), (180, "3 minutes"),
        (5399, "90 minutes"), (5400, "1.5 hours"), (36_000, "10 hours"), (216_000, "2.5 days"), (1e9, "11574 days"),
    ],
)  # fmt: skip
def test_times_are_said_as_people_say_them(seconds: float, words: str) -> None:
    assert format_duration(seconds) == words


def test_an_epoch_is_one_row_under_a_head_that_comes_back() -> None:
    head, row = epoch_summary(metrics(0.75, 0.5), 3, 180, head=True).splitlines()
    assert head.split()[:3] == ["Class", "Images", "Instances"]
    assert " ".join(row.split()) == "all 3 7 0.1 0.2 0.75 0.3 0.4 0.5 0.5 0.6 about 3 minutes left"
    assert epoch_summary(metrics(0.75, 0.5), 3, 0, head=False).endswith("0.6")
    assert epoch_summary(None, 0, 61, head=True) == "about 61 seconds left"
    assert epoch_summary(None, 0, 0, head=True) == ""


@pytest.mark.parametrize(
    ("box", "pose", "words"),
    [(0.0, 0.0, "Nothing of this data set"), (0.3, 0.001, "no pose fits yet"), (0.3, 0.2, "")],
)
def test_a_zero_is_explained(box: float, pose: float, words: str) -> None:
    lines = final_report(metrics(box, pose), 3, 12).splitlines()
    assert len(lines) == 2 + bool(words)
    assert words in lines[-1]
    assert not words or "here 12" in lines[-1]
    assert ("start from trained weights" in lines[-1]) == bool(words)
    assert "start from trained weights" not in final_report(metrics(box, pose), 3, 12, fresh=False)


def test_a_run_says_what_it_measures_and_how_much_it_uses(said, tmp_path) -> None:
    data, model = make_world(tmp_path)
    seen = []
    net = YOLO(model)
    for event in ("on_fit_epoch_end", "on_train_end", "teardown"):
        net.add_callback(event, lambda trainer, event=event: seen.append((event, trainer.epoch)))
    options = {**FAST, "epochs": HEADER_EVERY + 2, "verbose": True, "fraction": 0.5, "project": str(tmp_path / "runs")}
    net.train(data=data, **options)
    lines = [line.split() for line in said.text.splitlines()]
    assert len([line for line in lines if "all" in line and "8" in line]) == HEADER_EVERY + 3  # best.pt once more
    assert len([line for line in lines if "Class" in line]) == 3
    assert "4 of 8 images (fraction=0.5), 8 for validation" in said.text
    assert f"{HEADER_EVERY + 2} epochs completed in " in said.text
    assert f"Validated {net.trainer.best}" in said.text
    last = HEADER_EVERY + 1
    assert seen[-4:] == [
        (event, last) for event in ("on_fit_epoch_end", "on_fit_epoch_end", "on_train_end", "teardown")
    ]
    said.clear()
    net.train(data=data, **{**options, "epochs": 1, "verbose": False})
    assert said.text == ""


@pytest.mark.parametrize(
    ("keys", "options", "words"),
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
def test_a_missing_flip_idx_is_one_line_where_it_matters(keys, options, words, said, tmp_path) -> None:
    data, model = make_world(tmp_path)
    data.write_text(data.read_text().replace("flip_idx: [1, 0, 2]", keys))
    YOLO(model).train(data=data, **{**FAST, "epochs": 1, "val": False, "project": str(tmp_path / "runs"), **options})
    lines = [record.message for record in said.records if "no image is flipped" in record.message]
    assert len(lines) == bool(words)
    assert all(word in lines[0] for word in words)
