from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from made_records import write_image

from yolopose.base.errors import DataError
from yolopose.data.convert import convert, read_annotations, write_annotations
from yolopose.data.convert.protocol import ReadOptions, WriteOptions
from yolopose.data.convert.record import (
    Box,
    ClassTemplate,
    DatasetRecord,
    ImageRecord,
    Instance,
    IssueLog,
    Point,
    PointState,
)

Json = dict[str, Any]
SIZE = {"original_width": 80, "original_height": 60, "image_rotation": 0}


def rectangle(key: str, x: float, y: float, width: float, height: float, label: str = "mouse", **more: Any) -> Json:
    value = {"x": x, "y": y, "width": width, "height": height, "rotation": more.pop("rotation", 0)}
    value["rectanglelabels"] = [label]
    return {
        "id": key,
        "type": "rectanglelabels",
        "from_name": "box",
        "to_name": "image",
        **SIZE,
        "value": value,
        **more,
    }


def keypoint(key: str, x: float, y: float, label: str, **more: Any) -> Json:
    value = {"x": x, "y": y, "width": 0.3, "keypointlabels": [label]}
    return {"id": key, "type": "keypointlabels", "from_name": "kp", "to_name": "image", **SIZE, "value": value, **more}


def tasks(folder: Path, *results: list[Json], address: str = "/data/local-files/?d=set/a%20b.png") -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "export.json"
    content = [
        {"id": number, "data": {"image": address}, "annotations": [{"id": 5, "result": result}]}
        for number, result in enumerate(results, 1)
    ]
    path.write_text(json.dumps(content))
    return path


def read(path: Path, **options: Any) -> tuple[list[ImageRecord], IssueLog]:
    issues = IssueLog()
    return list(read_annotations(path, options=ReadOptions(**options)).images(issues)), issues


def points(instance: Instance) -> dict[str, tuple[float, float, int]]:
    return {name: (point.x, point.y, int(point.state)) for name, point in instance.points.items()}


def test_keypoints_belong_to_their_parent_or_relation(tmp_path: Path) -> None:
    result = [
        rectangle("a", 0, 0, 50, 50), rectangle("b", 10, 10, 50, 50),
        keypoint("1", 20, 20, "nose", parentID="b"), keypoint("2", 25, 50, "nose"),
        {"type": "relation", "from_id": "2", "to_id": "a", "direction": "right"},
    ]  # fmt: skip
    images, issues = read(tasks(tmp_path, result))
    assert images[0].name == "set/a b.png"
    assert [points(instance) for instance in images[0].instances] == [{"nose": (20, 30, 2)}, {"nose": (16, 12, 2)}]
    assert [tuple(instance.box or ()) for instance in images[0].instances] == [(0, 0, 40, 30), (8, 6, 40, 30)]
    assert not issues.skipped


def test_keypoints_without_a_parent_belong_to_the_smallest_rectangle_around(tmp_path: Path) -> None:
    result = [
        rectangle("a", 0, 0, 90, 90), rectangle("b", 10, 10, 20, 20),
        keypoint("1", 20, 20, "nose"), keypoint("2", 21, 21, "nose"), keypoint("3", 99, 99, "tail"),
    ]  # fmt: skip
    images, issues = read(tasks(tmp_path, result))
    assert [list(instance.points) for instance in images[0].instances] == [["nose"], ["nose"], ["tail"]]
    assert images[0].instances[2].category == "mouse"
    assert images[0].instances[2].box is None
    assert len(issues.changed) == 3  # the smallest rectangle, outside of all, and the image that was not found


@pytest.mark.parametrize("note", [{"meta": {"text": ["Hidden"]}}, {}])
def test_hidden_keypoints(tmp_path: Path, note: Json) -> None:
    choice = {"id": "1", "type": "choices", "from_name": "v", "value": {"x": 1, "y": 1, "choices": ["hidden"]}}
    result = [rectangle("a", 0, 0, 90, 90), keypoint("1", 20, 20, "nose", parentID="a", **note)]
    images, _ = read(tasks(tmp_path, result if note else [*result, choice]))
    assert images[0].instances[0].points["nose"].state is PointState.HIDDEN


def test_rectangles_turn_around_their_left_top_corner(tmp_path: Path) -> None:
    # 90° clockwise around (40, 30): a box of 20×10 goes down and to the left
    images, _ = read(tasks(tmp_path, [rectangle("a", 50, 50, 25, 100 / 6, rotation=90)]))
    instance = images[0].instances[0]
    assert instance.box is not None
    assert instance.box.rotated(instance.rotation) == pytest.approx((30, 30, 10, 20))


