"""Training data: the subset that `fraction` selects, and class weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from train_worlds import FAST, make_world

from yolopose import YOLO
from yolopose.base.errors import UsageError
from yolopose.config import TrainOptions
from yolopose.train.data import TrainData, class_weights, load_data, subset


@pytest.fixture
def data(tmp_path: Path) -> TrainData:
    return load_data(TrainOptions(data=str(make_world(tmp_path / "blocks", images=5, classes=2)[0])), 3)


@pytest.mark.parametrize(
    ("fraction", "indices"),
    [(1.0, [0, 1, 2, 3, 4]), (0.5, [0, 2]), (0.01, [0]), (3, [0, 1, 3]), (99, [0, 1, 2, 3, 4]), ([0.5], [0, 2])],
)
def test_selects_images_at_even_intervals(data: TrainData, fraction: float | list[float], indices: list[int]) -> None:
    selected = subset(data.train, fraction, data.dataset)
    assert selected.files == [data.train.files[index] for index in indices]
    for index, source in enumerate(indices):
        np.testing.assert_array_equal(selected[index].keypoints, data.train[source].keypoints)


def test_refuses_a_list_that_does_not_match_the_entries(data: TrainData) -> None:
    with pytest.raises(UsageError, match=r"fraction=\[0.5, 0.5\] must hold one number for each entry"):
        subset(data.train, [0.5, 0.5], data.dataset)


@pytest.mark.parametrize("fraction", [1.5, 0, -1])
def test_training_refuses_an_impossible_fraction(fraction: float, tmp_path: Path) -> None:
    path, model_yaml = make_world(tmp_path / "blocks")
    with pytest.raises(UsageError, match="fraction="):
        YOLO(model_yaml).train(data=path, **{**FAST, "project": tmp_path / "runs", "fraction": fraction})
    assert not (tmp_path / "runs").exists()


def test_class_weights_follow_the_frequencies(data: TrainData) -> None:
    assert class_weights(data.train, 2, 0.0) is None
    # classes alternate: 3 instances of the first and 2 of the second; weights 1/3 and 1/2, divided by their mean 5/12
    assert class_weights(data.train, 2, 1.0) == pytest.approx([4 / 5, 6 / 5])
