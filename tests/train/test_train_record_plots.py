from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from yolopose.data import load_dataset, load_labels
from yolopose.schema import KeypointSchema, PoseSpec
from yolopose.train.feed import TrainBatch
from yolopose.train.record import COLUMNS, History, plot_labels, plot_results, plot_train_batch
from yolopose.train.record.plots import _plot_column, moving_average, visibility_fractions

from train_worlds import make_world  # isort: skip


@pytest.mark.parametrize("epochs", [1, 30])
def test_plots_results(epochs: int, tmp_path: Path) -> None:
    history = History(tmp_path / "results.csv")
    row = {**dict.fromkeys(COLUMNS, 0.5), "val/box_loss": math.nan}
    history.rows = [{**row, "epoch": epoch} for epoch in range(1, epochs + 1)]
    plot_results(history, tmp_path / "results.png")
    assert cv2.imread(str(tmp_path / "results.png")).std() > 5


def test_moving_average() -> None:
    values = np.random.default_rng(0).normal(size=30)
    averages = moving_average(values)
    assert averages[10] == pytest.approx(values[6:15].mean())
    assert averages[0] == pytest.approx(values[:5].mean())


def test_values_between_gaps_are_connected() -> None:
    axes = pytest.importorskip("matplotlib.figure").Figure().subplots()
    values = np.where(np.arange(60) % 2, np.nan, np.arange(60.0))
    _plot_column(axes, np.arange(1.0, 61), values, "val/box_loss")
    points = axes.get_lines()[0].get_xydata()
    assert np.array_equal(points, np.stack((np.arange(1.0, 60, 2), np.arange(0.0, 60, 2)), 1))


def test_plots_do_not_touch_pyplot_and_leave_no_other_file(tmp_path: Path) -> None:
    pyplot = pytest.importorskip("matplotlib.pyplot")
    before = pyplot.get_fignums(), pyplot.get_backend()
    plot_results(History(tmp_path / "results.csv"), tmp_path / "results.png")
    assert (pyplot.get_fignums(), pyplot.get_backend()) == before
    assert [file.name for file in tmp_path.iterdir()] == ["results.png"]


def test_batch_grid_shows_keypoints_at_their_labels(tmp_path: Path) -> None:
    spec = PoseSpec(classes=("thing",), keypoints=KeypointSchema(count=1))
    batch = TrainBatch(
        images=torch.zeros(2, 3, 100, 200, dtype=torch.uint8),
        batch_idx=torch.tensor([1]),
        classes=torch.tensor([0]),
        boxes=torch.tensor([[0.5, 0.5, 0.2, 0.4]]),
        keypoints=torch.tensor([[[0.25, 0.5, 2.0]]]),
        index=torch.tensor([0, 1]),
    )
    plot_train_batch(batch, tmp_path / "b.jpg", ["a.png", "b.png"], spec)
    image = cv2.imread(str(tmp_path / "b.jpg")).max(axis=2)
    half = image.shape[1] // 2
    left, right = image[4 : image.shape[0] * 3 // 4, 8 : half - 8], image[:, half:]  # above the caption
    assert left.max() < 60  # nothing is drawn on the first sample
    y, x = image.shape[0] // 2, half // 4  # the keypoint of the second one, large enough to be visible in the grid
    assert (right[y - 4 : y + 5, x - 4 : x + 5] > 100).mean() > 0.9


@pytest.mark.parametrize("dims", [2, 3])
def test_plots_labels(dims: int, tmp_path: Path) -> None:
    data, _ = make_world(tmp_path / "set", dims=dims, classes=2)
    dataset = load_dataset(data)
    plot_labels(load_labels(dataset, "train"), dataset.spec, tmp_path / "labels.jpg")
    assert cv2.imread(str(tmp_path / "labels.jpg")).std() > 5


def test_plots_labels_without_instances(tmp_path: Path) -> None:
    data, _ = make_world(tmp_path / "set", images=2)
    dataset = load_dataset(data)
    table = load_labels(dataset, "train")
    empty = replace(
        table,
        offsets=np.zeros_like(table.offsets),
        classes=table.classes[:0],
        boxes=table.boxes[:0],
        keypoints=table.keypoints[:0],
    )
    plot_labels(empty, dataset.spec, tmp_path / "labels.jpg")
    assert cv2.imread(str(tmp_path / "labels.jpg")).std() > 2


def test_visibility_fractions() -> None:
    visibility = np.array([[2, 1, 0], [2, 0, 0], [1, 0, 0], [2, 2, 0]])
    fractions = visibility_fractions(visibility, 3)
    assert fractions["visible"].tolist() == [0.75, 0.25, 0]
    assert fractions["hidden"].tolist() == [0.25, 0.25, 0]
    assert fractions["unlabeled"].tolist() == [0, 0.5, 1]
    two_dims = visibility_fractions(visibility, 2)
    assert list(two_dims) == ["labeled", "unlabeled"]
    assert two_dims["labeled"].tolist() == [1, 0.5, 0]
    assert visibility_fractions(visibility[:0], 3)["unlabeled"].tolist() == [0, 0, 0]
