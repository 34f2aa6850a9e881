"""VIA 2 projects, annotations and CSV, VIA 1, VIA 3, and damaged files."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from made_records import write_image

from yolopose.base.errors import DataError
from yolopose.data.convert.conversion import read_annotations
from yolopose.data.convert.protocol import ReadOptions
from yolopose.data.convert.record import Box, DatasetRecord, ImageRecord, Instance, IssueLog, Point, PointState

RECT = {"name": "rect", "x": 10, "y": 20, "width": 30, "height": 25}


def point(x: float, y: float) -> dict[str, Any]:
    return {"name": "point", "cx": x, "cy": y}


def region(shape: dict[str, Any], **attributes: Any) -> dict[str, Any]:
    return {"shape_attributes": shape, "region_attributes": attributes}


REGIONS = [
    region(RECT, type="cat", id="1"),
    region(point(15, 25), type="cat", id="1", part="nose"),
    region(point(20, 30), type="cat", id="1", part="tail", occluded="yes"),
    region(point(60, 50), type="dog", id="2", part="nose", visibility="1"),
]
EXPECTED = [
    ("cat", Box(10, 20, 30, 25), {"nose": Point(15, 25), "tail": Point(20, 30, PointState.HIDDEN)}),
    ("dog", None, {"nose": Point(60, 50, PointState.HIDDEN)}),
]


def entries(regions: Any = REGIONS, name: str = "a.png") -> dict[str, Any]:
    return {f"{name}123": {"filename": name, "size": 123, "regions": regions, "file_attributes": {"light": "dim"}}}


def read(source: Path, **values: Any) -> tuple[DatasetRecord, list[ImageRecord], IssueLog]:
    dataset = read_annotations(source, options=ReadOptions(values=values))
    assert dataset.format == "via"
    issues = IssueLog()
    return dataset, list(dataset.images(issues)), issues


def summary(instances: list[Instance]) -> list[tuple[Any, ...]]:
    return [(instance.category, instance.box, instance.points) for instance in instances]


@pytest.mark.parametrize("form", ["project", "annotations", "via 1", "csv"])
def test_all_forms_of_via_2_are_read(form: str, tmp_path: Path) -> None:
    write_image(tmp_path / "a.png")
    path = tmp_path / ("regions.csv" if form == "csv" else "regions.json")
    if form == "csv":
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerow(
            ["#filename", "file_size", "file_attributes", "region_count", "region_id", "region_shape_attributes",
             "region_attributes"]
        )  # fmt: skip
        for index, values in enumerate(REGIONS):
            shape, attributes = values["shape_attributes"], values["region_attributes"]
            writer.writerow(["a.png", 123, '{"light":"dim"}', 4, index, json.dumps(shape), json.dumps(attributes)])
        path.write_text(text.getvalue())
    else:
        regions: Any = dict(enumerate(REGIONS)) if form == "via 1" else REGIONS
        content = entries(regions)
        path.write_text(json.dumps({"_via_img_metadata": content} if form == "project" else content))
    _, (image,), issues = read(tmp_path)
    assert (image.path, image.attributes) == (tmp_path / "a.png", {"light": "dim"})
    assert summary(image.instances) == EXPECTED
    assert not issues.skipped


def test_a_project_of_via_3_is_read(tmp_path: Path) -> None:
    write_image(tmp_path / "cam/a.png")
    attributes = {
        "1": {"aname": "class", "type": 4, "options": {"0": "cat", "1": "dog"}},
        "2": {"aname": "instance", "type": 1, "options": {}},
        "3": {"aname": "keypoint", "type": 4, "options": {"n": "nose", "t": "tail"}},
        "4": {"aname": "hidden", "type": 1, "options": {}},
    }
    metadata = {
        "a": {"vid": "7", "xy": [2, 10, 20, 30, 25], "av": {"1": "0", "2": "1"}},
        "b": {"vid": "7", "xy": [1, 15, 25], "av": {"1": "0", "2": "1", "3": "n"}},
        "c": {"vid": "7", "xy": [1, 20, 30], "av": {"1": "0", "2": "1", "3": "t", "4": "1"}},
        "d": {"vid": "7", "xy": [1, 60, 50], "av": {"1": "1", "2": "2", "3": "n", "4": "true"}},
        "e": {"vid": "7", "xy": [3, 1, 1, 5], "av": {}},
        "f": {"vid": "8", "xy": [1, 1, 1], "av": {"3": "n"}},
    }
    content = {
        "project": {"pname": "p", "vid_list": ["7", "8"]},
        "attribute": attributes,
        "file": {
            "1": {"fid": 1, "fname": "a.png", "type": 2, "loc": 3, "src": "file:///home/me/cam/a.png"},
            "2": {"fid": 2, "fname": "v.mp4", "type": 4, "src": "v.mp4"},
        },
        "view": {"7": {"fid_list": [1]}, "8": {"fid_list": [2]}},
        "metadata": metadata,
    }
    (tmp_path / "project.json").write_text(json.dumps(content))
    dataset, (image,), issues = read(tmp_path / "project.json")
    assert image.path == tmp_path / "cam/a.png"
    assert summary(image.instances) == EXPECTED
    assert issues.skipped["regions of the shape '3 of VIA 3'"].count == 1
    assert dataset.issues.skipped["views of VIA 3 that do not show one image"].count == 1
    assert dataset.issues.skipped["metadata of VIA 3 without a view of an image"].count == 1


def test_attributes_of_other_names_are_options(tmp_path: Path) -> None:
    regions = [
        region(RECT, tier="cat", nummer=3),
        region(point(15, 25), punkt={"nose": True, "tail": False}, nummer=3, tier="cat"),
    ]
    (tmp_path / "a.json").write_text(json.dumps(entries(regions)))
    with pytest.raises(DataError, match=r"no points with the name of a keypoint.*keypoint_key"):
        read(tmp_path)
    _, (image,), _ = read(tmp_path, keypoint_key="punkt", class_key="tier", instance_key="nummer")
    assert summary(image.instances) == [("cat", Box(10, 20, 30, 25), {"nose": Point(15, 25)})]


def test_one_attribute_names_the_keypoint(tmp_path: Path) -> None:
    regions = [region(point(1, 2), label="nose"), region(point(3, 4), label="tail")]
    (tmp_path / "a.json").write_text(json.dumps(entries(regions)))
    dataset, (image,), _ = read(tmp_path)
    assert dataset.classes[0].keypoints == ("nose", "tail")
    assert summary(image.instances) == [("object", None, {"nose": Point(1, 2), "tail": Point(3, 4)})]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (entries(5), "must have `filename` and a list `regions`"),
        (entries([7]), r"a\.png123, region 0: `region` must be a JSON object"),
        (entries([region({"name": "point", "cx": "left", "cy": 2}, part="nose")]), "`cx` must be a finite number"),
        (entries([region({"name": "polygon", "all_points_x": [1]}, type="cat")]), "must be lists of the same length"),
        ({"_via_img_metadata": [1]}, "`_via_img_metadata` must be an object"),
        (entries([region(point(1, 2), part="nose")], name=".."), "which is not a file name"),
    ],
)
def test_damaged_files_are_errors_with_the_field(content: Any, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=message):
        list(read_annotations(tmp_path / "a.json", source_format="via").images())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("filename,file_size\n", "has no column file_attributes"),
        ('{header}\na.png,1,{{}},1,0,"{{",{{}}\n', r"line 2: `region_shape_attributes` must be a JSON object"),
        ("{header}\n,1,{{}},1,0,{{}},{{}}\n", "line 2: `filename` must not be empty"),
    ],
)
def test_damaged_csv_files_are_errors_with_the_line(text: str, message: str, tmp_path: Path) -> None:
    header = "filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes"
    (tmp_path / "a.csv").write_text(text.format(header=header))
    with pytest.raises(DataError, match=message):
        read_annotations(tmp_path / "a.csv", source_format="via")


def test_a_folder_with_several_files_is_an_error(tmp_path: Path) -> None:
    for name in ("a.json", "b.json"):
        (tmp_path / name).write_text(json.dumps(entries()))
    with pytest.raises(DataError, match=r"must contain one file of VIA; it contains a\.json, b\.json"):
        read_annotations(tmp_path)
