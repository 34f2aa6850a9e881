from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from formats_samples import random_batch, require_openvino

from few_images import write_images
from yolopose import YOLO
from yolopose.base.errors import ExportError, UsageError
from yolopose.config import ExportOptions, export_settings
from yolopose.formats.registry import get_format, missing_packages
from yolopose.runtime import from_raw
from yolopose.runtime.nms import Detections, nms
from yolopose.schema import ModelMetadata

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")
require_openvino()

from yolopose.formats import exporting, open_runtime  # noqa: E402
from yolopose.formats.export_modules import NMS_ROUNDS, Decoded, NmsConfig, NmsModule, surviving_boxes  # noqa: E402
from yolopose.formats.pytorch import TorchRuntime  # noqa: E402


def crowd(nc: int, cells: int, imgs: int = 2) -> np.ndarray:
    """Raw outputs for (3, 2) keypoints, full of boxes that overlap."""
    rng = np.random.default_rng(0)
    raw = np.zeros((imgs, 4 + nc + 6, cells), np.float32)
    raw[:, :2], raw[:, 2:4] = rng.uniform(0, 250, (imgs, 2, cells)), rng.uniform(30, 120, (imgs, 2, cells))
    raw[:, 4 : 4 + nc], raw[:, 4 + nc :] = rng.random((imgs, nc, cells)), rng.random((imgs, 6, cells))
    return raw


