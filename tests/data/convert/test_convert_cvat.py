from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from made_records import write_image

from yolopose.base.errors import DataError
from yolopose.data.convert import convert, detect_format, read_annotations
from yolopose.data.convert.record import ImageRecord, IssueLog, PointState
from yolopose.data.convert.xml_stream import iter_elements
from yolopose.data.dataset import load_dataset

LABELS = """<label><name>cat</name><color>#ff0000</color><type>skeleton</type><attributes><attribute><name>age</name>
<input_type>number</input_type></attribute><attribute><name>wild</name><input_type>checkbox</input_type></attribute>
<attribute><name>note</name><input_type>text</input_type></attribute></attributes><svg>&lt;line x1="1" y1="1" x2="2"
y2="2" data-type="edge" data-node-from="2" data-node-to="1"&gt;&lt;/line&gt;&lt;circle r="1" data-type="element node"
data-element-id="1" data-node-id="1" data-label-id="9"&gt;&lt;/circle&gt;&lt;circle r="1" data-type="element node"
data-element-id="2" data-node-id="2" data-label-name="tail"&gt;&lt;/circle&gt;</svg></label>
<label><name>nose</name><type>points</type><parent>cat</parent></label>
<label><name>tail</name><type>points</type><parent>cat</parent></label>
<label><name>cat_box</name><type>rectangle</type></label><label><name>dog</name><type>rectangle</type></label>"""


