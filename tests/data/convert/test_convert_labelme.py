"""Labelme files as Labelme and X-AnyLabeling write them, and damaged ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from made_records import write_image

from yolopose.base.errors import DataError, NotFoundError
from yolopose.data.convert.conversion import read_annotations
from yolopose.data.convert.record import Box, DatasetRecord, ImageRecord, Instance, IssueLog, Point, PointState
from yolopose.data.convert.registry import detect_format

Shape = dict[str, Any]


def rectangle(label: str, *corners: list[float], group: int | None = None, **values: Any) -> Shape:
    return {"label": label, "points": list(corners), "group_id": group, "shape_type": "rectangle", **values}


def point(label: str, x: float, y: float, group: int | None = None, **values: Any) -> Shape:
    return {"label": label, "points": [[x, y]], "group_id": group, "shape_type": "point", **values}


def write_file(path: Path, shapes: Any, **values: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"version": "5.5.0", "flags": {}, "shapes": shapes, "imagePath": f"{path.stem}.png", "imageData": None}
    content |= {"imageHeight": 60, "imageWidth": 80}
    path.write_text(json.dumps(content | values))
    return path


def read(source: Path) -> tuple[DatasetRecord, list[ImageRecord], IssueLog]:
    dataset = read_annotations(source)
    assert dataset.format == "labelme"
    issues = IssueLog()
    return dataset, list(dataset.images(issues)), issues


def test_shapes_of_one_group_are_an_instance(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png")
    shapes = [
        point("nose", 11, 12, group=1),
        rectangle("cat", [30, 40], [10, 5], group=1, score=0.75),  # corners in any order
        point("nose", 50, 20, group=2, flags={"occluded": True}),
        rectangle("dog", [45, 10], [70, 10], [70, 50], [45, 50], group=2),  # as X-AnyLabeling writes it
        point("tail", 60, 20, group=2, difficult=True),
    ]
    dataset, (image,), issues = read(write_file(tmp_path / "a.json", shapes).parent)
    assert [template.name for template in dataset.classes] == ["cat", "dog"]
    assert dataset.template("dog").keypoints == ("nose", "tail")
    cat, dog = image.instances
    assert (cat.category, cat.box, cat.confidence) == ("cat", Box(10, 5, 20, 35), 0.75)
    assert cat.points == {"nose": Point(11, 12)}
    assert dog.box == Box(45, 10, 25, 40)
    assert dog.points == {"nose": Point(50, 20, PointState.HIDDEN), "tail": Point(60, 20, PointState.HIDDEN)}
    assert image.path == tmp_path / "a.png"
    assert not issues.skipped
    assert not issues.changed


@pytest.mark.parametrize(
    ("description", "state"), [("0", 0), ("1", 1), ("2", 2), ("hidden", 1), ("Occluded", 1), ("a note", 2), (None, 2)]
)
def test_the_description_may_state_the_visibility(description: str | None, state: int, tmp_path: Path) -> None:
    shapes = [point("nose", 1, 2, description=description)]
    _, (image,), _ = read(write_file(tmp_path / "a.json", shapes))
    assert image.instances[0].points["nose"].state == state


def test_points_without_a_group_belong_to_the_box_around_them(tmp_path: Path) -> None:
    shapes = [
        rectangle("cat", [0, 0], [79, 59]),
        rectangle("cat", [10, 10], [30, 30]),
        point("nose", 15, 15),
        point("nose", 16, 16),  # the small box has a nose already
        point("nose", 17, 17),  # both have one
    ]
    _, (image,), issues = read(write_file(tmp_path / "a.json", shapes))
    large, small = image.instances
    assert small.points == {"nose": Point(15, 15)}
    assert large.points == {"nose": Point(16, 16)}
    assert sum(issue.count for issue in issues.skipped.values()) == 1
    assert "a.png: nose" in str(next(iter(issues.skipped.values())))


def test_points_alone_are_one_instance_of_the_only_class(tmp_path: Path) -> None:
    write_file(tmp_path / "a.json", [point("nose", 1, 2), point("tail", 3, 4)])
    write_file(tmp_path / "b.json", [rectangle("cat", [0, 0], [9, 9]), point("tail", 3, 4)])
    dataset, (a, b), _ = read(tmp_path)
    assert [template.name for template in dataset.classes] == ["cat"]
    assert dataset.classes[0].keypoints == ("tail", "nose")
    assert [instance.category for instance in a.instances + b.instances] == ["cat", "cat"]
    assert set(a.instances[0].points) == {"nose", "tail"}


def test_an_outline_gives_the_box_and_the_segmentation(tmp_path: Path) -> None:
    outline = {"label": "cat", "points": [[10, 10], [30, 12], [20, 40]], "group_id": 4, "shape_type": "polygon"}
    _, (image,), _ = read(write_file(tmp_path / "a.json", [outline, point("nose", 20, 20, group=4)]))
    (cat,) = image.instances
    assert cat.box == Box(10, 10, 20, 30)
    assert cat.segmentation == [[10, 10, 30, 12, 20, 40]]
    assert cat.points == {"nose": Point(20, 20)}


@pytest.mark.parametrize("name", ["..\\images\\a.png", "C:\\work\\images\\a.png", "/home/me/a.png", "../../a.png"])
def test_images_of_another_machine_are_found_by_their_last_folders(name: str, tmp_path: Path) -> None:
    image = write_image(tmp_path / "set/images/a.png")
    write_image(tmp_path / "a.png", 20, 20)  # outside
    write_file(tmp_path / "set/labels/a.json", [point("nose", 1, 2)], imagePath=name)
    _, (record,), _ = read(tmp_path / "set/labels")
    assert record.path == image
    assert record.name == "a.png"


def test_images_outside_of_the_folder_are_never_opened(tmp_path: Path) -> None:
    secret = write_image(tmp_path / "secret.png")
    folder = tmp_path / "one/two/set"
    write_file(folder / "a.json", [point("nose", 1, 2)], imagePath=str(secret))
    write_image(tmp_path / "secret 2.png")
    write_file(folder / "b.json", [point("nose", 1, 2)], imagePath="../../../secret 2.png")
    (folder / "c.png").symlink_to(secret)
    write_file(folder / "c.json", [point("nose", 1, 2)])
    _, images, issues = read(folder)
    assert [image.path for image in images] == [None, None, None]
    assert issues.changed["images were not found"].count == 3


def test_folders_named_like_splits_are_splits(tmp_path: Path) -> None:
    for folder in ("train", "valid", "cam1"):
        write_file(tmp_path / folder / "a.json", [point("nose", 1, 2)])
    _, images, _ = read(tmp_path)
    assert [(image.split, image.name) for image in images] == [("", "cam1/a.png"), ("train", "a.png"), ("val", "a.png")]


def test_other_files_and_other_shapes_are_counted(tmp_path: Path) -> None:
    circle = {"label": "nose", "points": [[1, 1], [2, 2]], "shape_type": "circle"}
    write_file(tmp_path / "a.json", [point("nose", 1, 2, group=1), circle, point("nose", float("nan"), 2)])
    write_file(tmp_path / "b.json", [point("nose", 1, 2)], imagePath="a.png")
    (tmp_path / "notes.json").write_text("{}")
    _, images, issues = read(tmp_path)
    assert len(images) == 1
    kinds = {kind: issue.count for kind, issue in issues.skipped.items()}
    assert kinds == {
        "shapes of the type 'circle' with 2 points": 1,
        "shapes with coordinates that are not finite": 1,
        "files that annotate an image which another file annotates": 1,
        "JSON files without shapes, which are not of Labelme": 1,
    }


@pytest.mark.parametrize(
    ("shapes", "values", "message"),
    [
        ([["nose"]], {}, r"a\.json, shape 0: a shape must be a JSON object"),
        ([{"points": [[1, 2]]}], {}, r"a\.json, shape 0: `label` must be"),
        ([{"label": "nose", "points": 3}], {}, r"`points` must be a list of pairs"),
        ([{"label": "nose", "points": [[1, 2, 3]]}], {}, r"`points` must be a list of pairs"),
        ([point("nose", 1, 2, group=[1])], {}, r"`group_id` must be a number"),  # type: ignore[arg-type]
        ([point("nose", 1, 2)], {"imagePath": 7}, r"`imagePath` must be the name"),
        ([rectangle("cat", [0, 0], [9, 9])], {}, "has no shapes of the type point"),
    ],
)
def test_damaged_files_are_errors_with_the_field(
    shapes: Any, values: dict[str, Any], message: str, tmp_path: Path
) -> None:
    write_file(tmp_path / "a.json", shapes, **values)
    with pytest.raises(DataError, match=message):
        read_annotations(tmp_path, source_format="labelme")


def test_unreadable_sources_are_errors(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"contains no \.json file of Labelme"):
        read_annotations(tmp_path, source_format="labelme")
    (tmp_path / "a.json").write_text('{"version": "5", "shapes": [')
    assert detect_format(tmp_path).name == "labelme"
    with pytest.raises(DataError, match=r"a\.json is not a file of Labelme: line 1, column \d+ is not JSON"):
        read_annotations(tmp_path)
    (tmp_path / "a.json").write_bytes(b'{"version": "5", "shapes": [\xff')
    with pytest.raises(DataError, match="is not UTF-8 text"):
        read_annotations(tmp_path)


def test_written_files_have_the_form_that_labelme_opens(tmp_path: Path) -> None:
    from yolopose.data.convert.conversion import write_annotations
    from yolopose.data.convert.record import ClassTemplate

    instance = Instance(
        category="cat",
        box=Box(1, 2, 30, 40),
        points={"nose": Point(5, 6, PointState.HIDDEN, 0.5), "tail": Point(0, 0, PointState.ABSENT)},
    )
    image = ImageRecord(name="a.png", width=80, height=60, path=write_image(tmp_path / "a.png"), instances=[instance])
    dataset = DatasetRecord.from_images([ClassTemplate(name="cat", keypoints=("nose", "tail"))], [image])
    write_annotations(dataset, tmp_path / "out", to="labelme", verbose=False)
    content = json.loads((tmp_path / "out/a.json").read_text())
    assert (tmp_path / "out/labels.txt").read_text() == "cat\nnose\ntail\n"
    assert (tmp_path / "out/a.png").read_bytes() == (tmp_path / "a.png").read_bytes()
    # the fields that Labelme requires of a file and of a shape
    assert set(content) >= {"version", "flags", "shapes", "imagePath", "imageData", "imageHeight", "imageWidth"}
    for shape in content["shapes"]:
        assert set(shape) >= {"label", "points", "group_id", "description", "shape_type", "flags", "mask"}
        assert isinstance(shape["group_id"], int)
    assert content["imagePath"] == "a.png"
    assert [(shape["label"], shape["shape_type"]) for shape in content["shapes"]] == [
        ("cat", "rectangle"),
        ("nose", "point"),
    ]
