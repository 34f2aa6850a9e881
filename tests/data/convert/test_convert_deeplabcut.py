"""DeepLabCut projects in all forms that its versions write, tables of predictions, and damaged ones."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from made_records import write_image

from yolopose.base.errors import DataError, NotFoundError, UsageError
from yolopose.data.convert.conversion import convert, read_annotations, write_annotations
from yolopose.data.convert.protocol import ReadOptions
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

SINGLE = """scorer,Ann,Ann,Ann,Ann
bodyparts,snout,snout,tail,tail
coords,x,y,x,y
labeled-data/m1/img1.png,10.5,20,,
labeled-data\\m1\\img2.png,,,30,40.25
labeled-data/m1/img3.png,,,,
"""
MULTI = """scorer,,,Ann,Ann,Ann,Ann,Ann,Ann
individuals,,,ann,ann,bob,bob,single,single
bodyparts,,,snout,snout,snout,snout,corner,corner
coords,,,x,y,x,y,x,y
labeled-data,m1,img1.png,1,2,3,4,5,6
labeled-data,m1,img2.png,,,7,8,,
"""
CONFIG: dict[str, Any] = {"Task": "reach", "scorer": "Ann", "bodyparts": ["tail", "snout"], "video_sets": {}}


def project(root: Path, table: str = SINGLE, **config: Any) -> Path:
    folder = root / "labeled-data/m1"
    for number in (1, 2, 3):
        write_image(folder / f"img{number}.png")
    (root / "config.yaml").write_text(yaml.safe_dump(CONFIG | config))
    (folder / "CollectedData_Ann.csv").write_text(table)
    return root


def read(source: Path, **values: Any) -> tuple[DatasetRecord, list[ImageRecord], IssueLog]:
    dataset = read_annotations(source, options=ReadOptions(values=values))
    assert dataset.format == "deeplabcut"
    issues = IssueLog()
    return dataset, list(dataset.images(issues)), issues


@pytest.mark.parametrize("source", ["", "config.yaml", "labeled-data/m1", "labeled-data/m1/CollectedData_Ann.csv"])
def test_a_project_of_one_animal(source: str, tmp_path: Path) -> None:
    root = project(tmp_path / "project", skeleton=[["snout", "tail"], ["snout", "paw"]])
    dataset, images, issues = read(root / source)
    (template,) = dataset.classes
    if source != "labeled-data/m1":  # without its config, a folder has the points in the order of the table
        assert (template.name, template.keypoints) == ("reach", ("tail", "snout"))
        assert template.skeleton == (("snout", "tail"),)
    assert [image.name for image in images] == ["m1/img1.png", "m1/img2.png", "m1/img3.png"]
    assert all(image.path == root / "labeled-data" / image.name and image.size == (80, 60) for image in images)
    assert [[instance.points for instance in image.instances] for image in images] == [
        [{"snout": Point(10.5, 20)}],
        [{"tail": Point(30, 40.25)}],
        [],
    ]
    assert not issues.skipped


def test_a_project_of_several_animals(tmp_path: Path) -> None:
    root = project(
        tmp_path,
        MULTI,
        multianimalproject=True,
        bodyparts="MULTI!",
        individuals=["ann", "bob"],
        multianimalbodyparts=["snout"],
        uniquebodyparts=["corner"],
        identity=True,
    )
    dataset, (first, second), _ = read(root)
    assert {template.name: template.keypoints for template in dataset.classes} == {
        "reach": ("snout",),
        "single": ("corner",),
    }
    assert [(instance.category, instance.track_id, instance.points) for instance in first.instances] == [
        ("reach", "ann", {"snout": Point(1, 2)}),
        ("reach", "bob", {"snout": Point(3, 4)}),
        ("single", None, {"corner": Point(5, 6)}),
    ]
    assert [instance.attributes for instance in second.instances] == [{"individual": "bob"}]


def test_a_project_of_several_animals_is_written_and_read(tmp_path: Path) -> None:
    root = project(tmp_path / "a", MULTI, multianimalproject=True, uniquebodyparts=["corner"], skeleton=[])
    convert(root, tmp_path / "b", to="deeplabcut", verbose=False)
    config = yaml.safe_load((tmp_path / "b/config.yaml").read_text())
    assert config["multianimalproject"] is True
    assert (config["Task"], config["scorer"], config["bodyparts"]) == ("reach", "Ann", "MULTI!")
    assert (config["individuals"], config["uniquebodyparts"]) == (["ann", "bob"], ["corner"])
    # DeepLabCut finds the folders by the names of the videos
    assert [Path(video).stem for video in config["video_sets"]] == ["m1"]
    with (tmp_path / "b/labeled-data/m1/CollectedData_Ann.csv").open(newline="") as file:
        written = list(csv.reader(file))
    expected = list(csv.reader(MULTI.splitlines()))
    assert written[:4] == expected[:4]
    numbers = [[float(field or "nan") for field in row[3:]] for row in written[4:]]
    np.testing.assert_array_equal(numbers, [[float(field or "nan") for field in row[3:]] for row in expected[4:]])


@pytest.mark.parametrize("name", ["mouse", "mouse-reach"])
def test_a_project_made_of_real_labels_restores_them(name: str, shared: Path, tmp_path: Path) -> None:
    folder = shared / "data" / name
    for split in ("train", "val"):
        source = folder / f"annotations/{split}.json"
        target = tmp_path / split
        convert(source, target / "dlc", to="deeplabcut", images=folder / "images" / split, verbose=False)
        table = next(target.rglob("CollectedData_*.csv"))
        content = json.loads(source.read_text())
        names = content["categories"][0]["keypoints"]
        by_id = {image["id"]: image["file_name"] for image in content["images"]}
        expected = {by_id[entry["image_id"]]: entry["keypoints"] for entry in content["annotations"]}
        with table.open(newline="") as file:
            rows = list(csv.reader(file))
        assert [row[0] for row in rows[:3]] == ["scorer", "bodyparts", "coords"]
        assert rows[1][3::2] == names
        for row in rows[3:]:
            values = np.array([float(field or "nan") for field in row[3:]]).reshape(-1, 2)
            points = np.array(expected[row[2]], dtype=float).reshape(-1, 3)
            points[points[:, 2] == 0] = np.nan
            np.testing.assert_allclose(values, points[:, :2], atol=1e-9)


def test_sleap_io_reads_a_written_project(shared: Path, tmp_path: Path) -> None:
    sleap_io = pytest.importorskip("sleap_io")
    folder = shared / "data/mouse-reach"
    source = folder / "annotations/val.json"
    convert(source, tmp_path / "dlc", to="deeplabcut", images=folder / "images/val", verbose=False)
    labels = sleap_io.load_dlc_project(str(tmp_path / "dlc/config.yaml"))
    content = json.loads(source.read_text())
    assert sorted(labels.skeleton.node_names) == sorted(content["categories"][0]["keypoints"])
    expected = [np.array(entry["keypoints"], dtype=float).reshape(-1, 3) for entry in content["annotations"]]
    actual = [frame.instances[0].numpy() for frame in labels]
    assert len(actual) == len(expected)
    assert np.nansum(np.concatenate(actual)) == pytest.approx(
        sum(points[points[:, 2] > 0, :2].sum() for points in expected)
    )


@pytest.mark.parametrize("layout", ["fixed", "table"])
@pytest.mark.parametrize("text", [SINGLE, MULTI])
def test_hdf5_tables_equal_csv_tables(layout: Any, text: str, tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("tables")
    root = project(tmp_path, text, multianimalproject="individuals" in text)
    table = root / "labeled-data/m1/CollectedData_Ann.csv"
    expected = [(image.name, image.instances) for image in read(root)[1]]
    levels = 4 if "individuals" in text else 3
    frame = pandas.read_csv(table, header=list(range(levels)), index_col=0 if levels == 3 else [0, 1, 2])
    if layout == "table":
        frame.index = ["/".join(row) if isinstance(row, tuple) else row for row in frame.index]
    frame.to_hdf(table.with_suffix(".h5"), key="df_with_missing", format=layout, mode="w")
    table.unlink()
    actual = [(image.name, image.instances) for image in read(root)[1]]
    for (name, instances), (other_name, other_instances) in zip(actual, expected, strict=True):
        assert name == other_name
        assert [instance.points for instance in instances] == [instance.points for instance in other_instances]


def test_an_hdf5_file_never_runs_code(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    import pickle

    class Payload:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "executed",))

    root = project(tmp_path)
    (root / "labeled-data/m1/CollectedData_Ann.csv").unlink()
    with h5py.File(root / "labeled-data/m1/CollectedData_Ann.h5", "w") as file:
        group = file.create_group("df_with_missing")
        group.attrs["pandas_type"] = b"frame_table"
        group.attrs["non_index_axes"] = np.bytes_(pickle.dumps(Payload(), 0))
    with pytest.raises(DataError, match="nothing of it was executed"):
        read(root)
    assert not (tmp_path / "executed").exists()


def write_video(path: Path, frames: int = 4) -> None:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (80, 60))
    for value in range(frames):
        writer.write(np.full((60, 80, 3), 60 * value, np.uint8))
    writer.release()


PREDICTIONS = """scorer,net,net,net,net,net,net
bodyparts,snout,snout,snout,tail,tail,tail
coords,x,y,likelihood,x,y,likelihood
0,1,2,0.9,3,4,0.1
2,5,6,0.8,7,8,0.7
"""


def test_predictions_are_labels_with_confidences(tmp_path: Path) -> None:
    write_video(tmp_path / "m1.avi")
    table = tmp_path / "m1DLC_resnet50_reachJan1shuffle1_1000.csv"
    table.write_text(PREDICTIONS)
    _, (first, _), issues = read(table, min_conf=0.5)
    assert first.instances[0].points == {"snout": Point(1, 2, confidence=0.9)}
    assert issues.skipped["points with a likelihood below min_conf=0.5"].count == 1
    convert(table, tmp_path / "set", to="yolo", source_format="deeplabcut", verbose=False)
    frames = sorted((tmp_path / "set").rglob("*.png"))
    assert [frame.name for frame in frames] == ["img000000.png", "img000002.png"]
    levels = [float(cv2.imread(str(frame)).mean()) for frame in frames]
    assert levels == pytest.approx([0, 120], abs=4)


def test_predictions_without_their_video_are_read(tmp_path: Path) -> None:
    (tmp_path / "m1DLC_net.csv").write_text(PREDICTIONS)
    _, images, issues = read(tmp_path / "m1DLC_net.csv")
    assert [image.content for image in images] == [None, None]
    assert issues.changed["videos were not found"].count == 1
    with pytest.raises(UsageError, match="min_conf must be a number from 0 to 1"):
        read(tmp_path / "m1DLC_net.csv", min_conf="high")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("40.25", "4O", r"line 5: y of tail \(single\) is '4O'"),
        ("40.25", "inf", r"line 5: y of tail \(single\) is 'inf'"),
        ("30,40.25", "30", r"line 5: the row has 3 values, but the header 4"),
        ("coords,x,y,x,y", "coords,x,y,x,z", r"coordinate 'z'"),
        ("coords,x,y,x,y", "coords,x,y,x,x", r"tail, x occurs twice"),
        ("coords", "cords", "has no header row 'coords'"),
        ("snout,snout,tail,tail", "snout,snout,,", "names must not be empty"),
        ("labeled-data/m1/img1.png", "", r"line 4: the first field must be the name of the image"),
    ],
)
def test_damaged_tables_are_errors_with_the_line(old: str, new: str, message: str, tmp_path: Path) -> None:
    root = project(tmp_path, SINGLE.replace(old, new))
    with pytest.raises(DataError, match=message):
        read(root)


def test_damaged_projects_are_errors(tmp_path: Path) -> None:
    root = project(tmp_path, bodyparts=7)
    with pytest.raises(DataError, match=r"config\.yaml: `bodyparts` must be a list of names"):
        read(root)
    table = root / "labeled-data/m1/CollectedData_Ann.csv"
    table.rename(table.with_name("CollectedData_Bob.csv"))
    (table.with_name("CollectedData_Eve.csv")).write_text(SINGLE)
    with pytest.raises(DataError, match="tables of several scorers"):
        read(root)
    for path in table.parent.glob("*.csv"):
        path.unlink()
    with pytest.raises(NotFoundError, match=r"CollectedData_Ann\.csv"):
        read(root)


def test_single_coordinates_and_repeated_rows_are_counted(tmp_path: Path) -> None:
    table = SINGLE.replace("10.5,20,,", "10.5,,,") + "labeled-data/m1/img2.png,1,1,1,1\n"
    _, images, issues = read(project(tmp_path, table))
    assert [len(image.instances) for image in images] == [0, 1, 0]
    assert {kind: issue.count for kind, issue in issues.skipped.items()} == {
        "points with one coordinate only": 1,
        "rows of an image that has a row already": 1,
    }


def test_body_parts_that_were_added_in_deeplabcut_are_read(tmp_path: Path) -> None:
    convert(project(tmp_path / "a"), tmp_path / "b", to="deeplabcut", verbose=False)
    table = next((tmp_path / "b").rglob("CollectedData_*.csv"))
    lines = table.read_text().splitlines()
    additions = ["Ann,Ann", "paw,paw", "x,y", "7,8", ",", ","]
    table.write_text("\n".join(f"{line},{added}" for line, added in zip(lines, additions, strict=True)))
    dataset, (first, *_), _ = read(tmp_path / "b")
    assert dataset.classes[0].keypoints == ("tail", "snout", "paw")
    assert first.instances[0].points["paw"] == Point(7, 8)
    options = ReadOptions(classes=("mouse",))
    assert [template.name for template in read_annotations(tmp_path / "b", options=options).classes] == ["mouse"]


def test_boxes_return_unless_the_points_were_edited(tmp_path: Path) -> None:
    instances = [
        Instance(category="mouse", box=Box(1, 2, 30, 40), points={"snout": Point(x, 6, PointState.HIDDEN)}, area=7.5)
        for x in (5.1, 8.25)
    ]
    crowd = Instance(category="mouse", box=Box(0, 0, 9, 9), crowd=True)
    images = [
        ImageRecord(name=f"{index}.png", path=write_image(tmp_path / f"{index}.png"), instances=[instance, crowd])
        for index, instance in enumerate(instances)
    ]
    dataset = DatasetRecord.from_images([ClassTemplate(name="mouse", keypoints=("snout",))], images)
    report = write_annotations(dataset, tmp_path / "dlc", to="deeplabcut", verbose=False)
    assert "DeepLabCut cannot hold boxes: 4 values." in report.lost
    assert "stored in yolopose.json, for the way back" in report.changed[0]
    table = next((tmp_path / "dlc").rglob("*.csv"))
    table.write_text(table.read_text().replace("8.25", "9.5"))
    _, (first, second), _ = read(tmp_path / "dlc")
    assert first.instances[0].box == Box(1, 2, 30, 40)
    assert first.instances[0].points == instances[0].points
    assert second.instances[0].box is None
    assert second.instances[0].area is None
    assert second.instances[0].points == {"snout": Point(9.5, 6, PointState.HIDDEN)}
    assert [image.instances[1].crowd for image in (first, second)] == [True, True]
