"""Exports of Roboflow in both layouts, and what is written in them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from convert_records import assert_same, random_record, values
from made_records import write_image

from yolopose.base.errors import DataError
from yolopose.data.convert.conversion import read_annotations, write_annotations
from yolopose.data.convert.record import IssueLog, Point, PointState
from yolopose.data.dataset import load_dataset
from yolopose.data.labels import load_labels

HASH = "0123456789abcdef0123456789abcdef"
YAML = """train: ../train/images
val: ../valid/images
test: ../test/images

kpt_shape: [2, 3]
flip_idx: [0, 1]

nc: 1
names: ['cat']

roboflow:
  workspace: me
  project: cats
  version: 3
"""


def export(root: Path) -> Path:
    for folder, name in (("train", "a_jpg.rf." + HASH), ("train", "b_jpg.rf." + HASH), ("valid", "a_jpg.rf.f" + HASH)):
        write_image(root / folder / "images" / f"{name}.jpg")
        label = root / folder / "labels" / f"{name}.txt"
        label.parent.mkdir(parents=True, exist_ok=True)
        label.write_text("0 0.5 0.5 0.25 0.5 0.25 0.5 2 0.5 0.25 1\n")
    (root / "data.yaml").write_text(YAML)
    (root / "README.roboflow.txt").write_text("cats")
    return root


@pytest.mark.parametrize("source", ["", "data.yaml"])
def test_an_export_for_yolo(source: str, tmp_path: Path) -> None:
    dataset = read_annotations(export(tmp_path) / source)
    assert dataset.format == "roboflow"
    issues = IssueLog()
    images = list(dataset.images(issues))
    assert [image.split for image in images] == ["train", "train", "val"]
    (instance,) = images[0].instances
    names = dataset.classes[0].keypoints
    assert instance.points == {names[0]: Point(20, 30), names[1]: Point(40, 15, PointState.HIDDEN)}
    assert issues.changed["originals have augmented versions in several splits"].examples == ["a_jpg"]


def test_an_export_for_coco(tmp_path: Path) -> None:
    for folder in ("train", "valid"):
        name = f"a_jpg.rf.{folder[0]}{HASH}.jpg"
        write_image(tmp_path / folder / name)
        content = {
            "info": {"description": "Exported from roboflow.com"},
            "categories": [
                {"id": 0, "name": "cats", "supercategory": "none"},
                {"id": 1, "name": "cat", "supercategory": "cats", "keypoints": ["nose", "tail"], "skeleton": [[1, 2]]},
            ],
            "images": [{"id": 0, "file_name": name, "height": 60, "width": 80}],
            "annotations": [
                {"id": 0, "image_id": 0, "category_id": 1, "bbox": [1, 2, 30, 40], "keypoints": [5, 6, 2, 0, 0, 0]}
            ],
        }
        (tmp_path / folder / "_annotations.coco.json").write_text(json.dumps(content))
    dataset = read_annotations(tmp_path)
    assert dataset.format == "roboflow"
    assert [(template.name, template.keypoints) for template in dataset.classes] == [("cat", ("nose", "tail"))]
    images = list(dataset.images())
    assert [(image.split, image.path is not None) for image in images] == [("train", True), ("val", True)]
    assert images[0].instances[0].points["nose"] == Point(5, 6)
    del (
        content["categories"][1]["keypoints"],
        content["categories"][1]["skeleton"],
        content["annotations"][0]["keypoints"],
    )
    (tmp_path / "valid/_annotations.coco.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match="has no category with keypoints"):
        read_annotations(tmp_path / "valid")


@pytest.mark.parametrize("name", ["roboflow", "roboflow-coco"])
def test_both_layouts_restore_what_they_hold(name: str, tmp_path: Path) -> None:
    record = random_record(tmp_path, 3, several=True)
    report = write_annotations(record, tmp_path / "out", to=name, verbose=False)
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {"train", "valid"}
    back = read_annotations(tmp_path / "out", source_format=name)
    expected = {
        key.replace("cam 1/", "cam 1_").replace("cam 2/", "cam 2_"): rows for key, rows in values(record).items()
    }
    actual = values(back)
    if name == "roboflow":
        assert any("Roboflow cannot hold areas" in message for message in report.lost)
        for rows in (*expected.values(), *actual.values()):
            rows[:] = [{key: row[key] for key in ("category", "box", "points")} for row in rows if not row["crowd"]]
    assert_same(dict(sorted(actual.items())), dict(sorted(expected.items())), 1e-4)


def test_a_written_export_can_be_trained_on(tmp_path: Path) -> None:
    record = random_record(tmp_path, 4)
    report = write_annotations(record, tmp_path / "out", to="roboflow", verbose=False)
    content = yaml.safe_load(report.output.read_text())
    assert (content["train"], content["val"], content["nc"]) == ("../train/images", "../valid/images", 1)
    labels = load_labels(load_dataset(report.output), "train", strict=True, cache=False)
    assert len(labels) == 3
