"""What a run tells about itself: rows that survive, a line that is right, images that show."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from yolopose.base.errors import DataError
from yolopose.data import load_dataset, load_labels
from yolopose.schema import KeypointSchema, PoseSpec
from yolopose.train.feed import TrainBatch
from yolopose.train.record import (
    COLUMNS,
    EpochLine,
    History,
    plot_labels,
    plot_results,
    plot_train_batch,
)
from yolopose.train.record.plots import smooth

from train_worlds import make_world  # isort: skip


def row(epoch: int, **values: float) -> dict[str, float]:
    return {**dict.fromkeys(COLUMNS, 0.5), "epoch": epoch, **values}


def test_rows_come_back_and_those_of_later_epochs_do_not(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    history = History(path)
    for epoch in (1, 2, 3):
        history.add(row(epoch, **{"time": epoch / 3, "metrics/mAP50(P)": math.nan}))
    found = History.read(path, 2)
    assert found.column("epoch") == [1, 2]
    assert found.column("time") == pytest.approx([1 / 3, 2 / 3], rel=1e-5)
    assert math.isnan(found.column("metrics/mAP50(P)")[0])
    found.add(row(3))
    assert [line.split(",")[0] for line in path.read_text().splitlines()] == ["epoch", "1", "2", "3"]


@pytest.mark.parametrize("damage", ["3,0.1,0.2", "3" + ",x" * 22, "\n\n"])
def test_a_damaged_row_is_left_out(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    History(path).add(row(1))
    path.write_text(path.read_text() + damage)
    assert History.read(path, 9).column("epoch") == [1]


def test_a_file_of_another_kind_is_an_error_and_none_is_empty(tmp_path: Path) -> None:
    assert History.read(tmp_path / "none.csv", 9).rows == []
    (tmp_path / "results.csv").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(DataError, match=r"results\.csv"):
        History.read(tmp_path / "results.csv", 9)


def test_a_row_without_a_column_is_a_fault_of_ours(tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        History(tmp_path / "results.csv").add({"epoch": 1})


def test_line_shows_means_instances_size_and_rate(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"), EpochLine(3, 10, 2) as line:
        line.update({"box_loss": 1.25}, 7, (320, 320), 4)
        line.update({"box_loss": 1.5}, 5, (320, 256), 4)
    words = caplog.messages[-1].split()
    assert words[0] == "3/10"
    assert words[2:5] == ["1.5", "5", "320x256"]
    assert float(words[1].removesuffix("G")) > 0.01
    assert len(caplog.messages) == 2


@pytest.mark.parametrize("count", [1, 30])
def test_results_image(count: int, tmp_path: Path) -> None:
    history = History(tmp_path / "results.csv")
    history.rows = [row(epoch, **{"val/box_loss": math.nan}) for epoch in range(1, count + 1)]
    plot_results(history, tmp_path / "results.png")
    assert cv2.imread(str(tmp_path / "results.png")).std() > 5


def test_smooth_is_a_running_mean() -> None:
    values = np.random.default_rng(0).normal(size=30)
    found = smooth(values)
    assert found[10] == pytest.approx(values[6:15].mean())
    assert found[0] == pytest.approx(values[:5].mean())


def test_batch_image_shows_points_where_the_labels_are(tmp_path: Path) -> None:
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
    assert left.max() < 60  # nothing is drawn on the first
    y, x = image.shape[0] // 2, half // 4  # the point of the second; it is large enough to be seen in the whole
    assert (right[y - 4 : y + 5, x - 4 : x + 5] > 100).mean() > 0.9


@pytest.mark.parametrize("dims", [2, 3])
def test_labels_image(dims: int, tmp_path: Path) -> None:
    data, _ = make_world(tmp_path / "own", dims=dims, classes=2)
    dataset = load_dataset(data)
    plot_labels(load_labels(dataset, "train"), dataset.spec, tmp_path / "labels.jpg")
    assert cv2.imread(str(tmp_path / "labels.jpg")).std() > 5
