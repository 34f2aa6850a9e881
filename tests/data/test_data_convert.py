from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

from yolopose.base.errors import DataError, NotFoundError, OutputError, UsageError
from yolopose.data import load_dataset, load_labels
from yolopose.data.convert import export_coco
from yolopose.data.converter import convert_coco
from yolopose.data.yaml_checks import infer_flip_idx
from yolopose.schema import COCO_PERSON_FLIP, COCO_PERSON_NAMES, COCO_PERSON_SIGMAS, COCO_PERSON_SKELETON


def annotations(**changes: Any) -> dict[str, Any]:
    person = {"image_id": 7, "category_id": 3, "iscrowd": 0, "num_keypoints": 1}
    return {
        "images": [{"id": 7, "file_name": "a.png", "width": 30, "height": 20}],
        "annotations": [
            {**person, "id": 1, "bbox": [3, 4, 10, 7], "area": 41.5, "keypoints": [4, 5, 2, 0, 0, 0, 7, 9, 1]},
            {**person, "id": 2, "bbox": [0, 0, 30, 20], "area": 300.0, "iscrowd": 1, "keypoints": [0] * 9},
            {**person, "id": 3, "bbox": [3, 4, 0, 7], "area": 0, "keypoints": [0] * 9},
            {**person, "id": 4, "category_id": 1, "bbox": [1, 1, 1, 1]},
        ],
        "categories": [
            {"id": 1, "name": "chair"},
            {"id": 3, "name": "cat", "keypoints": ["nose", "left_ear", "right_ear"], "skeleton": [[1, 2], [1, 3]]},
        ],
        **changes,
    }


def written(folder: Path, content: object, name: str = "person_keypoints_train.json") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


def test_rows_schema_and_what_rows_cannot_hold(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((20, 30, 3), np.uint8))
    done = convert_coco(
        labels_dir=written(tmp_path / "json", annotations()), save_dir=tmp_path / "out", use_keypoints=True
    )
    assert (done.images, done.objects, done.crowds, done.dropped) == (
        {"train": 1},
        {"train": 1},
        {"train": 1},
        {"train": 1},
    )
    row = (tmp_path / "out/labels/train/a.txt").read_text().split()
    assert row[:5] == ["0", "0.26666667", "0.37500000", "0.33333333", "0.35000000"]
    assert row[5:] == ["0.13333333", "0.25000000", "2", "0", "0", "0", "0.23333333", "0.45000000", "1"]
    dataset = load_dataset(done.data)
    keypoints = dataset.spec.keypoints
    assert (dataset.spec.classes, keypoints.flip_idx, keypoints.skeleton) == (("cat",), (0, 2, 1), ((0, 1), (0, 2)))
    assert keypoints.keypoint_names(0) == ("nose", "left_ear", "right_ear")
    assert len(load_labels(dataset, "train").classes) == 1
    assert "1 crowds kept aside, 1 faulty" in capsys.readouterr().out


def test_coco_there_and_back(shared: Path, tmp_path: Path) -> None:
    source = shared / "data/coco-mini/annotations/person_keypoints_val.json"
    official = json.loads(source.read_text())
    done = convert_coco(source, tmp_path / "out", images_dir=shared / "data/coco-mini/images")
    spec = load_dataset(done.data).spec.keypoints
    assert spec.keypoint_names(0) == COCO_PERSON_NAMES
    assert (spec.flip_idx, spec.sigmas) == (COCO_PERSON_FLIP, COCO_PERSON_SIGMAS)
    assert spec.skeleton == COCO_PERSON_SKELETON
    back = json.loads(export_coco(done.data, "val", tmp_path / "back.json").read_text())
    assert back["images"] == sorted(official["images"], key=lambda one: one["file_name"])
    assert back["categories"] == official["categories"]
    found, expected = ({one["id"]: one for one in each["annotations"]} for each in (back, official))
    assert found == expected  # every digit, areas, crowds and outlines