def pairs(found: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """For each wanted row the found one nearest to it: engines order rows of nearly equal scores as they like."""
    nearest = np.abs(found[:, None] - wanted[None]).max(2).argmin(0)
    assert len(set(nearest)) == len(wanted)
    return nearest


def assert_same(found: np.ndarray, expected: Sequence[Detections], atol: float = 1e-6) -> None:
    for rows, one in zip(found, expected, strict=True):
        count = len(one)
        assert (rows[:, 4] > 0).sum() == count
        wanted = np.column_stack((one.boxes, one.scores, one.classes, one.points.reshape(count, -1)))
        mine = pairs(rows[:count], wanted)
        np.testing.assert_allclose(rows[mine, :4], one.boxes, atol=atol)
        np.testing.assert_allclose(rows[:count, 4], one.scores, atol=min(atol, 1e-4))
        np.testing.assert_array_equal(rows[mine, 5], one.classes)
        np.testing.assert_allclose(rows[mine, 6:], wanted[:, 6:], atol=atol)
        assert not rows[count:].any()


def rows_of(found: Detections) -> np.ndarray:
    return np.column_stack((found.boxes, found.scores))


@pytest.mark.parametrize("cells", [40, 900])
@pytest.mark.parametrize("iou", [0.2, 0.7])
@pytest.mark.parametrize(
    ("nc", "agnostic", "classes"), [(1, False, None), (3, False, None), (3, True, None), (3, False, (0, 2))]
)
def test_nms_in_the_graph_equals_greedy_nms(
    nc: int, agnostic: bool, classes: tuple[int, ...] | None, iou: float, cells: int
) -> None:
    raw, rules = crowd(nc, cells), NmsConfig(0.3, iou, 100, agnostic, classes)
    expected = nms(from_raw(raw, (3, 2), conf=0.3, classes=classes), 2, iou=iou, max_det=100, agnostic=agnostic)
    for known in (cells, None):  # one input size, and any
        graph = NmsModule(torch.nn.Identity(), nc, rules, known)
        assert_same(graph(torch.from_numpy(raw)).numpy(), expected)


def test_equal_scores_and_boxes_without_area() -> None:
    raw = np.zeros((1, 11, 8), np.float32)
    raw[0, 4] = 0.9
    raw[0, :4, :4] = [[50], [50], [20], [20]]  # four times the same box, four times a point
    expected = nms(from_raw(raw, (3, 2), conf=0.25), 1, iou=0.5, max_det=5)
    assert len(expected[0]) == 5
    assert len(np.unique(rows_of(expected[0]), axis=0)) == 2
    graph = NmsModule(torch.nn.Identity(), 1, NmsConfig(0.25, 0.5, 5, False, None), 8)
    found = graph(torch.from_numpy(raw)).numpy()[0]
    # in which order equal scores stand is each library's own choice
    np.testing.assert_array_equal(np.unique(found[:, :5], axis=0), np.unique(rows_of(expected[0]), axis=0))


@pytest.mark.parametrize("length", [1, 2, 7, NMS_ROUNDS])
def test_chain_of_overlapping_boxes(length: int) -> None:
    removes = torch.diag(torch.ones(length - 1), 1)[None] if length > 1 else torch.zeros(1, 1, 1)
    assert surviving_boxes(removes, NMS_ROUNDS)[0].tolist() == [float(index % 2 == 0) for index in range(length)]


def threshold(raw: np.ndarray, nc: int) -> float:
    """A confidence that a third of the cells exceed, far from any score."""
    scores = np.sort(raw[:, 4 : 4 + nc].max(1).ravel())
    middle = np.arange(len(scores) * 6 // 10, len(scores) * 8 // 10)
    best = middle[np.diff(scores)[middle].argmax()]
    return float((scores[best] + scores[best + 1]) / 2)


@pytest.fixture(scope="module")
def spread(small: YOLO) -> YOLO:
    """The small network with scores all over 0…1, so that rounding changes the order of none."""
    torch.manual_seed(0)
    for branch in small.model.head.cv3:
        torch.nn.init.normal_(branch[-1].weight, std=2)
        torch.nn.init.zeros_(branch[-1].bias)
    return small


@pytest.mark.parametrize(
    ("name", "dynamic"),
    [
        ("openvino", False),
        ("onnx", True),
        ("torchscript", False),
        *(
            pytest.param(name, dynamic, marks=pytest.mark.slow)
            for name, dynamic in (
                ("openvino", True),
                ("onnx", False),
                ("torchscript", True),
                ("tflite", False),
                ("executorch", False),
            )
        ),
    ],
)
def test_exported_files_return_detections(name: str, dynamic: bool, spread: YOLO, tmp_path: Path) -> None:
    missing = missing_packages(get_format(name).info.export_requires)
    if missing:
        pytest.skip(f"{missing[0]} is not installed")
    torch_engine = TorchRuntime(spread.model, "cpu")
    conf = threshold(torch_engine.raw(random_batch(3, 64, 96)), 3)
    options = {"conf": conf, "max_det": 50, "data": str(write_images(tmp_path))}
    if name == "onnx":
        options["opset"] = 17
    path = spread.export(format=name, imgsz=[64, 96], dynamic=dynamic, nms=True, verbose=False, **options)
    engine = open_runtime(path, device="cpu")
    assert engine.metadata.end2end
    assert engine.metadata.args["nms"]["max_det"] == 50
    for batch in [random_batch(3, 64, 96)] + [random_batch(2, 40, 136)] * dynamic:
        expected = nms(torch_engine.infer(batch, conf=conf), len(batch), iou=0.7, max_det=50)
        assert sum(map(len, expected)) > 20
        assert_same(engine.raw(batch), expected, atol=1e-3)
        found = nms(engine.infer(batch, conf=conf), len(batch), iou=0.01, max_det=50)
        for one, other in zip(found, expected, strict=True):  # and nothing suppresses them again
            mine = pairs(one.boxes, other.boxes)
            np.testing.assert_allclose(one.boxes[mine], other.boxes, atol=1e-3)


def test_refuses_unknown_classes_and_warns_of_unused_options(small: YOLO, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageError, match="unknown class 7; this network has 0"):
        small.export(format="openvino", imgsz=64, nms=True, classes=[0, 7])
    options = ExportOptions(format="openvino", max_det=10)
    exporting._check_options(get_format("openvino"), export_settings(options, ModelMetadata(spec=small.spec)))
    assert "max_det=10: only used with nms=True" in capsys.readouterr().err


def test_removes_a_file_with_different_detections(
    spread: YOLO, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = str(write_images(tmp_path / "few"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setattr(spread, "model_name", "gone.yaml")
    honest = Decoded.forward
    monkeypatch.setattr(Decoded, "forward", lambda self, images: honest(self, images) * 1.01)
    with pytest.raises(ExportError, match="does not reproduce the network"):
        spread.export(format="openvino", imgsz=[64, 96], nms=True, conf=0.5, data=data)
    assert not list(Path().iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["onnx", "openvino"])
def test_real_images_with_nms_inside_and_outside_the_graph(name: str, shared: Path, tmp_path: Path) -> None:
    imgs = sorted((shared / "data/coco-mini/images/val").iterdir())[:40]
    found = {}
    for place, options in {"inside": {"nms": True}, "outside": {}}.items():
        (tmp_path / place).mkdir()
        shutil.copyfile(shared / "checkpoints/yolo11n-pose.pt", tmp_path / place / "n.pt")
        path = YOLO(tmp_path / place / "n.pt").export(format=name, imgsz=320, verbose=False, **options)
        found[place] = YOLO(path)(imgs, verbose=False)
    assert sum(len(one) for one in found["outside"]) > 60
    for one, other in zip(found["inside"], found["outside"], strict=True):
        np.testing.assert_allclose(one.boxes.data, other.boxes.data, atol=1e-4)
        np.testing.assert_allclose(one.keypoints.data, other.keypoints.data, atol=1e-4)
