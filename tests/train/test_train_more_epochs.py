"""A run is given more epochs: interrupted or finished, with its optimizer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from train_worlds import FAST, make_world

from yolopose import YOLO
from yolopose.base.errors import TrainError

CONSTANT = {**FAST, "lrf": 1.0, "warmup_epochs": 0, "keep_state": True}


def weights(model: YOLO) -> np.ndarray:
    return np.concatenate([value.float().cpu().numpy().ravel() for value in model.state_dict().values()])


def test_a_finished_run_goes_on_as_if_it_had_not_ended(tmp_path: Path) -> None:
    """With a constant learning rate, 2 + 2 epochs are the same as 4."""
    data, yaml = make_world(tmp_path)
    whole = YOLO(yaml)
    whole.train(**{**CONSTANT, "epochs": 4}, data=data, project=tmp_path / "whole")
    YOLO(yaml).train(**CONSTANT, data=data, project=tmp_path / "parts")
    last = tmp_path / "parts/train/weights/last.pt"
    model = YOLO(last)
    model.train(resume=True, epochs=4)
    assert len((tmp_path / "parts/train/results.csv").read_text().splitlines()) == 5
    np.testing.assert_array_equal(weights(YOLO(last)), weights(YOLO(tmp_path / "whole/train/weights/last.pt")))
    with pytest.raises(TrainError, match=r"completed 4 epochs, so epochs=3 leaves nothing.*epochs=54"):
        YOLO(last).train(resume=True, epochs=3)


def test_patience_counts_from_the_new_epochs(tmp_path: Path) -> None:
    data, yaml = make_world(tmp_path)
    options = {**CONSTANT, "lr0": 0.0, "epochs": 9, "patience": 2}
    YOLO(yaml).train(**options, data=data, project=tmp_path)
    csv = tmp_path / "train/results.csv"
    assert len(csv.read_text().splitlines()) == 1 + 3  # stopped by patience
    YOLO(tmp_path / "train/weights/last.pt").train(resume=True, epochs=20)
    assert len(csv.read_text().splitlines()) == 1 + 3 + 2


def test_without_the_state_the_error_has_both_ways(tmp_path: Path) -> None:
    data, yaml = make_world(tmp_path)
    YOLO(yaml).train(**{**CONSTANT, "keep_state": False, "epochs": 1}, data=data, project=tmp_path)
    last = tmp_path / "train/weights/last.pt"
    with pytest.raises(TrainError, match=r"without `resume`, with the `epochs` to add.*keep_state=True"):
        YOLO(last).train(resume=True, epochs=3)