def test_our_labels_to_coco_and_back_are_the_same_text(shared: Path, tmp_path: Path) -> None:
    target = export_coco(shared / "data/mouse/mouse.yaml", "val", tmp_path / "json/val.json")
    done = convert_coco(target, tmp_path / "out", images_dir=shared / "data/mouse/images/val")
    for path in sorted((tmp_path / "out/labels/val").glob("*.txt")):
        old = (shared / "data/mouse/labels/val" / path.name).read_text().split()
        new = path.read_text().split()
        assert [round(float(a), 6) for a in old] == [round(float(b), 6) for b in new]
    again = convert_coco(
        export_coco(done.data, "val", tmp_path / "j2/val.json"), tmp_path / "out2", images_dir=tmp_path / "out/images"
    )
    for path in sorted((tmp_path / "out/labels/val").glob("*.txt")):
        assert path.read_text() == (tmp_path / "out2/labels/val" / path.name).read_text()
    assert again.objects == done.objects


def test_a_changed_label_keeps_its_area_and_id(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((20, 30, 3), np.uint8))
    done = convert_coco(written(tmp_path / "json", annotations()), tmp_path / "out")
    label = tmp_path / "out/labels/train/a.txt"
    label.write_text(label.read_text().replace("0.26666667", "0.50000000"))
    found = json.loads(export_coco(done.data, "train", tmp_path / "b.json").read_text())["annotations"]
    assert [(one["id"], one["area"], one["iscrowd"]) for one in found] == [(1, 41.5, 0), (2, 300.0, 1)]
    assert found[0]["bbox"][0] == pytest.approx(10)


@pytest.mark.parametrize(
    ("content", "options", "error", "words"),
    [
        ("{\n  x", {}, DataError, "line 2, column 3 is no JSON"),
        ("[]", {}, DataError, "no COCO annotation file"),
        (annotations(images=[{"id": 1}]), {}, DataError, "entry 0 of `images` must have"),
        (annotations(categories=[{"id": 1, "name": "a"}]), {}, DataError, "No category"),
        (
            annotations(categories=[{"id": i, "name": "a", "keypoints": ["p"] * i} for i in (1, 2)]),
            {},
            DataError,
            "one number for all classes",
        ),
        (annotations(), {"use_keypoints": False}, UsageError, "use_keypoints=True"),
        (annotations(), {"use_segments": True}, UsageError, "use_keypoints=True"),
    ],
)
def test_what_cannot_be_converted(
    content: object, options: dict[str, Any], error: type[Exception], words: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=words):
        convert_coco(written(tmp_path / "json", content), tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_nothing_there_and_something_there(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"no COCO \.json file"):
        convert_coco(tmp_path / "none", tmp_path / "out")
    written(tmp_path / "out", "{}")
    with pytest.raises(OutputError, match="holds something already"):
        convert_coco(written(tmp_path / "json", annotations()), tmp_path / "out")


def test_missing_images_and_mirror_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = annotations()
    content["categories"][1]["keypoints"] = ["a", "b", "c"]
    done = convert_coco(written(tmp_path / "json", content), tmp_path / "out")
    shown = capsys.readouterr().err
    assert "1 of 1 images of train were not found" in shown
    assert "has no flip_idx" in shown
    assert "flip_idx" not in yaml.safe_load(done.data.read_text())


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (COCO_PERSON_NAMES, COCO_PERSON_FLIP),
        (("L_eye", "R_eye", "lip", "elbow"), (1, 0, 2, 3)),
        (("eye.L", "eye.R"), (1, 0)),
        (("LeftEye", "RightEye", "Nose"), (1, 0, 2)),
        (("leftear", "rightear"), (1, 0)),
        (("eyeLeft", "eyeRight"), (1, 0)),
        (("front left paw", "front right paw"), (1, 0)),
        (("left_eye", "nose"), None),
        (("a", "b"), None),
        (("a", "a"), None),
    ],
)
def test_mirror_from_names(names: tuple[str, ...], expected: tuple[int, ...] | None) -> None:
    assert infer_flip_idx(names) == expected
