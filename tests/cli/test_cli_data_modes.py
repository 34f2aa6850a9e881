from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from yolopose.cli import main
from yolopose.data import load_dataset


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for kind in ("images", "labels"):
        (tmp_path / "own" / kind).mkdir(parents=True)
    for index in range(8):
        cv2.imwrite(str(tmp_path / f"own/images/{index}.png"), np.full((40, 40, 3), 30 * index, np.uint8))
        (tmp_path / f"own/labels/{index}.txt").write_text("0 .5 .5 .5 .5 .4 .4 2\n")
    file = tmp_path / "own/own.yaml"
    file.write_text("path: .\ntrain: images\nnames: [cat]\nkpt_shape: [1, 3]\nkpt_names: [nose]\nflip_idx: [0]\n")
    monkeypatch.chdir(tmp_path)
    return file


def test_a_data_set_is_split_sampled_merged_and_shown(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "split", f"data={data}", "val=0.25"]) == 0
    assert len(load_dataset("own-split/data.yaml").image_files("val")) == 2
    assert main(["data", "split", f"data={data}", "val=0.25"]) == 0
    assert Path("own-split2/data.yaml").is_file()
    assert main(["data", "sample", "data=own-split/data.yaml", "n=4", "output=few", "copy"]) == 0
    assert len(load_dataset("few/data.yaml").image_files("train")) == 3
    assert main(["data", "merge", "data=few/data.yaml,own-split/data.yaml", "output=all"]) == 0
    assert len(load_dataset("all/data.yaml").image_files("val")) == 3
    assert main(["data", "show", "data=all/data.yaml", "split=val", "tile=64"]) == 0
    assert cv2.imread("all-val.png").shape[1] == 3 * 70 + 6
    assert "4 images occur in several of the data sets" in capsys.readouterr().err


def test_known_data_sets_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "list", "find=tiger"]) == 0
    assert "tiger-pose" in capsys.readouterr().out
    assert main(["data", "list", "name=tiger-pose"]) == 0
    assert "left_hind_paw" in capsys.readouterr().out
    assert main(["data"]) == 0
    assert "yolo data split | merge" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("data split", "needs a data set: give data=my-data.yaml"),
        ("data merge", "give data=a.yaml,b.yaml"),
        ("data merge data=a.yaml", "at least two data sets"),
        ("data get", "Give the name of a data set"),
        ("data get name=coco9-pose", "or 'coco8-pose'"),
        ("data get name=mpii", "cannot be downloaded directly"),
        ("data split data=own/own.yaml val=2", "out of range"),
        ("data split data=own/own.yaml fraction=0.2", "no effect in data split"),
        ("data split data=own/own.yaml ratio=0.2", "Did you mean 'val'"),
        ("data split data=own/nosuch.yaml", "does not exist"),
        ("data show data=own/own.yaml split=vall", "Did you mean 'val'"),
        ("label", "give source=images/"),
    ],
)
def test_mistakes_are_explained(line: str, message: str, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status = main(line.split())
    error = capsys.readouterr().err
    assert message in error
    assert status == (0 if error.startswith("warning") else 1)
