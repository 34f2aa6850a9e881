"""results.csv and results.png: the public columns, what is refused, what an old or damaged file gives."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from yolopose.base.errors import OutputError
from yolopose.train.record import COLUMNS, History, plot_results
from yolopose.train.record.plots import _draw

PUBLIC = (
    "epoch,time,train/box_loss,train/pose_loss,train/kobj_loss,train/cls_loss,train/dfl_loss,metrics/precision(B),"
    "metrics/recall(B),metrics/mAP50(B),metrics/mAP50-95(B),metrics/precision(P),metrics/recall(P),metrics/mAP50(P),"
    "metrics/mAP50-95(P),val/box_loss,val/pose_loss,val/kobj_loss,val/cls_loss,val/dfl_loss,lr/pg0,lr/pg1,lr/pg2"
)


def row(epoch: float, **values: float) -> dict[str, float]:
    return {**{name: index + 0.25 for index, name in enumerate(COLUMNS)}, "epoch": epoch, **values}


def test_the_head_is_the_public_one_and_numbers_have_six_digits(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    History(path).add(row(1234567, time=1 / 3, **{"lr/pg2": 1.23456789e-5, "val/box_loss": math.nan}))
    head, line = path.read_text().splitlines()
    assert head == PUBLIC
    cells = dict(zip(head.split(","), line.split(","), strict=True))
    assert cells["epoch"] == "1234567"
    assert (cells["time"], cells["lr/pg2"], cells["val/box_loss"]) == ("0.333333", "1.23457e-05", "")


def test_rows_given_in_another_order_are_written_under_their_own_heads(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    History(path, [dict(reversed(row(1).items()))]).add(row(2))
    first, second = History.read(path).rows
    assert first == row(1)
    assert second == row(2)


@pytest.mark.parametrize("where", ["add", "rows"])
def test_an_unknown_column_is_a_fault_of_ours(where: str, tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    wrong = {**row(1), "metrics/mAP75(P)": 0.5}
    with pytest.raises(KeyError, match="mAP75"):
        History(path, [wrong]) if where == "rows" else History(path).add(wrong)
    assert not path.exists()


@pytest.mark.parametrize("epoch", ["0", "1.5", "-inf", "inf", ""])
def test_a_line_without_a_proper_epoch_is_left_out_and_said(
    epoch: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("yolopose.train.record.results_csv.LOGGER.propagate", True)
    path = tmp_path / "results.csv"
    History(path).add(row(1))
    path.write_text(path.read_text() + epoch + ",0.5" * (len(COLUMNS) - 1) + "\n")
    assert History.read(path).column("epoch") == [1]
    assert "damaged" in caplog.text


def test_a_line_with_too_many_cells_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    History(path).add(row(1))
    path.write_text(path.read_text() + "2" + ",0.5" * len(COLUMNS) + "\n")
    assert History.read(path).column("epoch") == [1]


def test_of_two_rows_of_an_epoch_the_later_counts(tmp_path: Path) -> None:
    history = History(tmp_path / "results.csv")
    for epoch, time in ((1, 1.0), (2, 2.0), (2, 3.0)):
        history.add(row(epoch, time=time))
    assert History.read(history.path).column("time") == [1, 3]


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "results.csv").mkdir()
    with pytest.raises(OutputError, match=r"results\.csv"):
        History(tmp_path / "results.csv").add(row(1))


def test_values_between_gaps_are_drawn(tmp_path: Path) -> None:
    figure = pytest.importorskip("matplotlib.figure").Figure()
    axes = figure.subplots()
    values = np.where(np.arange(60) % 2, np.nan, np.arange(60.0))
    _draw(axes, np.arange(1.0, 61), values, "val/box_loss")
    raw = axes.get_lines()[0].get_xydata()
    assert np.array_equal(raw, np.stack((np.arange(1.0, 60, 2), np.arange(0.0, 60, 2)), 1))


def test_drawing_leaves_pyplot_alone_and_no_other_file_behind(tmp_path: Path) -> None:
    pyplot = pytest.importorskip("matplotlib.pyplot")
    before = pyplot.get_fignums(), pyplot.get_backend()
    plot_results(History(tmp_path / "results.csv"), tmp_path / "results.png")
    assert (pyplot.get_fignums(), pyplot.get_backend()) == before
    assert [file.name for file in tmp_path.iterdir()] == ["results.png"]