def export(folder: Path, body: str, labels: str = LABELS, size: str = "") -> Path:
    """Write an export of CVAT."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "annotations.xml"
    path.write_text(
        f'<?xml version="1.0" encoding="utf-8"?>\n<annotations><version>1.1</version><meta><task><labels>{labels}'
        f"</labels>{size}</task></meta>{body}</annotations>"
    )
    return path


def skeleton(x: float = 10, group: str = "", tail: str = 'outside="0" occluded="1"', extra: str = "") -> str:
    return (
        f'<skeleton label="cat" source="manual" z_order="0" {group}>'
        f'<points label="tail" source="manual" {tail} points="{x + 5},20.5"/>'
        f'<points label="nose" outside="0" occluded="0" points="{x},12.25"/>{extra}</skeleton>'
    )


def box(x1: float, y1: float, x2: float, y2: float, label: str = "cat_box", more: str = "") -> str:
    return f'<box label="{label}" occluded="0" xtl="{x1}" ytl="{y1}" xbr="{x2}" ybr="{y2}" z_order="0" {more}/>'


def image(body: str, name: str = "a.png", more: str = "") -> str:
    return f'<image id="0" name="{name}" width="80" height="60" {more}>{body}</image>'


def read(path: Path) -> tuple[list[ImageRecord], IssueLog]:
    issues = IssueLog()
    return list(read_annotations(path).images(issues)), issues


def test_skeletons_are_instances_with_points_by_name(tmp_path: Path) -> None:
    extra = (
        '<attribute name="age">3</attribute><attribute name="wild">true</attribute><attribute name="note">1</attribute>'
    )
    path = export(tmp_path, image(skeleton(extra=extra), more='subset="Validation"'))
    record = read_annotations(path)
    cat = record.template("cat")
    assert (cat.keypoints, cat.skeleton, cat.attributes) == (
        ("nose", "tail"),
        (("tail", "nose"),),
        {"color": "#ff0000"},
    )
    assert [template.name for template in record.classes] == ["cat"]
    first = next(record.images())
    assert (first.split, first.size) == ("val", (80, 60))
    instance = first.instances[0]
    assert instance.points["nose"][:3] == (10, 12.25, PointState.VISIBLE)
    assert instance.points["tail"][:3] == (15, 20.5, PointState.HIDDEN)
    assert (instance.box, instance.attributes) == (None, {"age": 3, "wild": True, "note": "1"})


def test_outside_is_absent_with_its_coordinates(tmp_path: Path) -> None:
    path = export(tmp_path, image(skeleton(tail='outside="1" occluded="1"')))
    assert read(path)[0][0].instances[0].points["tail"][:3] == (15, 20.5, PointState.ABSENT)
    report = convert(path, tmp_path / "out", to="yolo", verbose=False)
    assert (tmp_path / "out/labels/train/a.txt").read_text().split()[5:] == (
        ["0.12500000", "0.20416667", "2", "0", "0", "0"]
    )
    assert "boxes were computed" in "\n".join(report.changed)


def test_a_rectangle_of_the_group_is_the_box(tmp_path: Path) -> None:
    body = skeleton(10, 'group_id="1"') + box(1, 2, 30, 40, more='group_id="1"') + skeleton(40, 'group_id="2"')
    instances = read(export(tmp_path, image(body + box(35, 2, 60, 40, more='group_id="2" rotation="90"'))))[0][
        0
    ].instances
    assert [tuple(instance.box or ()) for instance in instances] == [(1, 2, 29, 38), (35, 2, 25, 38)]
    assert [instance.rotation for instance in instances] == [0, 90]


def test_rectangles_without_a_group_belong_to_the_skeleton_inside(tmp_path: Path) -> None:
    body = skeleton(10) + skeleton(40) + box(35, 2, 60, 40) + box(0, 0, 79, 59) + box(70, 50, 79, 59)
    images, issues = read(export(tmp_path, image(body)))
    boxes = [(instance.category, tuple(instance.box or ()), len(instance.points)) for instance in images[0].instances]
    assert boxes == [("cat", (0, 0, 79, 59), 2), ("cat", (35, 2, 25, 38), 2), ("cat", (70, 50, 9, 9), 0)]
    assert issues.changed["rectangles outside of groups became the boxes of the skeletons in them"].count == 2


def test_points_of_one_group_are_an_instance(tmp_path: Path) -> None:
    labels = (
        "<label><name>mouse</name><type>rectangle</type></label><label><name>snout</name><type>points</type></label>"
    )
    points = '<points label="snout" occluded="1" points="5,6" group_id="4"/>'
    body = points + box(1, 2, 9, 9, "mouse", 'group_id="4"') + '<points label="snout" occluded="0" points="7,8"/>'
    images, issues = read(export(tmp_path, image(body), labels))
    instance = images[0].instances[0]
    assert (instance.category, tuple(instance.box or ())) == ("mouse", (1, 2, 8, 7))
    assert instance.points["snout"][:3] == (5, 6, PointState.HIDDEN)
    assert sum(issue.count for issue in issues.skipped.values()) == 1


FLAT = (
    "<label><name>mouse</name><type>any</type></label><label><name>snout</name><type>any</type></label>"
    "<label><name>tail</name><type>any</type></label>"
)


def test_points_without_a_group_belong_to_the_smallest_rectangle(tmp_path: Path) -> None:
    def point(name: str, x: float, occluded: int = 0) -> str:
        return f'<points label="{name}" occluded="{occluded}" points="{x},20"/>'

    boxes = box(0, 0, 79, 59, "mouse") + box(30, 10, 50, 40, "mouse")
    body = point("snout", 35, 1) + boxes + point("tail", 45) + point("snout", 60) + point("snout", 70)
    record = read_annotations(export(tmp_path, image(body), FLAT))
    assert [(template.name, template.keypoints) for template in record.classes] == [("mouse", ("snout", "tail"))]
    issues = IssueLog()
    large, small = next(record.images(issues)).instances
    assert {name: tuple(point[:3]) for name, point in small.points.items()} == {
        "snout": (35, 20, PointState.HIDDEN), "tail": (45, 20, PointState.VISIBLE),
    }  # fmt: skip
    assert list(large.points) == ["snout"]
    assert [issue.count for kind, issue in issues.changed.items() if "smallest" in kind] == [3]
    assert [issue.count for issue in issues.skipped.values()] == [1]


@pytest.mark.parametrize("group", ["", 'group_id="3"'])
def test_rectangles_with_points_become_label_files(tmp_path: Path, group: str) -> None:
    points = "".join(
        f'<points label="{name}" occluded="0" points="20,{y}" {group}/>' for name, y in (("a", 9), ("b", 30))
    )
    write_image(tmp_path / "cvat/a.png", 80, 60)
    write_image(tmp_path / "cvat/b.png", 80, 60)
    body = image(box(10, 6, 30, 36, "mouse", group) + points) + image("", "b.png")
    export(tmp_path / "cvat", body, FLAT)
    report = convert(tmp_path / "cvat", tmp_path / "out", to="yolo")
    assert not report.skipped
    assert (report.images, report.empty) == ({"": 2}, {"": 1})
    assert "2 images (1 of them without instances), 1 instances" in str(report)
    assert (tmp_path / "out/labels/train/b.txt").read_text() == ""
    row = (tmp_path / "out/labels/train/a.txt").read_text().split()
    assert [float(value) for value in row] == pytest.approx([0, 0.25, 0.35, 0.25, 0.5, 0.25, 0.15, 2, 0.25, 0.5, 2])


def test_frames_of_a_video_beside_the_annotations(tmp_path: Path) -> None:
    writer = cv2.VideoWriter(str(tmp_path / "walk.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (80, 60))
    for value in (0, 60, 120, 180):
        writer.write(np.full((60, 80, 3), value, np.uint8))
    writer.release()
    frames = "".join(
        f'<skeleton frame="{frame}" keyframe="1"><points label="nose" outside="0" occluded="0" points="9,8"/>'
        f'<points label="tail" outside="0" occluded="0" points="40,30"/></skeleton>' for frame in (1, 3)
    )  # fmt: skip
    export(tmp_path, f'<track id="0" label="cat">{frames}</track>', size="<source>day\\walk.avi</source>")
    report = convert(tmp_path, tmp_path / "out", to="yolo")
    assert not any("not found" in message for message in report.changed)
    means = [cv2.imread(str(path)).mean() for path in sorted((tmp_path / "out/images/train").glob("*.png"))]
    assert means == pytest.approx([60, 180], abs=3)


def test_archives_are_to_be_unpacked(tmp_path: Path) -> None:
    (tmp_path / "export.zip").write_bytes(b"PK\3\4")
    with pytest.raises(DataError, match="is an archive: unpack it"):
        convert(tmp_path / "export.zip", tmp_path / "out", to="yolo")
    with pytest.raises(DataError, match="is an archive: unpack it"):
        load_dataset(tmp_path / "export.zip")


def test_a_row_of_points_has_keypoints_by_number(tmp_path: Path) -> None:
    body = '<points label="hand" occluded="0" points="5,6;7,8;9,10.5"/>'
    record = read_annotations(export(tmp_path, image(body), "<label><name>hand</name><type>points</type></label>"))
    assert record.classes[0].keypoints == ("keypoint 0", "keypoint 1", "keypoint 2")
    assert next(record.images()).instances[0].points["keypoint 2"][:2] == (9, 10.5)


def test_other_shapes_and_faulty_values_are_counted(tmp_path: Path) -> None:
    body = '<polygon label="dog" points="1,2;3,4;5,6"/><mask label="dog"/><tag label="dog"/>'
    body += '<box label="dog" xtl="x" ytl="1" xbr="2" ybr="3"/>' + skeleton(tail='outside="0"', x=float("nan"))
    images, issues = read(export(tmp_path, image(body)))
    kinds = {kind: issue.count for kind, issue in issues.skipped.items()}
    assert kinds == {
        "shapes of the kind polygon": 1, "shapes of the kind mask": 1, "shapes of the kind tag": 1,
        "rectangles with faulty values": 1, "keypoints with faulty values": 2,
    }  # fmt: skip
    assert images[0].instances[0].points == {}


def test_tracks_of_a_video_become_frames(tmp_path: Path) -> None:
    def keyframe(frame: int, outside: int = 0) -> str:
        points = f'<points label="nose" outside="0" occluded="0" keyframe="1" points="{frame},2"/>'
        return f'<skeleton frame="{frame}" keyframe="1" outside="{outside}" z_order="0">{points}</skeleton>'

    def track(number: int, *frames: int) -> str:
        shapes = "".join(keyframe(frame, int(frame == 4)) for frame in frames)
        return f'<track id="{number}" label="cat" source="manual">{shapes}</track>'

    tracks = track(0, 0, 2, 4) + track(1, 2)
    size = "<original_size><width>80</width><height>60</height></original_size>"
    write_image(tmp_path / "images/frame_000000.PNG")
    images, _ = read(export(tmp_path, tracks, size=size))
    assert [each.name for each in images] == ["frame_000000.PNG", "frame_000002.png"]
    assert [[instance.track_id for instance in each.instances] for each in images] == [[0], [0, 1]]
    assert images[1].size == (80, 60)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("<annotations><image></annotations>", "line 1, column 23 is not XML"),
        ("", "not XML"),
        ("<other/>", "root element <other>"),
        ('<!DOCTYPE a [<!ENTITY b "x">]><annotations>&b;</annotations>', "document type"),
        ('<!DOCTYPE a SYSTEM "file:///etc/passwd"><annotations/>', "document type"),
        ("<annotations>&b;</annotations>", "undefined entity"),
        ("<annotations>" + "<a>" * 100 + "</a>" * 100 + "</annotations>", "nested"),
    ],
)
def test_hostile_or_damaged_xml_is_an_error(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "a.xml"
    path.write_text(text)
    with pytest.raises(DataError, match=reason):
        list(iter_elements(path, "annotations"))


def test_unsafe_names_are_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="leaves its folder"):
        read(export(tmp_path, image(skeleton(), "../a.png")))


def test_labels_of_the_task_are_written_beside(tmp_path: Path) -> None:
    path = export(tmp_path / "in", image(skeleton() + box(1, 2, 3, 4, "dog")))
    convert(path, tmp_path / "out", to="cvat", verbose=False)
    labels: list[dict[str, Any]] = json.loads((tmp_path / "out/labels.json").read_text())
    assert [(label["name"], label["type"]) for label in labels] == [
        ("cat", "skeleton"), ("cat_box", "rectangle"), ("dog", "rectangle"),
    ]  # fmt: skip
    assert [label["name"] for label in labels[0]["sublabels"]] == ["nose", "tail"]
    assert labels[0]["svg"].count("<circle") == 2
    assert 'data-node-from="2" data-node-to="1"' in labels[0]["svg"]
    assert detect_format(tmp_path / "out").name == "cvat"


@pytest.mark.parametrize(
    ("subset", "folder"),
    [("Train", "images/Train"), ("Validation", "images/Validation"), ("val", "images/valid"), ("cam1", "images/Cam1"),
     ("default", "images/default"), ("Test", "images")],
)  # fmt: skip
def test_images_are_in_folders_of_subsets(tmp_path: Path, subset: str, folder: str) -> None:
    more = f'subset="{subset}"'
    export(tmp_path, image(skeleton(), more=more) + image(skeleton(), more='subset="other"'))
    for name in (folder, "images/other"):
        (tmp_path / name).mkdir(parents=True)
        write_image(tmp_path / name / "a.png", 80, 60)
    images, issues = read(tmp_path)
    assert [record.path for record in images] == [tmp_path / folder / "a.png", tmp_path / "images/other/a.png"]
    assert not issues.changed.keys() & {"images were not found"}


@pytest.mark.parametrize("encoding", ["unknown-9", "utf-9", "base64", "utf-7", "idna"])
def test_encodings_that_cannot_be_read_are_errors(encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    path.write_text(f'<?xml version="1.0" encoding="{encoding}"?><annotations><version>1.1</version></annotations>')
    with pytest.raises(DataError, match=r"a\.xml"):
        read_annotations(path, source_format="cvat")
