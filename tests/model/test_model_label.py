"""`YOLO.label` with a real network, against its predictions."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from yolopose import YOLO
from yolopose.data.convert.conversion import read_annotations
from yolopose.data.convert.protocol import ReadOptions
from yolopose.data.convert.record import Point, PointState
from yolopose.schema import COCO_PERSON_NAMES


@pytest.fixture(scope="module")
def model(request: pytest.FixtureRequest) -> YOLO:
    shared: Path = request.getfixturevalue("shared")
    return YOLO(shared / "checkpoints/yolo11n-pose.pt")


@pytest.fixture
def images(shared: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "new"
    folder.mkdir()
    for name in ("000000000785", "000000312489", "000000022892"):
        shutil.copy(shared / f"data/coco-mini/images/val/{name}.jpg", folder)
    return folder


@pytest.mark.parametrize("to", ["cvat", "labelstudio", "labelme"])
def test_review_tools_get_what_was_predicted(to: str, model: YOLO, images: Path, tmp_path: Path) -> None:
    result = model.label(images, tmp_path / "out", to=to, imgsz=320, verbose=False)
    record = read_annotations(result.output, source_format=to, options=ReadOptions(images=images))
    read = {Path(image.name).name: image for image in record.images()}
    predicted = model.predict(images, imgsz=320, conf=0.25, verbose=False)
    assert sorted(read) == [Path(item.path).name for item in predicted]
    assert sum(len(image.instances) for image in read.values()) >= 4
    for item in predicted:
        image = read[Path(item.path).name]
        assert item.boxes is not None
        assert item.keypoints is not None
        assert len(image.instances) == len(item)
        for instance, box, points in zip(image.instances, item.boxes, item.keypoints, strict=True):
            assert instance.box is not None
            assert np.allclose(instance.box.corners, np.asarray(box.xyxy[0]), atol=0.05)
            values = np.asarray(points.data[0])
            for (x, y, conf), name in zip(values, COCO_PERSON_NAMES, strict=True):
                point = instance.points.get(name, Point(0, 0, PointState.ABSENT))
                border = x in (0, image.width) or y in (0, image.height)
                expected = 0 if border or conf < 0.1 else 1 if conf < 0.5 else 2
                assert point.state == expected
                if expected:
                    assert point[:2] == pytest.approx((x, y), abs=0.05)


def test_suggestions_of_a_network_use_its_features(model: YOLO, images: Path, tmp_path: Path) -> None:
    shutil.copy(images / "000000000785.jpg", images / "copy.jpg")
    result = model.label(images, tmp_path / "out", suggest=3, imgsz=320, verbose=False)
    names = [suggestion.record.name for suggestion in result.suggestions]
    assert len(names) == 3
    assert len({"000000000785.jpg", "copy.jpg"} & set(names)) == 1  # two equal images are not both worth it
    state = model.model.training
    assert state is False
