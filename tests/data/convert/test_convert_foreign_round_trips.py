"""Each format restores what it says that it can hold; drawn records, and real data sets."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from made_records import MOUSE, datasets, restorable

from yolopose.data.convert.conversion import convert, read_annotations, write_annotations
from yolopose.data.convert.protocol import Feature, ReadOptions
from yolopose.data.convert.record import DatasetRecord
from yolopose.data.convert.registry import get_format

Make = Callable[[Path], DatasetRecord]
few = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def _require(name: str) -> None:
    if get_format(name).extra == "sleap":
        pytest.importorskip("sleap_io")


def _round_trip(name: str, make: Make, folder: Path) -> tuple[DatasetRecord, DatasetRecord]:
    dataset = make(folder / "source")
    write_annotations(dataset, folder / "output", to=name, verbose=False)
    return dataset, read_annotations(folder / "output", source_format=name)


@pytest.mark.parametrize("name", ["labelme", "via", "mpii", "deeplabcut"])
@few
@given(make=datasets())
def test_a_format_restores_what_it_can_hold(name: str, make: Make, tmp_path_factory: pytest.TempPathFactory) -> None:
    target = get_format(name)
    folder = tmp_path_factory.mktemp(name)
    assume(any(row["instances"] for row in restorable(make(folder), target)))
    dataset, restored = _round_trip(name, make, folder)
    assert restorable(restored, target) == restorable(dataset, target)
    assert restored.classes == dataset.classes
    assert restored.attributes["info"] == "made"


@few
@given(make=datasets(templates=(MOUSE,)))
def test_a_project_of_one_class_restores_what_deeplabcut_can_hold(
    make: Make, tmp_path_factory: pytest.TempPathFactory
) -> None:
    dataset, restored = _round_trip("deeplabcut", make, tmp_path_factory.mktemp("dlc"))
    target = get_format("deeplabcut")
    assert restorable(restored, target) == restorable(dataset, target)


@pytest.mark.parametrize("suffix", [".json", ".csv"])
@given(data=st.data())
@few
def test_both_forms_of_via_hold_the_same(
    suffix: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("via")
    dataset = data.draw(datasets())(folder / "source")
    output = folder / "output"
    output.mkdir()
    report = write_annotations(dataset, output / f"regions{suffix}", to="via", verbose=False)
    restored = read_annotations(report.output)
    assert restored.format == "via"
    assert restorable(restored, get_format("via")) == restorable(dataset, get_format("via"))


@pytest.mark.parametrize("name", ["labelme", "via", "mpii", "deeplabcut", "sleap", "nwb"])
def test_labels_of_a_mouse_survive_each_format(name: str, shared: Path, tmp_path: Path) -> None:
    _require(name)
    source = shared / "data/mouse/annotations/val.json"
    convert(source, tmp_path / "there", to=name, images=shared / "data/mouse/images/val", verbose=False)
    there = (
        next((tmp_path / "there").glob(f"*{get_format(name).suffixes[0]}")) if _is_file(name) else tmp_path / "there"
    )
    convert(there, tmp_path / "back", to="coco", source_format=name, kpt_names=(), verbose=False)
    original = json.loads(source.read_text())
    restored = json.loads(next((tmp_path / "back").rglob("*.json")).read_text())
    assert _keypoints(restored) == pytest.approx(_keypoints(original), abs=1e-4)
    assert restored["categories"][0]["keypoints"] == original["categories"][0]["keypoints"]
    if Feature.BOX in get_format(name).capabilities:
        assert _boxes(restored) == pytest.approx(_boxes(original), abs=1e-4)


def _is_file(name: str) -> bool:
    return get_format(name).suffixes in [(".slp",), (".nwb",)]


def _keypoints(content: dict) -> list[float]:
    names = {image["id"]: image["file_name"].split("/")[-1] for image in content["images"]}
    rows = sorted((names[entry["image_id"]], entry["keypoints"]) for entry in content["annotations"])
    return [value for _, row in rows for value in row]


def _boxes(content: dict) -> list[float]:
    names = {image["id"]: image["file_name"].split("/")[-1] for image in content["images"]}
    rows = sorted((names[entry["image_id"]], entry["bbox"]) for entry in content["annotations"])
    return [value for _, row in rows for value in row]


def test_deeplabcut_reports_what_it_cannot_hold(shared: Path, tmp_path: Path) -> None:
    coco = shared / "data/coco-mini"
    official = coco / "annotations/person_keypoints_val_official.json"
    report = convert(official, tmp_path / "there", to="deeplabcut", images=coco / "images/val", verbose=False)
    lost = " ".join(report.lost)
    for value in ("boxes", "hidden states of keypoints", "areas", "crowd flags", "instances without labeled keypoints"):
        assert f"DeepLabCut cannot hold {value}" in lost
    (tmp_path / "there/yolopose.json").unlink()  # only what DeepLabCut itself has
    back = convert(tmp_path / "there", tmp_path / "back", to="coco", verbose=False)
    assert "boxes were computed from the keypoints" in " ".join(back.changed)
    original = json.loads(official.read_text())
    restored = json.loads(next((tmp_path / "back").rglob("*.json")).read_text())
    labeled = [entry for entry in original["annotations"] if entry["num_keypoints"]]
    assert len(restored["annotations"]) == len(labeled)
    expected = sum(entry["num_keypoints"] for entry in labeled)
    assert sum(entry["num_keypoints"] for entry in restored["annotations"]) == expected


def test_the_split_of_unsplit_sources_is_chosen(tmp_path: Path) -> None:
    from made_records import write_image

    write_image(tmp_path / "a.png")
    shape = {"label": "nose", "points": [[3, 4]], "shape_type": "point", "group_id": None}
    values = {"version": "5.5.0", "shapes": [shape], "imagePath": "a.png"}
    (tmp_path / "a.json").write_text(json.dumps(values))
    dataset = read_annotations(tmp_path, options=ReadOptions(split="val"))
    assert [image.split for image in dataset.images()] == ["val"]
