from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from yolopose.base.errors import DataError, OutputError, UsageError
from yolopose.data import load_dataset, load_labels
from yolopose.data.splitting import sample_dataset, split_dataset

ROW = "{} .5 .5 .2 .2 .4 .4 2 .6 .6 1\n"


def make_data(
    folder: Path, names: Sequence[str], classes: Sequence[int] = (0,), splits: Sequence[str] = ("train",)
) -> Path:
    """Write images, dealt to the splits in turn, with one instance of the classes in turn; return the data YAML."""
    for index, name in enumerate(names):
        split = splits[index % len(splits)]
        for kind in ("images", "labels"):
            (folder / kind / split / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / "images" / split / f"{name}.png"), np.full((20, 20, 3), index % 250, np.uint8))
        (folder / "labels" / split / f"{name}.txt").write_text(ROW.format(classes[index % len(classes)]))
    file = folder / "set.yaml"
    entries = {split: f"images/{split}" for split in splits}
    described = {"kpt_shape": [2, 3], "flip_idx": [1, 0], "names": ["cat", "dog"], "kpt_names": [["a", "b"]] * 2}
    described["kpt_names"] = {0: ["left", "right"]}
    file.write_text(yaml.safe_dump({"path": ".", **entries, **described}))
    return file


def digests(folder: Path) -> dict[str, str]:
    """Return the checksum of every file below a folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_splits_are_lists_of_the_own_files(tmp_path: Path) -> None:
    data = make_data(tmp_path / "a", [f"{index:03}" for index in range(20)], classes=(0, 0, 0, 1))
    before = digests(tmp_path / "a")
    result = split_dataset(data, tmp_path / "out", val=0.25)
    assert digests(tmp_path / "a") == before
    assert (dict(result.images), dict(result.instances)) == ({"train": 15, "val": 5}, {"train": 15, "val": 5})
    assert sorted(os.listdir(tmp_path / "out")) == ["data.yaml", "train.txt", "val.txt"]
    split = load_dataset(result.data)
    assert split.spec == load_dataset(data).spec
    train, val = (set(split.image_files(name)) for name in ("train", "val"))
    assert train | val == set(load_dataset(data).image_files("train"))
    assert not train & val
    assert load_labels(split, "val").counts.labeled == 5
    classes = load_labels(split, "val").classes
    assert (classes == 1).sum() == 1  # 5 of 20 instances, so 1.25 of 5


def test_relative_lists_survive_moving_the_parent_folder(tmp_path: Path) -> None:
    data = make_data(tmp_path / "all/a", [f"{index:03}" for index in range(6)])
    split_dataset(data, tmp_path / "all/out", val=0.5)
    os.rename(tmp_path / "all", tmp_path / "moved")
    files = load_dataset(tmp_path / "moved/out/data.yaml").image_files("val")
    assert len(files) == 3
    assert all(file.is_file() for file in files)


def test_copy_writes_folders_that_do_not_depend_on_the_source(tmp_path: Path) -> None:
    data = make_data(tmp_path / "a", ["x/1", "y/1", "x/2", "y/2"], splits=("train", "val"))
    result = split_dataset(data, tmp_path / "out", val=0.5, by="image", copy=True)
    os.rename(tmp_path / "a", tmp_path / "gone")
    split = load_dataset(result.data)
    assert [len(load_labels(split, name)) for name in ("train", "val")] == [2, 2]
    assert load_labels(split, "train").counts.labeled == 2


def test_frames_of_a_video_stay_together(tmp_path: Path) -> None:
    names = [f"{video}_{frame:04}" for video in "abcdefghij" for frame in range(8)]
    result = split_dataset(make_data(tmp_path / "a", names), tmp_path / "out", val=0.2, test=0.1)
    assert dict(result.groups) == {"train": 7, "val": 2, "test": 1}
    split = load_dataset(result.data)
    videos = [{file.name[0] for file in split.image_files(name)} for name in ("train", "val", "test")]
    assert sum(map(len, videos)) == 10


def test_one_video_is_cut_into_runs(tmp_path: Path) -> None:
    data = make_data(tmp_path / "a", [f"img{frame:04}" for frame in range(60)], splits=("train", "val"))
    result = split_dataset(data, tmp_path / "out", val=0.2)
    assert dict(result.images) == {"train": 48, "val": 12}
    frames = sorted(int(file.stem[3:]) for file in load_dataset(result.data).image_files("val"))
    borders = sum(second - first > 1 for first, second in itertools.pairwise(frames))
    assert borders <= 2
    with pytest.raises(UsageError, match="cannot be divided into 2 splits"):
        split_dataset(data, tmp_path / "other", by="group")


def test_groups_that_are_classes_are_cut(tmp_path: Path) -> None:
    names = [f"{kind}{index:03}" for index in range(25) for kind in ("cat", "dog")]
    result = split_dataset(make_data(tmp_path / "a", names, classes=(0, 1)), tmp_path / "out", val=0.2)
    classes = load_labels(load_dataset(result.data), "val").classes
    assert abs(int((classes == 0).sum()) - int((classes == 1).sum())) <= 1


def test_runs_are_short_enough_for_every_class(tmp_path: Path) -> None:
    """Two videos of different classes, of 80 and 30 frames: a fifth of each is for validation."""
    names = [f"mouse/a{index:03}" for index in range(80)] + [f"hand/b{index:03}" for index in range(30)]
    data = make_data(tmp_path / "a", names, classes=[0] * 80 + [1] * 30)
    result = split_dataset(data, tmp_path / "out", val=0.2)
    counts = np.bincount(load_labels(load_dataset(result.data), "val").classes, minlength=2)
    assert abs(counts[0] - 16) <= 4
    assert abs(counts[1] - 6) <= 3


def test_group_pattern(tmp_path: Path) -> None:
    names = [f"{index}-{person}" for index in range(10) for person in ("ann", "bob", "cid", "dan")]
    result = split_dataset(make_data(tmp_path / "a", names), tmp_path / "out", val=0.25, group=r"-(\w+)\.png")
    people = {file.stem.split("-")[1] for file in load_dataset(result.data).image_files("val")}
    assert len(people) == 1


def test_an_existing_test_split_is_kept_and_not_trained_on(tmp_path: Path) -> None:
    data = make_data(tmp_path / "a", [f"{index:03}" for index in range(12)], splits=("train", "val", "test"))
    text = data.read_text().replace("train: images/train", "train: [images/train, images/test]")
    data.write_text(text)
    split = load_dataset(split_dataset(data, tmp_path / "out", val=0.25).data)
    files = {name: {file.name for file in split.image_files(name)} for name in ("train", "val", "test")}
    assert files["test"] == {"002.png", "005.png", "008.png", "011.png"}
    assert not files["test"] & (files["train"] | files["val"])
    assert {name: len(names) for name, names in files.items()} == {"train": 6, "val": 2, "test": 4}


def test_same_seed_same_split(tmp_path: Path) -> None:
    data = make_data(tmp_path / "a", [f"{index:03}" for index in range(30)])
    lists = []
    for index, seed in enumerate((1, 1, 2)):
        split_dataset(data, tmp_path / f"out{index}", seed=seed)
        lists.append((tmp_path / f"out{index}/val.txt").read_text())
    assert lists[0] == lists[1] != lists[2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"val": 0.0}, "whose sum is below 1"),
        ({"val": 0.6, "test": 0.4}, "whose sum is below 1"),
        ({"by": "frame"}, "auto, image or group"),
        ({"by": "image", "group": "x"}, "contradicts"),
        ({"by": "group"}, "show no groups"),
    ],
)
def test_impossible_options(options: dict[str, object], message: str, tmp_path: Path) -> None:
    data = make_data(tmp_path / "a", [f"{index:03}" for index in range(5)])
    with pytest.raises(UsageError, match=message):
        split_dataset(data, tmp_path / "out", **options)  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    data = make_data(tmp_path / "a", ["1", "2"])
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine.txt").write_text("mine")
    with pytest.raises(OutputError, match="not an empty folder"):
        split_dataset(data, tmp_path / "out", val=0.5)
    assert os.listdir(tmp_path / "out") == ["mine.txt"]


def test_faulty_labels_are_counted_and_stay_in_the_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = make_data(tmp_path / "a", ["1", "2", "3", "4"])
    (tmp_path / "a/labels/train/3.txt").write_text("0 .5 .5\n")
    assert sum(split_dataset(data, tmp_path / "out", val=0.5).images.values()) == 4
    assert "1 of 4 label files are faulty" in capsys.readouterr().err


def test_sample_keeps_proportions(tmp_path: Path) -> None:
    names = [f"{index:03}" for index in range(40)]
    data = make_data(tmp_path / "a", names, classes=(0, 0, 0, 1), splits=("train", "train", "train", "train", "val"))
    result = sample_dataset(data, 10, tmp_path / "out")
    assert dict(result.images) == {"train": 8, "val": 2}
    classes = load_labels(load_dataset(result.data), "train").classes
    assert (classes == 1).sum() == 2
    only = sample_dataset(data, 4, tmp_path / "only", split="train")
    split = load_dataset(only.data)
    assert (len(split.image_files("train")), len(split.image_files("val"))) == (4, 8)


def test_sample_of_everything_and_too_much(tmp_path: Path) -> None:
    data = make_data(tmp_path / "a", ["1", "2", "3"])
    assert dict(sample_dataset(data, 3, tmp_path / "out").images) == {"train": 3}
    with pytest.raises(DataError, match="has 3 images in train, fewer than n=4"):
        sample_dataset(data, 4, tmp_path / "more")


def test_real_data_sets(shared: Path, tmp_path: Path) -> None:
    result = split_dataset(shared / "data/mouse/mouse.yaml", tmp_path / "mouse", val=0.2)
    split = load_dataset(result.data)
    assert sum(result.images.values()) == 116
    assert 20 <= result.images["val"] <= 26
    assert len(load_labels(split, "val", cache=False)) == result.images["val"]
    people = split_dataset(shared / "data/coco-mini/coco-mini.yaml", tmp_path / "people", val=0.25)
    assert dict(people.images) == {"train": 155, "val": 51}
    assert abs(people.instances["val"] / sum(people.instances.values()) - 0.25) < 0.01
