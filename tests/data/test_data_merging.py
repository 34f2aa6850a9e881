from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

from yolopose.base.errors import DataError, OutputError, UsageError
from yolopose.data import load_dataset, load_labels
from yolopose.data.merging import merge_datasets, source_names


def make_data(
    folder: Path,
    names: list[str],
    points: list[str] | None,
    row: str,
    *,
    count: int | None = None,
    splits: tuple[str, ...] = ("train", "val"),
    **more: Any,
) -> Path:
    """Write one image with one instance for each split; return the data YAML."""
    for index, split in enumerate(splits):
        for kind in ("images", "labels"):
            (folder / kind / split).mkdir(parents=True)
        cv2.imwrite(str(folder / f"images/{split}/a.png"), np.full((100, 200, 3), 60 * index, np.uint8))
        (folder / f"labels/{split}/a.txt").write_text(f"{row}\n")
    values = {"path": ".", **{split: f"images/{split}" for split in splits}, "names": names, **more}
    values.setdefault("kpt_shape", [count or len(points or []), 3])
    if points:
        values["kpt_names"] = {0: points}
    file = folder / f"{folder.name}.yaml"
    file.write_text(yaml.safe_dump(values))
    return file


@pytest.fixture
def cats(tmp_path: Path) -> Path:
    points = ["nose", "left_ear", "right_ear"]
    row = "0 .5 .5 .4 .4 .4 .4 2 .5 .5 1 .6 .6 2"
    return make_data(
        tmp_path / "cats", ["cat"], points, row, flip_idx=[0, 2, 1], skeleton=[[0, 1]], kpt_oks_sigmas=[0.1, 0.2, 0.2]
    )


def test_classes_and_keypoints_are_joined_by_name(cats: Path, tmp_path: Path) -> None:
    row = "1 .5 .5 .4 .4 .7 .7 2 .2 .2 2 .1 .1 1"
    other = make_data(
        tmp_path / "pets",
        ["dog", "cat"],
        ["tail", "right_ear", "left_ear"],
        row,
        flip_idx=[0, 2, 1],
        skeleton=[[1, 2], [0, 1]],
        kpt_oks_sigmas=[0.3, 0.2, 0.2],
    )
    report = merge_datasets([cats, other], tmp_path / "out")
    merged = load_dataset(report.output)
    spec = merged.spec
    names = spec.keypoints.keypoint_names(0)
    assert spec.classes == ("cat", "dog")
    assert names == ("nose", "left_ear", "right_ear", "tail")
    assert spec.keypoints.flip_idx == (0, 2, 1, 3)
    assert set(spec.keypoints.skeleton) == {(0, 1), (2, 1), (3, 2)}
    assert spec.keypoints.sigmas == (0.1, 0.2, 0.2, 0.3)
    for split in ("train", "val"):
        labels = load_labels(merged, split)
        by_folder = {file.parent.name: labels[index] for index, file in enumerate(labels.files)}
        assert by_folder["cats"].classes.tolist() == by_folder["pets"].classes.tolist() == [0]
        expected = {"cats": [2, 1, 2, 0], "pets": [0, 1, 2, 2]}
        assert {name: item.keypoints[0, :, 2].tolist() for name, item in by_folder.items()} == expected
        assert by_folder["pets"].keypoints[0, 3, :2] == pytest.approx([0.7, 0.7])
        assert by_folder["pets"].keypoints[0, 1, :2] == pytest.approx([0.1, 0.1])


