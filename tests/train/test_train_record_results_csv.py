from __future__ import annotations

import math
from pathlib import Path

import pytest

from yolopose.base.errors import DataError, OutputError
from yolopose.train.record import COLUMNS, History

PUBLIC = (
    "epoch,time,train/box_loss,train/pose_loss,train/kobj_loss,train/cls_loss,train/dfl_loss,metrics/precision(B),"
    "metrics/recall(B),metrics/mAP50(B),metrics/mAP50-95(B),metrics/precision(P),metrics/recall(P),metrics/mAP50(P),"
    "metrics/mAP50-95(P),val/box_loss,val/pose_loss,val/kobj_loss,val/cls_loss,val/dfl_loss,lr/pg0,lr/pg1,lr/pg2"
)
OWN = "pixels/mean,pixels/median,pixels/PCK@2px,pixels/PCK@5px,pixels/PCK@10px"  # behind the public columns


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "results.csv"


def make_row(epoch: float, **values: float) -> dict[str, float]:
    return {**{name: index + 0.25 for index, name in enumerate(COLUMNS)}, "epoch": epoch, **values}


def test_writes_public_columns_with_six_digits(path: Path) -> None:
    History(path).add(make_row(1234567, time=1 / 3, **{"lr/pg2": 1.23456789e-5, "val/box_loss": math.nan}))
    header, line = path.read_text().splitlines()
    assert header == f"{PUBLIC},{OWN}"
    values = dict(zip(header.split(","), line.split(","), strict=True))
    assert values["epoch"] == "1234567"
    assert (values["time"], values["lr/pg2"], values["val/box_loss"]) == ("0.333333", "1.23457e-05", "")


def test_reads_rows_up_to_an_epoch(path: Path) -> None:
    history = History(path)
    for epoch in (1, 2, 3):
        history.add(make_row(epoch, **{"time": epoch / 3, "metrics/mAP50(P)": math.nan}))
    resumed = History.read(path, 2)
    assert resumed.column("epoch") == [1, 2]
    assert resumed.column("time") == pytest.approx([1 / 3, 2 / 3], rel=1e-5)
    assert math.isnan(resumed.column("metrics/mAP50(P)")[0])
    resumed.add(make_row(3))
    assert [line.split(",")[0] for line in path.read_text().splitlines()] == ["epoch", "1", "2", "3"]


def test_rows_are_written_in_the_order_of_the_columns(path: Path) -> None:
    History(path, [dict(reversed(make_row(1).items()))]).add(make_row(2))
    assert History.read(path).rows == [make_row(1), make_row(2)]


def test_reads_files_without_the_columns_of_pixel_errors(path: Path) -> None:
    row = make_row(1)
    path.write_text(f"{PUBLIC}\n" + ",".join(str(row[name]) for name in PUBLIC.split(",")) + "\n")
    history = History.read(path)
    assert history.column("lr/pg2") == [row["lr/pg2"]]
    assert math.isnan(history.column("pixels/mean")[0])
    history.add(make_row(2))
    assert path.read_text().splitlines()[0] == f"{PUBLIC},{OWN}"


@pytest.mark.parametrize("source", ["add", "rows"])
def test_rejects_unknown_columns(source: str, path: Path) -> None:
    row = {**make_row(1), "metrics/mAP75(P)": 0.5}
    with pytest.raises(KeyError, match="mAP75"):
        History(path, [row]) if source == "rows" else History(path).add(row)
    assert not path.exists()


def test_rejects_missing_columns(path: Path) -> None:
    with pytest.raises(KeyError):
        History(path).add({"epoch": 1})


@pytest.mark.parametrize(
    "damaged",
    [
        "3,0.1,0.2", "3" + ",x" * (len(COLUMNS) - 1), "\n\n", "2" + ",0.5" * len(COLUMNS),
        *(epoch + ",0.5" * (len(COLUMNS) - 1) for epoch in ("0", "1.5", "-inf", "inf", "")),
    ],
    ids=lambda text: text[:12],
)  # fmt: skip
def test_skips_damaged_rows_with_a_warning(
    damaged: str, path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("yolopose.train.record.results_csv.LOGGER.propagate", True)
    History(path).add(make_row(1))
    path.write_text(path.read_text() + damaged + "\n")
    assert History.read(path, 9).column("epoch") == [1]
    assert ("damaged" in caplog.text) == bool(damaged.strip())


def test_a_later_row_of_an_epoch_replaces_the_earlier_one(path: Path) -> None:
    history = History(path)
    for epoch, time in ((1, 1.0), (2, 2.0), (2, 3.0)):
        history.add(make_row(epoch, time=time))
    assert History.read(history.path).column("time") == [1, 3]


def test_a_missing_file_is_an_empty_history(path: Path) -> None:
    assert History.read(path, 9).rows == []


def test_a_binary_file_is_an_error(path: Path) -> None:
    path.write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(DataError, match=r"results\.csv"):
        History.read(path, 9)


def test_names_a_path_that_cannot_be_written(path: Path) -> None:
    path.mkdir()
    with pytest.raises(OutputError, match=r"results\.csv"):
        History(path).add(make_row(1))