def test_a_rotated_box_is_restored(tmp_path: Path) -> None:
    instance = Instance(category="mouse", box=Box(20, 20, 30, 10), rotation=33.0, points={"nose": Point(30, 25)})
    record = DatasetRecord.from_images(
        [ClassTemplate(name="mouse", keypoints=("nose",))],
        [ImageRecord(name="a.png", width=80, height=60, instances=[instance])],
    )
    report = write_annotations(record, tmp_path / "out", to="labelstudio", verbose=False)
    back = read(report.output)[0][0].instances[0]
    assert (tuple(back.box or ()), back.rotation) == (pytest.approx((20, 20, 30, 10)), 33.0)
    value = json.loads(report.output.read_text())[0]["annotations"][0]["result"][0]["value"]
    # distance from the center to the corner is half the diagonal
    corner = math.hypot(value["x"] * 0.8 - 35, value["y"] * 0.6 - 25)
    assert corner == pytest.approx(math.hypot(15, 5))


def test_json_min_and_separate_labels(tmp_path: Path) -> None:
    box = {"x": 0, "y": 0, "width": 50, "height": 50, "rotation": 0, "rectanglelabels": ["mouse"], **SIZE}
    content = [{"image": "s3://bucket/cam/a.png", "id": 1, "box": [box], "kp": [keypoint("1", 5, 10, "nose")["value"]]}]
    (tmp_path / "min.json").write_text(json.dumps(content))
    images, _ = read(tmp_path / "min.json")
    assert (images[0].name, points(images[0].instances[0])) == ("a.png", {"nose": (4, 6, 2)})
    shape = rectangle("a", 0, 0, 50, 50)
    del shape["value"]["rectanglelabels"]
    label = {"id": "a", "type": "labels", "value": {"labels": ["rat"]}, **SIZE}
    images, _ = read(tasks(tmp_path / "x", [shape, label]))
    assert [instance.category for instance in images[0].instances] == ["rat"]


def test_names_of_uploads_and_repeated_names(tmp_path: Path) -> None:
    path = tasks(tmp_path, [rectangle("a", 0, 0, 5, 5)], address="/data/upload/3/0a1b2c3d-a.png")
    assert read(path)[0][0].name == "a.png"
    write_image(tmp_path / "a.png")
    assert read(path)[0][0].path == tmp_path / "a.png"
    content = json.loads(path.read_text()) * 2
    content[1] = content[1] | {"data": {"image": "/data/upload/3/11111111-a.png"}}
    path.write_text(json.dumps(content))
    assert [image.name for image in read(path)[0]] == ["data/upload/3/0a1b2c3d-a.png", "data/upload/3/11111111-a.png"]


def test_sizes_are_read_from_the_image_or_the_task_is_counted(tmp_path: Path) -> None:
    shape = rectangle("a", 50, 50, 25, 25)
    del shape["original_width"]
    path = tasks(tmp_path, [shape], address="a.png")
    images, issues = read(path)
    assert (images, issues.skipped["tasks without original_width and original_height"].count) == ([], 1)
    write_image(tmp_path / "a.png")
    assert tuple(read(path)[0][0].instances[0].box or ()) == (40, 30, 20, 15)


def test_what_is_not_read_is_counted(tmp_path: Path) -> None:
    polygon = {"id": "p", "type": "polygonlabels", "value": {"points": [[1, 2]], "polygonlabels": ["x"]}}
    bad = rectangle("b", float("nan"), 0, 1, 1)
    twice = [keypoint(key, 5, 5, "nose", parentID="a") for key in "12"]
    path = tasks(tmp_path, [rectangle("a", 0, 0, 50, 50), polygon, bad, *twice])
    content = json.loads(path.read_text())
    content[0]["annotations"] = [{"was_cancelled": True, "result": []}, *content[0]["annotations"], {"result": []}]
    content += [{"id": 2, "data": {"text": "no image"}}]
    path.write_text(json.dumps(content))
    _, issues = read(path)
    assert {kind: issue.count for kind, issue in issues.skipped.items()} == {
        "further annotations of one task": 1, "regions of the type polygonlabels": 1,
        "rectangles with faulty values": 1, "keypoints of a name that the instance already has": 1,
        "tasks without an image": 1,
    }  # fmt: skip


def test_predictions_are_written_as_predictions(tmp_path: Path) -> None:
    instance = Instance(category="mouse", box=Box(1, 2, 3, 4), points={"nose": Point(2, 3, confidence=0.5)})
    instance.confidence = 0.75
    record = DatasetRecord.from_images(
        [ClassTemplate(name="mouse", keypoints=("nose",))],
        [ImageRecord(name="cam 1/a.png", width=80, height=60, instances=[instance])],
        {"model_version": "yolo11n-pose"},
    )
    options = WriteOptions(url="https://host/")
    report = write_annotations(record, tmp_path / "out", to="labelstudio", options=options, verbose=False)
    task = json.loads(report.output.read_text())[0]
    assert task["data"]["image"] == "https://host/cam%201/a.png"
    assert "annotations" not in task
    prediction = task["predictions"][0]
    assert (prediction["model_version"], prediction["score"]) == ("yolo11n-pose", 0.75)
    back = read(report.output)[0][0].instances[0]
    assert (back.confidence, back.points["nose"].confidence) == (0.75, 0.5)
    config = (tmp_path / "out/label_config.xml").read_text()
    assert '<Label value="mouse"/>' in config
    assert '<Label value="nose"/>' in config


