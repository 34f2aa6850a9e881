from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from yolopose.base.errors import DataError
from yolopose.cli import main
from yolopose.data import load_dataset, load_labels
from yolopose.data.convert import convert


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    """A COCO file of two images."""
    folder = tmp_path / "set"
    (folder / "images").mkdir(parents=True)
    for name in "ab":
        (folder / f"images/{name}.png").write_bytes(
            cv2.imencode(".png", np.full((20, 30, 3), 9, np.uint8))[1].tobytes()
        )
    person = {"category_id": 1, "bbox": [3, 4, 10, 7], "area": 40, "iscrowd": 0, "keypoints": [4, 5, 2, 7, 9, 1]}
    content = {
        "images": [{"id": i, "file_name": f"{name}.png", "width": 30, "height": 20} for i, name in enumerate("ab")],
        "annotations": [{"id": i, "image_id": i, **person} for i in range(2)],
        "categories": [{"id": 1, "name": "fly", "keypoints": ["left wing", "right wing"]}],
    }
    path = folder / "annotations.json"
    path.write_text(json.dumps(content))
    return path


def test_annotations_are_converted_once_and_again_when_they_change(
    coco: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = load_dataset(coco)
    assert load_labels(first, "val").counts.labeled == 2
    assert first.spec.keypoints.flip_idx == (1, 0)
    assert first.yaml_path.parents[2] == coco.parent
    assert "converting it once" in capsys.readouterr().out
    label = next((first.root / "labels").rglob("a.txt"))
    label.write_text("")  # an edit of the user
    again = load_dataset(coco)
    assert (again.yaml_path, label.read_text()) == (first.yaml_path, "")
    assert "converting it once" not in capsys.readouterr().out
    coco.write_text(coco.read_text().replace('"fly"', '"bee"'))
    changed = load_dataset(coco)
    assert changed.spec.classes == ("bee",)
    assert (changed.yaml_path != first.yaml_path, label.read_text()) == (True, "")


def test_a_conversion_that_was_killed_is_repeated(coco: Path) -> None:
    first = load_dataset(coco)
    first.yaml_path.unlink()
    (first.root / "labels/rest.txt").write_text("rest")
    assert load_dataset(coco).yaml_path == first.yaml_path
    assert not (first.root / "labels/rest.txt").exists()


def test_a_folder_that_cannot_be_written_uses_the_data_sets_folder(
    coco: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("YOLOPOSE_DATASETS_DIR", str(tmp_path / "datasets"))
    (coco.parent / "annotations_yolopose").write_text("a file in the way")
    dataset = load_dataset(coco)
    assert dataset.yaml_path.is_relative_to(tmp_path / "datasets")


def test_folders_and_other_formats(coco: Path, tmp_path: Path) -> None:
    convert(coco, tmp_path / "cvat", to="cvat", copy_images=True, verbose=False)
    convert(coco, tmp_path / "yolo", to="yolo", verbose=False)
    for source in (tmp_path / "cvat", tmp_path / "cvat/annotations.xml", tmp_path / "yolo"):
        assert load_labels(load_dataset(source), "train").counts.labeled == 2
    assert load_dataset(tmp_path / "yolo").yaml_path == tmp_path / "yolo/data.yaml"


def test_what_is_not_an_annotation_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"name": 1}')
    for source in (tmp_path, tmp_path / "x.json"):
        with pytest.raises(DataError, match="no annotations of a known format"):
            load_dataset(source)


class TestCommand:
    def test_formats_are_named_with_from_and_to(self, coco: Path, tmp_path: Path) -> None:
        cvat, back = tmp_path / "cvat", tmp_path / "back.json"
        assert main(["convert", f"source={coco}", "from=coco", "to=cvat", f"output={cvat}"]) == 0
        images = f"images={coco.parent / 'images'}"
        assert main(["convert", f"source={cvat}", "from=cvat", "to=coco", f"output={back}", images]) == 0
        annotations = json.loads(back.read_text())["annotations"]
        assert [annotation.pop("num_keypoints") for annotation in annotations] == [2, 2]
        assert annotations == json.loads(coco.read_text())["annotations"]

    def test_the_target_is_label_files_by_default(
        self, coco: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        assert main(["convert", f"source={coco}"]) == 0
        assert (tmp_path / "coco_converted/data.yaml").is_file()
        assert main(["convert", f"source={coco}", "to=ndjson", "output=set.ndjson"]) == 0
        options = ["kpt_dims=2", f"images={coco.parent / 'images'}"]
        assert main(["convert", "source=set.ndjson", *options]) == 0
        row = next((tmp_path / "yolo_converted/labels").rglob("a.txt")).read_text().split()
        assert row[5:] == ["0.13333333", "0.25000000", "0.23333333", "0.45000000"]

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (["to=labelstudo"], "Did you mean 'labelstudio'"),
            (["from=x", "to=yolo"], "The formats are: "),
            (["to=yolo", "source=set/train.json", "split=test"], "no images in the split 'test'"),
            (["to=yolo", "output=set"], "not an empty folder"),
        ],
    )
    def test_wrong_options(
        self, coco: Path, words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:  # fmt: skip
        monkeypatch.chdir(tmp_path)
        (coco.parent / "train.json").write_bytes(coco.read_bytes())
        assert main(["convert", f"source={coco}", *words]) == 1
        assert message in capsys.readouterr().err
        assert sorted(path.name for path in tmp_path.iterdir()) == ["set"]


def test_annotations_without_images_are_an_error_until_the_images_exist(coco: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    (coco.parent / "images").rename(moved)
    with pytest.raises(DataError, match="none of the images of these annotations was found"):
        load_dataset(coco)
    moved.rename(coco.parent / "images")
    assert load_labels(load_dataset(coco), "train").counts.labeled == 2


def test_missing_images_are_warned_of(coco: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (coco.parent / "images/b.png").unlink()
    dataset = load_dataset(coco)
    assert f"delete {dataset.root} to convert" in capsys.readouterr().err


def test_a_source_with_one_split_names_the_command_that_divides_it(coco: Path) -> None:
    path = coco.rename(coco.parent / "person_keypoints_val2017.json")
    dataset = load_dataset(path)
    assert load_labels(dataset, "val").counts.labeled == 2
    with pytest.raises(DataError, match=r"no `train:` entry, only `val:`.*yolo data split data=") as error:
        load_labels(dataset, "train")
    command = str(error.value).partition("yolo ")[2]
    assert main([*command.split(), "val=0.5", f"output={path.parent / 'divided'}"]) == 0
    divided = load_dataset(path.parent / "divided/data.yaml")
    assert [len(divided.image_files(split)) for split in ("train", "val")] == [1, 1]
