"""COCO files as people have them: what is wrong in them is read right, or counted, named and explained."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from convert_records import values

from yolopose.base.errors import DataError
from yolopose.data import load_dataset, load_labels
from yolopose.data.convert import ConversionReport, convert, read_annotations
from yolopose.data.convert.json_stream import JsonDocument
from yolopose.data.convert.protocol import ReadOptions
from yolopose.data.convert.record import IssueLog, PointState
from yolopose.data.images import read_image

Json = dict[str, Any]
KEYPOINTS = ["nose", "left_ear", "right_ear"]


def person(number: int, image_id: object, **changes: Any) -> Json:
    keypoints = [4, 5, 2, 0, 0, 0, 7, 9, 1]
    box = {"bbox": [3, 4, 10, 7], "area": 41.5, "iscrowd": 0}
    return {"id": number, "image_id": image_id, "category_id": 1, "keypoints": keypoints, **box, **changes}


def content(images: list[Json], annotations: list[Json], **category: Any) -> Json:
    categories = [{"id": 1, "name": "cat", "keypoints": KEYPOINTS, "skeleton": [[1, 2], [1, 3]], **category}]
    return {"images": images, "annotations": annotations, "categories": categories}


def image(number: object, name: str = "a.png", width: Any = 30, height: Any = 20) -> Json:
    return {"id": number, "file_name": name, "width": width, "height": height}


@pytest.fixture
def to_yolo(tmp_path: Path) -> Callable[..., ConversionReport]:
    def run(*contents: Json, **options: Any) -> ConversionReport:
        (tmp_path / "annotations").mkdir()
        for name, each in zip(("train", "val"), contents, strict=False):
            (tmp_path / f"annotations/person_keypoints_{name}.json").write_text(json.dumps(each))
            for entry in each["images"]:
                path = tmp_path / "images" / str(entry.get("file_name")).replace("\\", "/")
                if not path.exists():
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(cv2.imencode(".png", np.full((20, 30, 3), 90, np.uint8))[1].tobytes())
        return convert(tmp_path / "annotations", tmp_path / "out", to="yolo", verbose=False, **options)

    return run


def rows(report: ConversionReport, name: str = "a") -> list[list[str]]:
    label = report.output.parent / f"labels/train/{name}.txt"
    return [line.split() for line in label.read_text().splitlines()]


@pytest.mark.parametrize(
    ("image_id", "annotation_image_id"),
    [(7, "7"), ("7", 7), (7, 7.0), ("0007", 7), (7, "0007"), (139, "000000000139"), ("a", "a"), (0, "0")],
)
def test_ids_written_as_text_and_as_numbers_are_joined(
    to_yolo: Callable[..., ConversionReport], image_id: object, annotation_image_id: object
) -> None:
    report = to_yolo(content([image(image_id)], [person(1, annotation_image_id)]))
    assert (len(rows(report)), report.skipped) == (1, [])


def test_ids_that_differ_by_zeros_are_different_images(to_yolo: Callable[..., ConversionReport]) -> None:
    images = [image("1"), image("01", "b.png")]
    report = to_yolo(content(images, [person(1, "1"), person(2, "01", keypoints=[9, 9, 2] * 3)]))
    assert [len(rows(report, name)) for name in "ab"] == [1, 1]
    assert rows(report, "b")[0][5] == "0.30000000"


def test_annotations_that_cannot_be_used_are_counted_named_and_explained(
    to_yolo: Callable[..., ConversionReport],
) -> None:
    annotations = [
        person(1, 1), person(2, 99), person(3, 99), person(4, None), person(5, 1, category_id=8),
        person(6, 1, bbox=[float("nan"), 0, 1, 1]), person(7, 1, keypoints=[1, 2, 2]),
        person(8, 1, bbox=[0, 0, 0, 0], keypoints=[0] * 9), person(9, 1, bbox=[200, 200, 5, 5], keypoints=[0] * 9),
    ]  # fmt: skip
    report = to_yolo(content([image(1)], annotations))
    assert len(rows(report)) == 1
    text = "\n".join(report.skipped)
    for expected in (
        "2 annotations of images that are not listed (person_keypoints_train.json: image_id '99'",
        "1 annotations of categories that are not listed",
        "2 annotations with faulty values",
        "1 instances without area and labeled keypoints",
        "1 instances outside of the image",
    ):
        assert expected in text.replace("3 annotations of images", "2 annotations of images"), text


def test_points_and_boxes_outside_become_rows_that_the_loader_accepts(
    to_yolo: Callable[..., ConversionReport],
) -> None:
    annotation = person(1, 1, keypoints=[4, 5, 2, 300, 5, 2, 7, -9, 1], bbox=[-20, 4, 45, 40])
    report = to_yolo(content([image(1)], [annotation]))
    assert [row[7::3] for row in rows(report)] == [["2", "0", "0"]]
    assert "2 keypoints outside of the image were written as absent" in "\n".join(report.changed)
    assert "1 boxes were cut at the border" in "\n".join(report.changed)
    assert load_labels(load_dataset(report.output), "train").counts.labeled == 1
    # nothing is lost: the original is stored beside the labels
    stored = json.loads((report.output.parent / "labels/train.coco.json").read_text())["annotations"][0]
    assert (stored["bbox"], stored["keypoints"]) == (annotation["bbox"], annotation["keypoints"])


@pytest.mark.parametrize("size", [(0, 0), (None, None), ("x", 20), (0, 20)])
def test_missing_sizes_are_read_from_the_images(
    to_yolo: Callable[..., ConversionReport], size: tuple[Any, Any]
) -> None:
    report = to_yolo(content([image(1, width=size[0], height=size[1])], [person(1, 1)]))
    assert rows(report)[0][1] == f"{8 / 30:.8f}"
    assert "image sizes are missing" in report.changed[0]


def test_back_slashes_separate_folders(to_yolo: Callable[..., ConversionReport]) -> None:
    report = to_yolo(content([image(1, "cam\\a.png")], [person(1, 1)]))
    assert (report.output.parent / "images/train/cam/a.png").is_file()
    assert len(rows(report, "cam/a")) == 1


def test_a_skeleton_counted_from_0_is_recognized(to_yolo: Callable[..., ConversionReport]) -> None:
    report = to_yolo(content([image(1)], [person(1, 1)], skeleton=[[0, 1], [0, 2]]))
    assert load_dataset(report.output).spec.keypoints.skeleton == ((0, 1), (0, 2))
    assert "skeletons count keypoints from 0" in report.changed[0]


def test_several_files_of_one_split_are_all_part_of_it(tmp_path: Path) -> None:
    (tmp_path / "json").mkdir()
    for number, name in enumerate(("train_part1", "train_part2", "val2017", "extra"), 1):
        path = tmp_path / f"images/{name}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(cv2.imencode(".png", np.full((20, 30, 3), 90, np.uint8))[1].tobytes())
        each = content([image(number, f"{name}.png")], [person(1, number)])
        (tmp_path / f"json/{name}.json").write_text(json.dumps(each))
    report = convert(tmp_path / "json", tmp_path / "out", to="yolo", verbose=False)
    assert report.images == {"extra": 1, "train_part1": 1, "train_part2": 1, "val2017": 1}
    content_ = yaml.safe_load(report.output.read_text())
    assert content_["train"] == ["images/extra", "images/train_part1", "images/train_part2"]
    assert content_["val"] == "images/val2017"
    assert load_labels(load_dataset(report.output), "train").counts.labeled == 3
    back = read_annotations(report.output)
    assert sorted({each.split for each in back.images()}) == ["extra", "train_part1", "train_part2", "val2017"]


def test_keypoints_of_another_order_in_another_file_are_joined_by_name(tmp_path: Path) -> None:
    (tmp_path / "json").mkdir()
    first = content([image(1)], [person(1, 1)])
    other = [KEYPOINTS[2], KEYPOINTS[0], KEYPOINTS[1]]
    second = content([image(2, "b.png")], [person(2, 2, keypoints=[7, 9, 1, 4, 5, 2, 0, 0, 0])], keypoints=other)
    for name, each in (("train", first), ("val", second)):
        (tmp_path / f"json/{name}.json").write_text(json.dumps(each))
    report = convert(tmp_path / "json", tmp_path / "out", to="yolo", verbose=False)
    texts = [(tmp_path / f"out/labels/{name}.txt").read_text() for name in ("train/a", "val/b")]
    assert texts[0] == texts[1]
    assert [change.partition(" (")[0] for change in report.changed] == ["2 images were not found"]


@pytest.mark.parametrize(("count", "name"), [(17, "nose"), (26, "nose"), (4, "keypoint 0")])
def test_categories_without_names_get_names(tmp_path: Path, count: int, name: str) -> None:
    each = content([image(1)], [person(1, 1, keypoints=[3.0, 4.0, 1.0] * count)], keypoints=[], skeleton=[])
    (tmp_path / "halpe.json").write_text(json.dumps(each))
    record = read_annotations(tmp_path / "halpe.json", options=ReadOptions(kpt_names=()))
    assert len(record.classes[0].keypoints) == count
    assert record.classes[0].keypoints[0] == name
    assert "categories have keypoints without names" in record.issues.changed
    named = read_annotations(tmp_path / "halpe.json", options=ReadOptions(kpt_names=tuple(map(str, range(count)))))
    assert named.classes[0].keypoints == tuple(map(str, range(count)))


def test_confidences_as_visibility_are_confidences(tmp_path: Path) -> None:
    each = content([image(1)], [person(1, 1, keypoints=[4, 5, 0.93, 0, 0, 0, 7, 9, 1])])
    (tmp_path / "val.json").write_text(json.dumps(each))
    points = next(read_annotations(tmp_path / "val.json").images()).instances[0].points
    assert points["nose"][2:] == (PointState.VISIBLE, 0.93)
    assert points["left_ear"].state is PointState.ABSENT
    assert points["right_ear"].state is PointState.HIDDEN


def test_values_of_variants_are_restored(tmp_path: Path) -> None:
    # CrowdPose has crowdIndex, COCO-WholeBody more lists, PoseTrack track ids, PoseTrack and tools any attribute
    outline = {"size": [2, 2], "counts": "a"}
    attributes = {"occluded": True}
    annotation = person(5, 1, track_id=3, foot_kpts=[1, 2, 3], attributes=attributes, segmentation=outline)
    each = content([image(1) | {"crowdIndex": 0.4}], [annotation, person(6, 1, iscrowd=1)], supercategory="animal")
    each |= {"info": {"year": 2020}, "licenses": [{"id": 1}], "extra": [1, 2]}
    (tmp_path / "val.json").write_text(json.dumps(each))
    report = convert(tmp_path / "val.json", tmp_path / "out", to="coco", verbose=False)
    back = json.loads(report.output.read_text())
    assert back["images"] == each["images"]
    assert [{key: value for key, value in one.items() if key != "num_keypoints"} for one in back["annotations"]] == (
        each["annotations"]
    )
    assert {key: back[key] for key in ("info", "licenses", "extra", "categories")} == (
        {key: each[key] for key in ("info", "licenses", "extra", "categories")}
    )


def rotated_jpeg(path: Path, orientation: int) -> None:
    """A 64×48 JPEG with a white spot at (50, 10) and an EXIF orientation."""
    pixels = np.zeros((48, 64, 3), np.uint8)
    pixels[8:13, 48:53] = 255
    data = cv2.imencode(".jpg", pixels)[1].tobytes()
    tiff = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0" + bytes([orientation, 0, 0, 0]) + b"\0\0\0\0"
    exif = b"\xff\xe1" + (len(tiff) + 8).to_bytes(2, "big") + b"Exif\0\0" + tiff
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data[:2] + exif + data[2:])


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_annotations_of_photos_that_exif_turns_are_turned(tmp_path: Path, orientation: int) -> None:
    rotated_jpeg(tmp_path / "images/a.jpg", orientation)
    annotation = person(1, 1, keypoints=[50.5, 10.5, 2] * 3, bbox=[40, 2, 20, 20])
    (tmp_path / "train.json").write_text(json.dumps(content([image(1, "a.jpg", 64, 48)], [annotation])))
    report = convert(tmp_path / "train.json", tmp_path / "out", to="yolo", verbose=False)
    pixels = read_image(tmp_path / "out/images/train/a.jpg")
    height, width = pixels.shape[:2]
    row = [float(value) for value in rows(report)[0]]
    x, y = int(row[5] * width), int(row[6] * height)
    assert pixels[y, x].min() > 200  # the keypoint is on the spot
    assert abs(row[1] * width - x) < 3
    assert "annotated before the turn by EXIF" in report.changed[0]


def test_only_the_size_is_exchanged_if_the_points_fit_the_displayed_image(tmp_path: Path) -> None:
    rotated_jpeg(tmp_path / "images/a.jpg", 6)
    annotation = person(1, 1, keypoints=[37, 60, 2] * 3, bbox=[30, 50, 10, 12])
    (tmp_path / "train.json").write_text(json.dumps(content([image(1, "a.jpg", 64, 48)], [annotation])))
    report = convert(tmp_path / "train.json", tmp_path / "out", to="yolo", verbose=False)
    assert float(rows(report)[0][5]) == pytest.approx(37 / 48)
    assert "width and height exchanged" in report.changed[0]


def test_images_that_were_resized_scale_their_annotations(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    cv2.imwrite(str(tmp_path / "images/a.png"), np.zeros((40, 60, 3), np.uint8))
    (tmp_path / "train.json").write_text(json.dumps(content([image(1)], [person(1, 1)])))
    record = read_annotations(tmp_path / "train.json")
    issues = IssueLog()
    instance = next(record.images(issues)).instances[0]
    assert (instance.points["nose"][:2], tuple(instance.box or ())) == ((8, 10), (6, 8, 20, 14))
    assert instance.area == pytest.approx(4 * 41.5)
    assert "images were resized after annotation" in issues.changed


def test_classes_with_other_keypoints_keep_their_own_names(tmp_path: Path) -> None:
    each = content([image(1)], [person(1, 1), person(2, 1, category_id=2, keypoints=[1, 2, 2, 3, 4, 1])])
    each["categories"].append({"id": 2, "name": "fly", "keypoints": ["wing", "nose"], "skeleton": [[1, 2]]})
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((20, 30, 3), np.uint8))
    (tmp_path / "train.json").write_text(json.dumps(each))
    report = convert(tmp_path / "train.json", tmp_path / "out", to="yolo", verbose=False)
    content_ = yaml.safe_load(report.output.read_text())
    assert content_["kpt_shape"] == [4, 3]
    assert content_["class_keypoints"] == {0: KEYPOINTS, 1: ["nose", "wing"]}
    assert [row[7::3] for row in rows(report)] == [["2", "0", "1", "0"], ["1", "0", "0", "2"]]
    back = read_annotations(report.output)
    assert [set(template.keypoints) for template in back.classes] == [set(KEYPOINTS), {"wing", "nose"}]


def test_ids_in_the_output_are_unique_integers(tmp_path: Path) -> None:
    images = [image("x"), image(2, "b.png"), image("2", "c.png"), image(2.5, "d.png"), image(10**30, "e.png")]
    annotations = [person(1, "x"), person(1, 2), person("1", 2.5), person(None, 10**30), person(2, 2)]
    (tmp_path / "val.json").write_text(json.dumps(content(images, annotations)))
    issues = IssueLog()
    record = read_annotations(tmp_path / "val.json")
    assert len(list(record.images(issues))) == 4
    assert issues.skipped["images with the id of another image"].examples == ["c.png"]
    back = json.loads(convert(tmp_path / "val.json", tmp_path / "out", to="coco", verbose=False).output.read_text())
    for key in ("images", "annotations"):
        ids = [entry["id"] for entry in back[key]]
        assert len(set(ids)) == len(ids)
        assert all(isinstance(item, int) and item < 2**53 for item in ids)
    by_id = {entry["id"]: entry["file_name"] for entry in back["images"]}
    assert sorted(by_id[one["image_id"]] for one in back["annotations"]) == [
        "a.png",
        "b.png",
        "b.png",
        "d.png",
        "e.png",
    ]


@pytest.mark.parametrize(
    "text", ["", "[1, 2", '{"a": [1,]}', '{"a" 1}', '{"a": 1} x', "nothing", "[" * 100_000, '{"a": [1 2]}', '"text"']
)
def test_damaged_json_is_an_error_with_its_place(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(DataError, match=r"a\.json"):
        JsonDocument(tmp_path / "a.json", "file")


def test_lists_are_read_element_by_element(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('\ufeff {"b": [ {"x": [1, {}]} , 2,"]"], "c":{"d": []}, "e": [], "f": null}\n')
    document = JsonDocument(tmp_path / "a.json", "file")
    assert list(document.elements("b")) == [{"x": [1, {}]}, 2, "]"]
    assert list(document.elements("e")) == list(document.elements("none")) == []
    assert document.values == {"c": {"d": []}, "f": None}


def test_a_failed_conversion_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "train.json").write_text(json.dumps(content([image(1), image(2, "b.png")], [person(1, 1)])))
    calls: list[str] = []

    def fail(*_: object) -> None:
        calls.append("image")
        if len(calls) > 1:
            raise KeyboardInterrupt

    monkeypatch.setattr("yolopose.data.convert.yolo_writer._add_to_sidecar", fail)
    with pytest.raises(KeyboardInterrupt):
        convert(tmp_path / "train.json", tmp_path / "out", to="yolo", verbose=False)
    assert len(calls) == 2
    assert not (tmp_path / "out").exists()


def test_boxes_are_computed_where_the_source_has_none(tmp_path: Path) -> None:
    annotation = person(1, 1)
    del annotation["bbox"]
    (tmp_path / "train.json").write_text(json.dumps(content([image(1)], [annotation])))
    report = convert(tmp_path / "train.json", tmp_path / "out", to="yolo", verbose=False)
    assert "1 boxes were computed from the keypoints" in "\n".join(report.changed)
    # points (4, 5) and (7, 9) with a margin of 0.4
    box = [float(value) for value in rows(report)[0][1:5]]
    assert box == pytest.approx([5.5 / 30, 7 / 20, 3.8 / 30, 4.8 / 20])
    assert values(read_annotations(tmp_path / "train.json"))["train/a.png"][0]["box"] is None


def test_names_that_suggest_sides_are_in_the_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    annotation = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 8, 8], "keypoints": [2, 2, 2, 6, 6, 2]}
    content = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 10, "height": 10}],
        "annotations": [annotation],
        "categories": [{"id": 1, "name": "fly", "keypoints": ["eyeL", "eyeR"]}],
    }
    (tmp_path / "train.json").write_text(json.dumps(content))
    convert(tmp_path / "train.json", tmp_path / "out", to="yolo", verbose=False)
    output = capsys.readouterr()
    assert "The names suggest `flip_idx: [1, 0]`" in output.out + output.err