def test_a_folder_to_a_data_set(tmp_path: Path) -> None:
    write_image(tmp_path / "images/set/a b.png")
    result = [rectangle("a", 0, 0, 50, 50), keypoint("1", 25, 50, "nose", parentID="a")]
    tasks(tmp_path / "ls", result)
    report = convert(tmp_path / "ls", tmp_path / "out", to="yolo", images=tmp_path / "images", verbose=False)
    assert (tmp_path / "out/labels/train/set/a b.txt").read_text().split()[5:] == ["0.25000000", "0.50000000", "2"]
    assert report.changed == []


def test_damaged_exports_are_errors(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('[{"annotations": ')
    with pytest.raises(DataError, match=r"a\.json"):
        read(tmp_path / "a.json")
    with pytest.raises(DataError, match="leaves its folder"):
        read(tasks(tmp_path / "b", [], address="../../a.png"))


@pytest.mark.parametrize(
    ("file", "upload"),
    [("a.png", "a.png"), ("walk 1 (2).png", "walk_1_2.png"), ("é+b.png", "éb.png"),
     ("12345678-a.png", "12345678-a.png")],
)  # fmt: skip
def test_uploads_are_matched_with_the_images_before_they_were_renamed(tmp_path: Path, file: str, upload: str) -> None:
    (tmp_path / "images").mkdir()
    write_image(tmp_path / "images" / file, 80, 60)
    path = tasks(tmp_path / "export", [rectangle("a", 0, 0, 50, 50)], address=f"/data/upload/3/0a1b2c3d-{upload}")
    images, issues = read(path, images=tmp_path / "images")
    assert images[0].path == tmp_path / "images" / file
    assert not issues.changed


def test_a_renamed_upload_that_two_images_may_be_is_not_guessed(tmp_path: Path) -> None:
    for name in ("a (1).png", "a 1.png"):
        write_image(tmp_path / name, 80, 60)
    path = tasks(tmp_path / "export", [rectangle("a", 0, 0, 50, 50)], address="/data/upload/3/0a1b2c3d-a_1.png")
    images, issues = read(path, images=tmp_path)
    assert images[0].path is None
    assert list(issues.changed) == ["images were not found"]


@pytest.mark.parametrize(
    ("annotations", "predictions", "count"),
    [
        ([], [], 0),
        ([{"was_cancelled": True, "result": []}], [], 0),
        ([{"was_cancelled": False, "result": []}], [], 1),
        ([{"was_cancelled": True, "result": []}, {"result": []}], [], 1),
        ([], [{"result": [], "score": 0.5}], 1),
    ],
)
def test_tasks_that_nobody_has_labeled_are_skipped(
    tmp_path: Path, annotations: list[Json], predictions: list[Json], count: int
) -> None:
    task = {"id": 1, "data": {"image": "a.png"}, "annotations": annotations, "predictions": predictions}
    path = tmp_path / "export.json"
    path.write_text(json.dumps([task]))
    write_image(tmp_path / "a.png", 80, 60)
    images, issues = read(path)
    assert len(images) == count
    assert [issue.count for issue in issues.skipped.values()] == [1] * (1 - count)


@pytest.mark.parametrize(
    ("file", "images"),
    [
        ("media/upload/3/0a1b2c3d-walk_1.png", "media"),  # a copy of the server's folder
        ("0a1b2c3d-walk_1.png", "."),
        ("set/train/walk 1.png", "set"),
    ],
)
def test_uploads_are_found_in_subfolders_and_by_their_new_names(tmp_path: Path, file: str, images: str) -> None:
    path = tmp_path / "files" / file
    path.parent.mkdir(parents=True)
    write_image(path, 80, 60)
    source = tasks(tmp_path / "export", [rectangle("a", 0, 0, 50, 50)], address="/data/upload/3/0a1b2c3d-walk_1.png")
    found, issues = read(source, images=tmp_path / "files" / images)
    assert found[0].path == path
    assert not issues.changed


def test_a_name_in_two_subfolders_is_not_guessed(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / "files" / folder).mkdir(parents=True)
        write_image(tmp_path / "files" / folder / "walk_1.png", 80, 60)
    source = tasks(tmp_path / "export", [rectangle("a", 0, 0, 50, 50)], address="/data/upload/3/0a1b2c3d-walk_1.png")
    images, issues = read(source, images=tmp_path / "files")
    assert images[0].path is None
    assert list(issues.changed) == ["images were not found"]
