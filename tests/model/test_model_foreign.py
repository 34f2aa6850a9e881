"""The methods of `YOLO` on networks of other packages."""

from __future__ import annotations

import json
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import foreign_graphs
from yolopose import YOLO
from yolopose.base.errors import UsageError
from yolopose.tools.models import models_report


@pytest.fixture
def rtmo(tmp_path: Path) -> Path:
    return foreign_graphs.rtmo(tmp_path / "rtmo.onnx")


@pytest.fixture
def rtmpose(tmp_path: Path) -> Path:
    return foreign_graphs.simcc(tmp_path / "rtmpose.onnx")


@pytest.fixture
def images(shared: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for name in ("000000000785", "000000312489"):
        shutil.copy(shared / f"data/coco-mini/images/val/{name}.jpg", folder)
    return folder


@pytest.fixture
def data(shared: Path, tmp_path: Path) -> str:
    shutil.copytree(shared / "data/coco8-pose", tmp_path / "coco8")
    return str(next((tmp_path / "coco8").glob("*.yaml")))


def test_predict(rtmo: Path, images: Path) -> None:
    model = YOLO(rtmo)
    results = model(images, conf=0.3, verbose=False)
    assert all(0 < len(result) < 30 for result in results)
    assert results[0].keypoints.data.shape[1:] == (17, 3)
    assert results[0].keypoints.xy.max() > 100  # pixels of the image
    batch = model(images, conf=0.3, batch=2, verbose=False)
    np.testing.assert_array_equal(batch[1].keypoints.data, results[1].keypoints.data)
    other = model(images, conf=0.3, runtime="openvino", verbose=False)
    np.testing.assert_allclose(other[0].keypoints.data, results[0].keypoints.data, atol=1e-2)
    copy = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(copy(images, conf=0.3, verbose=False)[0].boxes.data, results[0].boxes.data)
    assert len(model(images, conf=0.3, classes=[0], verbose=False)[0]) > 0
    model(images, conf=0.3, augment=True, fast_decode=True, verbose=False)


def test_tensor_of_any_size(rtmo: Path) -> None:
    torch = pytest.importorskip("torch")
    image = torch.rand(1, 3, 70, 130)
    result = YOLO(rtmo)(image, conf=0.1, verbose=False)[0]
    assert result.orig_shape == (70, 130)
    array = (image[0].numpy()[::-1].transpose(1, 2, 0) * 255).round().astype(np.uint8)
    np.testing.assert_allclose(YOLO(rtmo)(array, conf=0.1, verbose=False)[0].boxes.data, result.boxes.data, atol=1e-3)


def test_track_and_label(rtmo: Path, images: Path, tmp_path: Path) -> None:
    tracked = YOLO(rtmo).track(images, conf=0.2, verbose=False)
    assert any(result.boxes.id is not None for result in tracked)
    labels = YOLO(rtmo).label(images, tmp_path / "labels", min_conf=0.3, verbose=False)
    assert labels.output.exists()


def test_val_with_both_protocols(rtmo: Path, data: str) -> None:
    metrics = YOLO(rtmo).val(data, protocol="coco", plots=True, verbose=False)
    assert 0 <= metrics.pose.map < 0.2
    assert metrics.coco["AP(P)"] < 0.2


def test_val_in_the_boxes_of_the_labels(rtmpose: Path, data: str, tmp_path: Path) -> None:
    # with exact boxes, the boxes of random poses are right
    metrics = YOLO(rtmpose).val(data, given_boxes="labels", verbose=False, plots=False)
    assert metrics.box.map > 0.9
    assert metrics.pose.map < 0.1


def test_val_selects_keypoints_by_name(data: str, tmp_path: Path) -> None:
    path = foreign_graphs.simcc(tmp_path / "halpe.onnx", count=26)
    metrics = YOLO(path).val(data, given_boxes="labels", verbose=False, plots=False)
    assert metrics.box.map > 0.9


def test_top_down_boxes(rtmpose: Path, rtmo: Path, images: Path, tmp_path: Path) -> None:
    model = YOLO(rtmpose)
    boxes = [[10, 20, 110, 220], [50, 20, 150, 220.0]]
    by_list = model(images, given_boxes=boxes, verbose=False)
    assert [len(result) for result in by_list] == [2, 2]
    records = [
        {"image_id": int(path.stem), "bbox": [x, y, u - x, v - y]} for path in images.iterdir() for x, y, u, v in boxes
    ]
    (tmp_path / "boxes.json").write_text(json.dumps(records))
    by_file = model(images, given_boxes=tmp_path / "boxes.json", verbose=False)
    by_name = model(images, given_boxes={path.name: boxes for path in images.iterdir()}, verbose=False)
    for first, second, third in zip(by_list, by_file, by_name, strict=True):
        np.testing.assert_allclose(first.keypoints.data, second.keypoints.data)
        np.testing.assert_allclose(first.keypoints.data, third.keypoints.data)
    detected = YOLO(rtmo)(images, conf=0.3, verbose=False)
    found = model(images, detector=str(rtmo), conf=0.3, verbose=False)
    assert [len(result) for result in found] == [len(result) for result in detected]
    whole = model(images, detector="image", verbose=False)
    assert [result.boxes.xyxy.tolist() for result in whole] == [
        [[0, 0, result.orig_shape[1], result.orig_shape[0]]] for result in whole
    ]


def test_top_down_without_boxes(rtmpose: Path, rtmo: Path, images: Path) -> None:
    with pytest.raises(UsageError, match=r"detector=yolo11n-pose\.pt.*given_boxes="):
        YOLO(rtmpose)(images, verbose=False)
    with pytest.raises(UsageError, match="omit detector="):
        YOLO(rtmo)(images, detector="image", verbose=False)
    with pytest.raises(UsageError, match="omit given_boxes="):
        YOLO(rtmo)(images, given_boxes=[[0, 0, 9, 9]], verbose=False)


@pytest.mark.parametrize("method", ["train", "export", "info", "fuse", "save"])
def test_what_is_not_possible_says_why(method: str, rtmo: Path) -> None:
    with pytest.raises(UsageError, match=r"network of another package.*yolo label"):
        getattr(YOLO(rtmo), method)()


def test_options_that_do_not_apply(rtmo: Path, images: Path) -> None:
    for options in ({"end2end": True}, {"uncertainty": True}, {"runtime": "torch"}):
        with pytest.raises(UsageError):
            YOLO(rtmo)(images, verbose=False, **options)


def test_benchmark(rtmo: Path, data: str) -> None:
    table = YOLO(rtmo).benchmark(data, verbose=False, plots=False)
    assert [row.name for row in table.rows] == ["onnx", "openvino"]
    assert all(row.pose is not None and row.milliseconds for row in table.rows)
    with pytest.raises(UsageError, match="run as it is"):
        YOLO(rtmo).benchmark(data, int8=True)


def test_torch_is_not_loaded(rtmo: Path, images: Path) -> None:
    code = f"""
import sys
from yolopose import YOLO
YOLO({str(rtmo)!r})({str(images)!r}, verbose=False)
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_models_report() -> None:
    text = models_report()
    assert "rtmo-s" in text
    assert "AGPL-3.0" in text
    permissive = models_report("permissive")
    assert "rtmo-s" in permissive
    assert "AGPL-3.0" not in permissive
    assert "rtmo-s" not in models_report("agpl-3.0")
    with pytest.raises(UsageError, match="permissive"):
        models_report("unknown")
