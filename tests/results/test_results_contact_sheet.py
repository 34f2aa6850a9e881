from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from yolopose.base.errors import DataError, OutputError, UsageError
from yolopose.data import load_dataset
from yolopose.results.contact_sheet import draw_contact_sheet, show_split

ROW = "0 .5 .5 .6 .6 .35 .35 2 .65 .65 1\n"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for kind in ("images", "labels"):
        (tmp_path / "set" / kind).mkdir(parents=True)
    for index in range(7):
        shape = (60, 120, 3) if index % 2 else (120, 60, 3)
        cv2.imwrite(str(tmp_path / f"set/images/{index}.png"), np.full(shape, 30 * index, np.uint8))
        (tmp_path / f"set/labels/{index}.txt").write_text(ROW)
    (tmp_path / "set/labels/1.txt").write_text("0 .5\n")
    (tmp_path / "set/labels/2.txt").write_text("")
    (tmp_path / "set/images/3.png").write_bytes(b"no image")
    file = tmp_path / "set/set.yaml"
    file.write_text("path: .\ntrain: images\nnames: [cat]\nkpt_shape: [2, 3]\nskeleton: [[0, 1]]\n")
    return file


def test_rows_are_as_high_as_their_images(data: Path) -> None:
    dataset = load_dataset(data)
    files = dataset.image_files("train")
    wide, high = files[1::2], files[::2]
    one = draw_contact_sheet(wide[:1], dataset.spec, tile=100)
    assert one.shape == (6 + 50 + 20 + 6, 6 + 100 + 6, 3)
    assert draw_contact_sheet(high[:1], dataset.spec, tile=100).shape[0] == 6 + 100 + 20 + 6
    both = draw_contact_sheet([*wide[:1], *wide[2:], *high], dataset.spec, columns=2, tile=100)
    assert both.shape == ((6 + 50 + 20) + 2 * (6 + 100 + 20) + 6, 2 * 106 + 6, 3)


def test_labels_are_drawn(data: Path) -> None:
    dataset = load_dataset(data)
    labeled, empty = (dataset.image_files("train")[index] for index in (4, 2))
    with_labels = draw_contact_sheet([labeled], dataset.spec, tile=120)[6:126, 6:126]
    colors = {tuple(color) for color in with_labels.reshape(-1, 3).tolist()}
    assert len(colors) > 20
    assert with_labels[78, 78].tolist() != with_labels[42, 42].tolist()  # the hidden keypoint is a ring
    without = draw_contact_sheet([empty], dataset.spec, tile=120)[6:126, 36:96]
    assert np.unique(without).tolist() == [60]


def test_show_writes_one_file_for_a_split(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    first = show_split(data, images=4, columns=2, tile=64)
    second = show_split(data, images=4, columns=2, tile=64, seed=3)
    assert (str(first), str(second)) == ("set-train.png", "set-train-2.png")
    assert cv2.imread(str(first)).shape[1] == 2 * 70 + 6
    assert first.read_bytes() != second.read_bytes()


def test_nothing_is_overwritten(data: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.png").write_text("mine")
    with pytest.raises(OutputError, match="already exists"):
        show_split(data, output=tmp_path / "mine.png")
    with pytest.raises(UsageError, match=r"cannot be written as '\.doc'"):
        show_split(data, output=tmp_path / "sheet.doc")
    with pytest.raises(DataError, match="has no `val:` entry"):
        show_split(data, "val", tmp_path / "x.png")


def test_impossible_sizes(data: Path) -> None:
    dataset = load_dataset(data)
    files = dataset.image_files("train")
    with pytest.raises(UsageError, match="more than an image file can have"):
        draw_contact_sheet(files * 200, dataset.spec, columns=1, tile=320)
    with pytest.raises(UsageError, match="from 1"):
        draw_contact_sheet([], dataset.spec)
