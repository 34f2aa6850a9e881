from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from made_records import write_image

from yolopose.base.errors import DataError
from yolopose.data.convert import convert, read_annotations
from yolopose.data.convert.record import ImageRecord, IssueLog

ROW = [0, 0.5, 0.5, 0.25, 0.5, 0.1, 0.2, 2, 0.3, 0.4, 1]
HEADER = {"type": "dataset", "task": "pose", "name": "mice", "class_names": {"0": "mouse"}, "kpt_shape": [2, 3]}


def lines(folder: Path, *entries: Any) -> Path:
    path = folder / "set.ndjson"
    path.write_text("\n".join(entry if isinstance(entry, str) else json.dumps(entry) for entry in entries))
    return path


def image(name: str = "a.png", annotations: Any = None, **values: Any) -> dict[str, Any]:
    size = {"width": 80, "height": 60}
    return {"type": "image", "file": name, "split": "valid", **size, "annotations": annotations, **values}


def read(path: Path) -> tuple[list[ImageRecord], IssueLog]:
    issues = IssueLog()
    return list(read_annotations(path).images(issues)), issues


def test_rows_are_instances(tmp_path: Path) -> None:
    header = HEADER | {"kpt_names": {"0": ["snout", "tail"]}, "skeleton": [[0, 1]], "version": 3}
    path = lines(tmp_path, header, image(annotations={"pose": [ROW]}, url="https://host/a.png"), image("b.png"))
    record = read_annotations(path)
    assert (record.classes[0].keypoints, record.classes[0].skeleton) == (("snout", "tail"), (("snout", "tail"),))
    assert record.attributes == {"name": "mice", "version": 3}
    images = list(record.images())
    assert [(each.split, each.url, len(each.instances)) for each in images] == [
        ("val", "https://host/a.png", 1),
        ("val", "", 0),
    ]
    instance = images[0].instances[0]
    assert tuple(instance.box or ()) == (30, 15, 20, 30)
    assert instance.points["tail"][:3] == pytest.approx((24, 24, 1))


@pytest.mark.parametrize(
    ("row", "kpt_shape"), [(ROW, [2, 3]), ([*ROW[:7], 0.3, 0.4], [2, 2]), ([*ROW[:7], 0.3, 0.4, 0.5, 0.6], [3, 2])]
)
def test_a_missing_kpt_shape_is_inferred(tmp_path: Path, row: list[float], kpt_shape: list[int]) -> None:
    header = {key: value for key, value in HEADER.items() if key != "kpt_shape"}
    write_image(tmp_path / "a.png")
    path = lines(tmp_path, header, image(annotations={"pose": [row]}))
    report = convert(path, tmp_path / "out", to="yolo", verbose=False)
    assert f"kpt_shape:\n- {kpt_shape[0]}\n- {kpt_shape[1]}\n" in report.output.read_text()


def test_boxes_are_instances_without_keypoints(tmp_path: Path) -> None:
    header = {key: value for key, value in HEADER.items() if key != "kpt_shape"}
    images, issues = read(lines(tmp_path, header, image(annotations={"boxes": [ROW[:5], [3, 0, 0, 1, 1]]})))
    assert tuple(images[0].instances[0].box or ()) == (30, 15, 20, 30)
    assert issues.skipped["rows that are not valid"].count == 1


def test_rows_that_the_loader_refuses_are_counted(tmp_path: Path) -> None:
    rows = [ROW, ROW[:8], [0, 2.0, *ROW[2:]], [7, *ROW[1:]], "text", None]
    images, issues = read(lines(tmp_path, HEADER, image(annotations={"pose": rows}), {"type": "other"}, image(file=5)))
    assert len(images[0].instances) == 1
    assert issues.skipped["rows that are not valid"].count == 3
    assert issues.skipped["lines that do not describe an image"].count == 2


def test_the_size_is_that_of_the_image_file(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png")
    images, _ = read(lines(tmp_path, HEADER, image(annotations={"pose": [ROW]}, width=0, height=None)))
    assert images[0].size == (80, 60)
    _, issues = read(lines(tmp_path, HEADER, image("b.png", {"pose": [ROW]}, width=0)))
    assert issues.skipped["images of unknown size"].count == 1


@pytest.mark.parametrize("entries", [[], ["{}"], ["[1]"], ["{"], [HEADER, "x"], [HEADER | {"kpt_shape": 5}]])
def test_damaged_files_are_errors(tmp_path: Path, entries: list[Any]) -> None:
    with pytest.raises(DataError, match=r"set\.ndjson"):
        read(lines(tmp_path, *entries))
