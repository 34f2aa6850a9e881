from __future__ import annotations

import shutil
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from formats_samples import random_batch

from few_images import write_images
from yolopose import YOLO
from yolopose.base.errors import DataError, DependencyError, UsageError
from yolopose.config import ExportOptions, export_settings
from yolopose.data import read_image
from yolopose.formats import open_runtime, registry
from yolopose.formats.int8 import MAX_IMAGES, Calibration, float_nodes, load_calibration
from yolopose.schema import KeypointSchema, ModelMetadata, PoseSpec

pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")

from yolopose.formats.pytorch import TorchRuntime  # noqa: E402

FIVE = ModelMetadata(
    spec=PoseSpec(classes=("a", "b", "c"), keypoints=KeypointSchema(count=5, dims=2)), imgsz=(64, 96), batch=1
)
MANY = [Path(f"{at}.png") for at in range(900)]
FORMATS = ["onnx", pytest.param("openvino", marks=pytest.mark.skipif(not find_spec("nncf"), reason="needs nncf"))]


def load(options: ExportOptions, metadata: ModelMetadata, train_data: str | None) -> Calibration:
    return load_calibration(export_settings(options, metadata), metadata, train_data)


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("few"))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ["0", "1", "2"]),
        ({"split": "train"}, ["0", "1", "2", "3", "4"]),
        ({"split": "train", "fraction": 0.4}, ["0", "2"]),
        ({"split": "train", "fraction": 0.0}, ["0"]),
    ],
)
def test_calibration_images_are_spread_over_the_split(options: dict, expected: list[str], few: Path) -> None:
    found = load(ExportOptions(data=str(few), **options), FIVE, None)
    assert [file.stem for file in found.files] == expected
    assert found.description == f"{len(expected)} images, {options.get('split', 'val')} of few.yaml"


def test_calibration_inputs_are_letterboxed(few: Path) -> None:
    found = list(load(ExportOptions(data=str(few)), FIVE, None))
    assert [given.shape for given in found] == [(1, 3, 64, 96)] * 3
    assert {given.dtype for given in found} == {np.dtype(np.float32)}
    image = read_image(few.parent / "images/val/1.png")  # 64 × 64: in the middle, 16 columns of gray at each side
    np.testing.assert_allclose(found[1][0, :, :, 16:80], image[:, :, ::-1].transpose(2, 0, 1) / np.float32(255))
    np.testing.assert_allclose(found[1][0, :, :, :16], 114 / 255)


def test_calibration_fills_a_fixed_batch(few: Path) -> None:
    calibration = load(ExportOptions(data=str(few)), replace(FIVE, batch=2), None)
    found = list(calibration)
    assert len(found) == len(calibration) == 2
    np.testing.assert_array_equal(found[1][1], found[0][0])


def test_calibration_is_limited(few: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "yolopose.data.dataset.Dataset.image_files", lambda *_: [Path(f"{at}.png") for at in range(900)]
    )
    found = load(ExportOptions(data=str(few)), FIVE, None)
    assert len(found) == MAX_IMAGES
    assert [file.stem for file in found.files[:3]] == ["0", "3", "6"]


def test_default_calibration_images(few: Path) -> None:
    options = ExportOptions()
    assert load(options, FIVE, str(few)).description == "3 images, val of few.yaml"
    with pytest.raises(UsageError, match=r"data=my-data\.yaml \(that of the training, moved\.yaml, is not"):
        load(options, FIVE, "moved.yaml")
    with pytest.raises(DataError, match="no `test:` entry"):
        load(ExportOptions(data=str(few), split="test"), FIVE, None)


def test_float_nodes() -> None:
    nodes = [
        ("scaled", False, ["x"], ["s"]),
        ("first", True, ["s"], ["a"]),
        ("silu", False, ["a"], ["b"]),
        ("second", True, ["b"], ["z"]),
        ("left", True, ["z"], ["c"]),
        ("right", True, ["z", "side"], ["d"]),
        ("join", False, ["c", "d"], ["e"]),
        ("constant", False, [], ["f"]),
        ("scale", False, ["e", "f"], ["y"]),
    ]
    assert sorted(float_nodes(nodes)) == ["constant", "first", "join", "left", "right", "scale", "scaled"]


@pytest.mark.parametrize(
    "options",
    [
        {"int8": True},
        pytest.param({"quantize": 8, "dynamic": True}, marks=pytest.mark.slow),
        pytest.param({"int8": True, "nms": True}, marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("name", FORMATS)
def test_int8_output_is_close_to_that_of_torch(name: str, options: dict, small: YOLO, few: Path) -> None:
    opset = {"opset": 17} if name == "onnx" else {}
    path = small.export(format=name, imgsz=[64, 96], data=str(few), verbose=False, **opset, **options)
    engine = open_runtime(path, device="cpu")
    batch = random_batch(2, 64, 96)
    expected, found = TorchRuntime(small.model, "cpu").raw(batch), engine.raw(batch)
    if options.get("nms"):
        assert found.shape == (2, 300, 6 + 10)
        return
    assert not np.array_equal(found, expected)
    np.testing.assert_allclose(found[:, 4:7], expected[:, 4:7], atol=0.05)
    # far finer than 255 steps over the image would be
    assert np.abs(found[:, :4] - expected[:, :4]).mean() < 0.3
    if (
        name == "onnx"
    ):  # all weights are stored in 8 bits but those of the first convolution and the last ones, three a level
        stored = onnx.load(path).graph.initializer
        kinds = [tensor.data_type for tensor in stored if len(tensor.dims) == 4 and tensor.dims[0] > 1]
        assert kinds.count(onnx.TensorProto.FLOAT) == 7
        assert kinds.count(onnx.TensorProto.INT8) == len(kinds) - 7 > 10


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"quantize": "w8a16"}, "is not supported by any format"),
        ({"format": "openvino", "opset": 17}, "is not supported by OpenVINO; these support it: onnx"),
    ],
)
def test_refuses_unsupported_options(options: dict, words: str, small: YOLO) -> None:
    with pytest.raises(UsageError, match=words):
        small.export(**{"format": "onnx", "imgsz": 64, **options})


def test_requires_the_quantizer_before_the_export(small: YOLO, few: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = registry.find_spec
    monkeypatch.setattr(registry, "find_spec", lambda name: None if name == "nncf" else honest(name))
    with pytest.raises(DependencyError, match="pip install nncf"):
        small.export(format="openvino", imgsz=64, int8=True, data=str(few))


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMATS)
def test_int8_accuracy_of_a_trained_network(name: str, shared: Path, tmp_path: Path) -> None:
    shutil.copytree(shared / "data/coco-mini", tmp_path / "coco-mini")
    shutil.copyfile(shared / "checkpoints/yolo11n-pose.pt", tmp_path / "n.pt")
    data = str(tmp_path / "coco-mini/coco-mini.yaml")
    model = YOLO(tmp_path / "n.pt")
    about = {"data": data, "imgsz": 320, "verbose": False}
    path = model.export(format=name, int8=True, split="train", **about)
    expected, found = (each.val(rect=False, plots=False, **about) for each in (model, YOLO(path)))
    assert found.pose.map == pytest.approx(expected.pose.map, abs=0.03)
    assert found.box.map == pytest.approx(expected.box.map, abs=0.03)
