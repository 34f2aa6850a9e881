from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from convert_records import assert_same, random_record, values

from yolopose.data import load_dataset
from yolopose.data.convert.conversion import convert, read_annotations, write_annotations
from yolopose.data.convert.instances import infer_mirror
from yolopose.data.convert.protocol import ReadOptions

FORMATS = ("yolo", "coco", "cvat", "labelstudio", "labelme", "via")
SUFFIX = {"coco": "", "cvat": "", "labelstudio": "", "yolo": "", "ndjson": ""}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("name", FORMATS)
def test_round_trip(tmp_path: Path, name: str, several: bool, seed: int) -> None:
    record = random_record(tmp_path, seed, several=several)
    report = write_annotations(record, tmp_path / "out", to=name, verbose=False)
    assert (report.lost, report.skipped, report.changed) == ([], [], [])
    back = read_annotations(tmp_path / "out", options=ReadOptions(images=tmp_path / "images"))
    assert back.format == name
    assert {template.name: set(template.keypoints) for template in back.classes} == {
        template.name: set(template.keypoints) for template in record.classes
    }
    for template in record.classes:
        again = back.template(template.name)
        assert set(again.skeleton) == set(template.skeleton)
        # COCO files store mirror pairs only if the names do not show them
        assert (infer_mirror(again.keypoints) if again.mirror is None else again.mirror) == template.mirror
        assert again.sigmas == template.sigmas
    assert_same(values(back), values(record), 1e-5)


@pytest.mark.parametrize("first", FORMATS)
@pytest.mark.parametrize("second", FORMATS)
def test_pairs(tmp_path: Path, first: str, second: str) -> None:
    record = random_record(tmp_path, 7, several=True)
    images = tmp_path / "images"
    write_annotations(record, tmp_path / "1", to=first, verbose=False)
    convert(tmp_path / "1", tmp_path / "2", to=second, images=images, verbose=False)
    report = convert(tmp_path / "2", tmp_path / "3", to=first, images=images, verbose=False)
    back = read_annotations(tmp_path / "3", options=ReadOptions(images=images))
    assert_same(values(back), values(record), 1e-5)
    assert report.skipped == []


def real_sources() -> list[tuple[str, str]]:
    """Name, and source below the shared data."""
    zoo = ("300w", "animalpose", "ap10k", "deepfasion2", "fly", "freihand", "horse10", "panoptic")
    return [
        ("coco-mini", "coco-mini/annotations/person_keypoints_val_official.json"),
        ("mouse", "mouse/mouse.yaml"),
        *((name, f"zoo-mini/{name}/{name}.yaml") for name in zoo),
    ]


@pytest.mark.parametrize(("name", "source"), real_sources())
@pytest.mark.parametrize("target", [*FORMATS, "ndjson"])
def test_real_files(shared: Path, tmp_path: Path, name: str, source: str, target: str) -> None:
    folder = shared / "data" / source.partition("/annotations")[0].rpartition(".yaml")[0].rpartition("/")[0]
    images = shared / "data/coco-mini/images/val" if name == "coco-mini" else folder / "images"
    path = shared / "data" / source
    report = convert(path, tmp_path / "1", to=target, images=images, verbose=False)
    skipped_crowds = target == "ndjson" and name == "coco-mini"
    assert bool(report.skipped) == skipped_crowds, report.skipped
    original = read_annotations(path, options=ReadOptions(images=images))
    back = read_annotations(tmp_path / "1", source_format=target, options=ReadOptions(images=images))
    expected, actual = values(original), values(back)
    if path.suffix == ".yaml":  # label files have no ids
        for instances in actual.values():
            instances[:] = [instance | {"id": None} for instance in instances]
    if target == "ndjson":
        for instances in (instance for image in (expected, actual) for instance in image.values()):
            instances[:] = [instance | {"area": 0, "id": None} for instance in instances if not instance["crowd"]]
    assert_same(actual, expected, 1e-4)


@pytest.mark.parametrize("name", ["yolo", "coco", "ndjson", "roboflow"])
def test_channels_are_kept(tmp_path: Path, name: str) -> None:
    source = tmp_path / "gray.yaml"
    for folder in ("images/train", "labels/train"):
        (tmp_path / folder).mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "images/train/a.png"), np.zeros((20, 30), np.uint8))
    (tmp_path / "labels/train/a.txt").write_text("0 .5 .5 .5 .5 .4 .4 2\n")
    source.write_text(f"path: {tmp_path}\ntrain: images/train\nnames: [a]\nkpt_shape: [1, 3]\nchannels: 1\n")
    report = convert(source, tmp_path / "other", to=name, copy_images=True)
    back = convert(report.output, tmp_path / "back", to="yolo", source_format=name)
    assert load_dataset(back.output).spec.channels == 1
