"""Damaged files of every foreign format end in an error for users or in counted values, never in another exception."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_convert_deeplabcut import CONFIG, MULTI, PREDICTIONS, SINGLE
from test_convert_labelme import point, rectangle
from test_convert_mpii import JOINTS, person
from test_convert_via import RECT, REGIONS, entries, region

from yolopose.base.errors import YoloposeError
from yolopose.data.convert.conversion import read_annotations
from yolopose.data.convert.record import Instance, IssueLog

many = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
SHAPES = [rectangle("cat", [1, 2], [30, 40], group=1), point("nose", 5, 6, group=1, flags={"hidden": True})]
STORED = {
    "yolopose": 1,
    "classes": [{"name": "cat", "keypoints": ["nose"], "skeleton": [], "mirror": None, "sigmas": {"nose": 0.1}}],
    "attributes": {"info": {}},
    "images": {"a.png": {"name": "b.png", "split": "val", "id": 3, "attributes": {}}},
}
LABELME = {
    "version": "5",
    "flags": {},
    "shapes": [{**SHAPES[0], "yolopose": {"crowd": True, "area": 3, "attributes": {"a": 1}}}, SHAPES[1]],
    "imagePath": "a.png",
    "imageWidth": 80,
    "imageHeight": 60,
}
VIA = entries([*REGIONS, region(RECT, type="cat", yolopose='{"area": 3, "attributes": {}}')])
VIA3 = {
    "project": {"vid_list": ["7"]},
    "attribute": {"1": {"aname": "keypoint", "options": {"n": "nose"}}},
    "file": {"1": {"fid": 1, "fname": "a.png", "type": 2, "src": "a.png"}},
    "view": {"7": {"fid_list": [1]}},
    "metadata": {"a": {"vid": "7", "xy": [1, 15, 25], "av": {"1": "n"}}},
}
CPM = [{"img_paths": "a.png", "joint_self": [[x, y, 1] for x, y in JOINTS], "isValidation": 0, "objpos": [1, 2]}]
MPII = [person(yolopose={"category": "person", "track_id": 1, "attributes": {}}), person()]
SOURCES = {
    "labelme": LABELME,
    "via": {"_via_img_metadata": VIA},
    "via 3": VIA3,
    "mpii": MPII,
    "mpii cpm": CPM,
}
JUNK: list[Any] = [
    None,
    True,
    -1,
    0,
    1e308,
    float("nan"),
    float("inf"),
    "",
    "..",
    "a/../b",
    "x" * 300,
    "\0",
    [],
    {},
    [[]],
]


def places(value: Any) -> list[tuple[Any, Any]]:
    """Return container and key of every value inside of a JSON value."""
    keys = list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []
    inside = [place for key in keys for place in places(value[key])]
    return [(value, key) for key in keys] + inside


def damage(value: Any, draw: Callable[[st.SearchStrategy[Any]], Any]) -> Any:
    """Replace or remove one or two values of a JSON value."""
    copy = json.loads(json.dumps(value))
    for _ in range(draw(st.integers(1, 2))):
        container, key = draw(st.sampled_from(places(copy)))
        junk = draw(st.sampled_from([*JUNK, "remove"]))
        if junk == "remove":
            del container[key]
        else:
            container[key] = json.loads(json.dumps(junk))
        if not places(copy):
            break
    return copy


def read_all(source: Path, name: str) -> None:
    """Read everything; values must have the types that the record promises."""
    with suppress(YoloposeError):
        dataset = read_annotations(source, source_format=name)
        for image in dataset.images(IssueLog()):
            assert isinstance(image.name, str)
            for instance in image.instances:
                check(instance)


def check(instance: Instance) -> None:
    assert isinstance(instance.category, str)
    assert instance.area is None or isinstance(instance.area, float)
    assert isinstance(instance.crowd, bool)
    assert instance.id is None or isinstance(instance.id, int | str)
    assert isinstance(instance.attributes, dict)
    for x, y, *_ in instance.points.values():
        assert math.isfinite(x)
        assert math.isfinite(y)


@pytest.mark.parametrize("name", SOURCES)
@many
@given(data=st.data())
def test_damaged_json(name: str, data: st.DataObject, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(damage(SOURCES[name], data.draw)))
    read_all(tmp_path / "a.json", name.split()[0])


@many
@given(data=st.data())
def test_damaged_class_files(data: st.DataObject, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(LABELME))
    (tmp_path / "yolopose.json").write_text(json.dumps(damage(STORED, data.draw)))
    read_all(tmp_path, "labelme")


@pytest.mark.parametrize("text", [SINGLE, MULTI, PREDICTIONS])
@many
@given(data=st.data())
def test_damaged_tables(text: str, data: st.DataObject, tmp_path: Path) -> None:
    folder = tmp_path / "labeled-data/m1"
    folder.mkdir(parents=True, exist_ok=True)
    (tmp_path / "config.yaml").write_text(json.dumps(damage(CONFIG | {"skeleton": [["a", "b"]]}, data.draw)))
    start = data.draw(st.integers(0, len(text)))
    stop = data.draw(st.integers(start, min(start + 12, len(text))))
    junk = data.draw(st.sampled_from(["", ",", "\n", '"', "\0", "é", "1e999", "nan", "/../", "0" * 30]))
    (folder / "CollectedData_Ann.csv").write_text(text[:start] + junk + text[stop:])
    read_all(tmp_path, "deeplabcut")


@pytest.mark.parametrize(("name", "suffix"), [("deeplabcut", ".h5"), ("sleap", ".slp"), ("nwb", ".nwb")])
@settings(parent=many, max_examples=25)
@given(data=st.data())
def test_damaged_hdf5_files(name: str, suffix: str, data: st.DataObject, tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    if name != "deeplabcut":
        pytest.importorskip("sleap_io")
    path = tmp_path / f"CollectedData_Ann{suffix}"
    with h5py.File(path, "w") as file:
        group = file.create_group("df_with_missing")
        group.attrs["pandas_type"] = "frame"
        for key, value in (("axis0", [b"a"]), ("axis1", [b"b"]), ("block0_values", [[1.0]]), ("block0_items", [b"a"])):
            group[key] = value
        group.attrs["nblocks"] = data.draw(st.sampled_from([0, 1, 5]))
        training = file.create_group("processing/behavior/PoseTraining")
        training.create_group("source_videos/v")["external_file"] = [b"a.png"]
        frame = training.create_group("training_frames/f")
        frame.attrs["source_video_frame_index"] = data.draw(st.sampled_from([0, 7]))
        file.create_group("processing/behavior/Skeletons/s")["nodes"] = [b"n"]
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(0, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    read_all(path, name)
