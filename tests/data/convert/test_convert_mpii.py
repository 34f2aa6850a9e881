"""MPII in the layouts of HRNet and CPM and as .mat file, and damaged lists."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_records import write_image

from yolopose.base.errors import DataError
from yolopose.data.convert.conversion import convert, read_annotations
from yolopose.data.convert.mpii import NAMES
from yolopose.data.convert.record import ImageRecord, IssueLog, Point, PointState

JOINTS = [[float(10 + index), float(20 + index)] for index in range(16)]
VISIBLE = [1] * 16


def person(**values: Any) -> dict[str, Any]:
    joints = [[-1.0, -1.0], *JOINTS[1:]]
    return {
        "image": "a.png",
        "joints": joints,
        "joints_vis": [0, *VISIBLE[1:]],
        "center": [18.0, 28.0],
        "scale": 0.2,
        **values,
    }


def read(source: Path, **options: Any) -> tuple[list[ImageRecord], IssueLog]:
    dataset = read_annotations(source)
    assert dataset.format == "mpii"
    issues = IssueLog()
    return list(dataset.images(issues)), issues


def test_people_of_one_image_are_grouped(tmp_path: Path) -> None:
    write_image(tmp_path / "images/a.png")
    people = [person(), person(image="b.png"), person(scale=0.3)]
    (tmp_path / "valid.json").write_text(json.dumps(people))
    (a, b), issues = read(tmp_path / "valid.json")
    assert (a.name, a.path, len(a.instances)) == ("a.png", tmp_path / "images/a.png", 2)
    assert (b.path, len(b.instances)) == (None, 1)
    assert issues.changed["images were not found"].count == 1
    points = a.instances[0].points
    assert "right_ankle" not in points
    # coordinates count from 1
    assert points["right_knee"] == Point(10, 20)
    assert points["left_wrist"] == Point(24, 34)
    assert a.instances[1].attributes == {"center": [18.0, 28.0], "scale": 0.3}


def test_a_folder_has_a_list_for_each_split(tmp_path: Path) -> None:
    for name in ("train", "valid"):
        (tmp_path / f"{name}.json").write_text(json.dumps([person()]))
    images, _ = read(tmp_path)
    assert [image.split for image in images] == ["train", "val"]


def test_the_layout_of_cpm_has_hidden_joints(tmp_path: Path) -> None:
    rows = [[0, 0, 0], [11, 21, 0], *([x, y, 1] for x, y in JOINTS[2:])]
    entry = {"img_paths": "a.png", "joint_self": rows, "isValidation": 1.0, "objpos": [1, 2], "scale_provided": 3.5}
    (tmp_path / "mpii_annotations.json").write_text(json.dumps({"root": [entry]}))
    (image,), _ = read(tmp_path / "mpii_annotations.json")
    assert image.split == "val"
    points = image.instances[0].points
    assert points["right_knee"] == Point(10, 20, PointState.HIDDEN)
    assert len(points) == 15
    assert image.instances[0].attributes == {"center": [1, 2], "scale": 3.5}


def test_the_mat_file(tmp_path: Path) -> None:
    scipy_io = pytest.importorskip("scipy.io")

    def struct(**values: Any) -> Any:
        record = np.empty((1, 1), dtype=[(name, object) for name in values])
        for name, value in values.items():
            record[name][0, 0] = value
        return record

    def joint(number: int, x: float, visible: Any) -> Any:
        return (x, x + 1, number, visible)

    joints = np.empty((1, 3), dtype=[(name, object) for name in ("x", "y", "id", "is_visible")])
    joints[0] = [joint(9, 12.5, 1), joint(0, 21.0, np.zeros((0, 0))), joint(6, 31.0, 0)]
    rect = struct(x1=1, y1=2, x2=11, y2=12, annopoints=struct(point=joints), scale=1.5, objpos=struct(x=40, y=50))
    entries = np.empty((1, 3), dtype=[("image", object), ("annorect", object)])
    entries[0] = [
        (struct(name="a.png"), rect),
        (struct(name="b.png"), np.zeros((0, 0))),
        (struct(name="c.png"), struct(x1=1, y1=2, x2=3, y2=4)),
    ]
    path = tmp_path / "mpii_human_pose_v1_u12_1.mat"
    scipy_io.savemat(path, {"RELEASE": struct(annolist=entries, img_train=np.array([[1, 0, 1]]))})
    (image,), _ = read(path)
    (instance,) = image.instances
    assert (image.name, image.split) == ("a.png", "train")
    assert instance.points == {
        "head_top": Point(11.5, 12.5),
        "right_ankle": Point(20, 21),
        "pelvis": Point(30, 31, PointState.HIDDEN),
    }
    assert instance.attributes == {"center": [40.0, 50.0], "scale": 1.5, "head_box": [1.0, 2.0, 11.0, 12.0]}
    path.write_bytes(b"MATLAB 5.0 MAT-file" + bytes(200))
    with pytest.raises(DataError, match=r"is not the \.mat file of MPII"):
        read(path)


def test_written_lists_have_the_layout_of_hrnet(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png")
    joints = dict(zip(NAMES, JOINTS, strict=True))
    names = sorted(NAMES)  # another order: the joints are written by name
    keypoints = [value for name in names for value in (*joints[name], 1 if name == "pelvis" else 2)]
    content = {
        "images": [{"id": 1, "file_name": "a.png", "width": 80, "height": 60}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 10, 20, 40], "keypoints": keypoints}],
        "categories": [{"id": 1, "name": "person", "keypoints": names}],
    }
    (tmp_path / "coco.json").write_text(json.dumps(content))
    report = convert(tmp_path / "coco.json", tmp_path / "out", to="mpii", verbose=False)
    assert "center and scale of people were computed from their boxes" in report.changed[0]
    assert any("MPII cannot hold boxes: 1 value" in message for message in report.lost)
    (written,) = json.loads(report.output.read_text())
    np.testing.assert_allclose(written["joints"], np.array(JOINTS) + 1)
    assert written["joints_vis"] == VISIBLE
    assert written["center"] == [21, 31]
    assert written["scale"] == pytest.approx(40 / 200)
    assert (tmp_path / "out/images" / written["image"]).is_file()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"image": 3}, r"person 1: `image` must be the name"),
        ({"joints": [[1, 2, 3]]}, r"person 1: `joints` must be a list of 2 finite numbers"),
        ({"joints": [[1, float("nan")]] * 16}, r"`joints` must be a list of 2 finite numbers"),
        ({"joints_vis": [1]}, r"`joints_vis` has 1 values, but `joints` has 16"),
        ({"joints": JOINTS[:3], "joints_vis": [1] * 3}, r"the person has 3 joints, others have 16"),
    ],
)
def test_damaged_people_are_errors(values: dict[str, Any], message: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps([person(), person(**values)]))
    with pytest.raises(DataError, match=message):
        read(tmp_path / "a.json")


def test_people_without_joints_are_counted(tmp_path: Path) -> None:
    empty = person(joints=[[-1, -1]] * 16, joints_vis=[0] * 16)
    (tmp_path / "a.json").write_text(json.dumps([person(), empty]))
    dataset = read_annotations(tmp_path / "a.json")
    assert dataset.issues.skipped["people without labeled joints"].count == 1
    (tmp_path / "a.json").write_text(json.dumps([empty]))
    with pytest.raises(DataError, match="contains no person with joints"):
        read(tmp_path / "a.json")