def test_sources_stay_as_they_are_and_other_formats_are_read(cats: Path, tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    cv2.imwrite(str(tmp_path / "own/b.png"), np.zeros((50, 50, 3), np.uint8))
    category = {"id": 7, "name": "cat", "keypoints": ["nose", "left_ear", "right_ear"], "skeleton": []}
    annotation = {
        "id": 1, "image_id": 5, "category_id": 7, "bbox": [10, 10, 20, 20], "area": 400, "iscrowd": 0,
        "keypoints": [12, 12, 2, 15, 15, 1, 0, 0, 0], "num_keypoints": 2,
    }  # fmt: skip
    content = {
        "images": [{"id": 5, "file_name": "b.png", "width": 50, "height": 50}],
        "annotations": [annotation],
        "categories": [category],
    }
    (tmp_path / "own/train.json").write_text(json.dumps(content))
    before = sorted(path.name for path in tmp_path.rglob("*"))
    report = merge_datasets([cats, tmp_path / "own/train.json"], tmp_path / "out")
    assert sorted(path.name for path in tmp_path.rglob("*") if "out" not in path.parts) == before
    labels = load_labels(load_dataset(report.output), "train")
    assert [file.parent.name for file in labels.files] == ["cats", "own"]
    assert labels[1].keypoints[0, :, 2].tolist() == [2, 1, 0]


def test_contradictory_mirror_pairs_are_explained(cats: Path, tmp_path: Path) -> None:
    row = "0 .5 .5 .4 .4 .4 .4 2 .5 .5 1 .6 .6 2"
    other = make_data(
        tmp_path / "wrong",
        ["cat"],
        ["nose", "left_ear", "right_ear"],
        row,
        flip_idx=[0, 1, 2],
        kpt_oks_sigmas=[0.1] * 3,
    )
    with pytest.raises(DataError, match="left_ear becomes right_ear according to the flip_idx of cats, but left_ear"):
        merge_datasets([cats, other], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_different_sigmas_and_spellings_are_logged(
    cats: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row = "0 .5 .5 .4 .4 .4 .4 2 .5 .5 1 .6 .6 2"
    other = make_data(
        tmp_path / "b", ["Cat"], ["nose", "L_Ear", "R_Ear"], row, flip_idx=[0, 2, 1], kpt_oks_sigmas=[0.4, 0.2, 0.2]
    )
    third = make_data(
        tmp_path / "c", ["cat"], ["nose", "left_ear", "right_ear"], row, flip_idx=[0, 2, 1],
        kpt_oks_sigmas=[0.5, 0.2, 0.2],
    )  # fmt: skip
    merge_datasets([cats, other, third], tmp_path / "out")
    text = capsys.readouterr().err
    assert "classes differ only in spelling and are kept apart: 'cat' and 'Cat'" in text
    assert "'left_ear' and 'L_Ear'" in text
    assert "the σ of nose is 0.1 in cats and 0.5 in c" in text


def test_keypoints_without_names(cats: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = "0 .5 .5 .4 .4 .4 .4 2 .5 .5 1 .6 .6 2"
    first = make_data(tmp_path / "x", ["cat"], None, row, count=3)
    second = make_data(tmp_path / "y", ["cat"], None, row, count=3)
    with pytest.raises(DataError, match=r"x has no keypoint names.*copy them from there"):
        merge_datasets([cats, first], tmp_path / "out")
    report = merge_datasets([first, second], tmp_path / "out")
    assert "matched by their order" in capsys.readouterr().err
    assert load_dataset(report.output).spec.keypoints.count == 3


def test_two_values_per_keypoint_become_three_where_points_are_absent(tmp_path: Path) -> None:
    first = make_data(tmp_path / "x", ["a"], ["p", "q"], "0 .5 .5 .4 .4 .4 .4 -1 -1", kpt_shape=[2, 2])
    second = make_data(tmp_path / "y", ["a"], ["p", "q"], "0 .5 .5 .4 .4 .4 .4 2 .5 .5 1")
    labels = load_labels(load_dataset(merge_datasets([first, second], tmp_path / "out").output), "train")
    assert labels.keypoints[..., 2].tolist() == [[2, 0], [2, 1]]
    both = merge_datasets([first, make_data(tmp_path / "z", ["a"], ["p", "q"], "0 .5 .5 .4 .4 .4 .4 .2 .2",
                                            kpt_shape=[2, 2])], tmp_path / "two")  # fmt: skip
    assert load_dataset(both.output).spec.keypoints.dims == 2


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["a/data.yaml", "b/data.yaml"], ["a", "b"]),
        (["x/cats.yaml", "y/Cats.yaml"], ["cats", "Cats-2"]),
        (["coco/annotations/train.json"], ["annotations"]),
    ],
)
def test_names_of_sources_are_unique(paths: list[str], expected: list[str]) -> None:
    assert source_names([Path(path) for path in paths]) == expected


def test_images_in_several_sources_are_reported(cats: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = "0 .5 .5 .4 .4 .4 .4 2 .5 .5 1 .6 .6 2"
    names = ["nose", "left_ear", "right_ear"]
    other = make_data(tmp_path / "b", ["cat"], names, row, splits=("val",), flip_idx=[0, 2, 1])
    assert (tmp_path / "b/images/val/a.png").read_bytes() == (tmp_path / "cats/images/train/a.png").read_bytes()
    merge_datasets([cats, other], tmp_path / "out")
    assert "1 images occur in several of the data sets, 1 of them in different splits" in capsys.readouterr().err


def test_impossible_merges(cats: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="at least two data sets"):
        merge_datasets([cats], tmp_path / "out")
    with pytest.raises(UsageError, match="given twice"):
        merge_datasets([cats, cats.parent / "../cats/cats.yaml"], tmp_path / "out")
    other = make_data(tmp_path / "b", ["dog"], ["nose", "left_ear", "right_ear"], "0 .5 .5 .4 .4 .4 .4 2 0 0 0 0 0 0")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine").touch()
    with pytest.raises(OutputError, match="not an empty folder"):
        merge_datasets([cats, other], tmp_path / "out")


def test_channels_are_kept_and_must_agree(cats: Path, tmp_path: Path) -> None:
    row = "0 .5 .5 .4 .4 .4 .4 2 .5 .5 1 .6 .6 2"
    points = ["nose", "left_ear", "right_ear"]
    gray, other = (make_data(tmp_path / name, ["cat"], points, row, channels=1) for name in ("gray", "other"))
    report = merge_datasets([gray, other], tmp_path / "merged")
    assert load_dataset(report.output).spec.channels == 1
    with pytest.raises(DataError, match="3 in cats, 1 in gray"):
        merge_datasets([cats, gray], tmp_path / "mixed")
