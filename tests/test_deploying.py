"""docs/deploying.md: its numpy code and the C++ example return the detections of prediction."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from yolopose import YOLO
from yolopose.data import read_image
from yolopose.results import Results

pytest.importorskip("torch")

ROOT = Path(__file__).parents[1]
OPENVINO = pytest.mark.skipif(find_spec("openvino") is None, reason="openvino is not installed")


def page_functions() -> dict[str, Any]:
    """Return the functions in the Python block of the page."""
    page = (ROOT / "docs/deploying.md").read_text(encoding="utf-8")
    block = next(block for block in re.findall(r"```python\n(.*?)```", page, re.S) if "def postprocess" in block)
    functions: dict[str, Any] = {}
    exec(compile(block, "docs/deploying.md", "exec"), functions)  # noqa: S102
    return functions


def predict(model: YOLO, image: Path) -> Results:
    (result,) = model(image, imgsz=320, verbose=False)
    return result.numpy()


@pytest.mark.parametrize("iou", [0.3, 0.7])
def test_numpy_code(iou: float, shared: Path) -> None:
    from yolopose.data.images import letterbox_batch
    from yolopose.formats.pytorch import TorchRuntime
    from yolopose.geometry import Letterbox

    model = YOLO(shared / "checkpoints/yolo11n-pose.pt")
    functions = page_functions()
    for name in ("bus.jpg", "zidane.jpg"):
        image = read_image(shared / "images" / name)
        fit = Letterbox.fit(image.shape[:2], (640, 640))
        raw = TorchRuntime(model.model, "cpu").raw(letterbox_batch([image], [fit]))[0]
        gain, shift = functions["letterbox_params"](image.shape[:2])
        assert (tuple(gain), tuple(shift)) == (fit.gain, (fit.left, fit.top))
        boxes, scores, classes, points = functions["postprocess"](raw, 1, (17, 3), image.shape[:2], iou=iou)
        # a tensor is used as the input itself, and detections are in its pixels
        import torch

        (expected,) = model(torch.from_numpy(letterbox_batch([image], [fit])).float() / 255, iou=iou, verbose=False)
        expected = expected.numpy()
        assert len(scores) == len(expected) > 0
        scale, move = np.tile(gain, 2), np.tile(shift, 2)
        np.testing.assert_allclose((boxes * scale + move).clip(0, 640), expected.boxes.xyxy, atol=1e-2)
        np.testing.assert_allclose(scores, expected.boxes.conf, atol=1e-5)
        np.testing.assert_array_equal(classes, expected.boxes.cls)
        np.testing.assert_allclose((points[..., :2] * gain + shift).clip(0, 640), expected.keypoints.xy, atol=1e-2)


def build_examples(folder: Path, *definitions: str) -> None:
    """Compile examples/cpp into a folder."""
    if not (shutil.which("cmake") and shutil.which("c++")):
        pytest.skip("cmake and a C++ compiler are needed")
    for arguments in (["-S", str(ROOT / "examples/cpp"), "-B", str(folder), *definitions], ["--build", str(folder)]):
        subprocess.run(["cmake", *arguments], check=True, capture_output=True, timeout=300)


def check_program(program: Path, graph: Path, network: Path, shared: Path, folder: Path) -> None:
    """Compare the output of a program with prediction, and its error for an invalid image."""
    cv2.imwrite(str(folder / "bus.ppm"), read_image(shared / "images/bus.jpg"))
    done = subprocess.run(
        [str(program), str(graph), str(folder / "bus.ppm")], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    rows = np.array([line.split() for line in done.stdout.splitlines()], dtype=np.float64)
    expected = predict(YOLO(network), folder / "bus.ppm")
    assert rows.shape == (len(expected), 6 + 51)
    # the example and OpenCV round differently when resizing
    np.testing.assert_allclose(rows[:, :4], expected.boxes.xyxy, atol=3)
    np.testing.assert_allclose(rows[:, 4], expected.boxes.conf, atol=0.02)
    seen = expected.keypoints.conf > 0.5
    points = rows[:, 6:].reshape(-1, 17, 3)
    np.testing.assert_allclose(points[seen][:, :2], expected.keypoints.xy[seen], atol=3)
    broken = subprocess.run([str(program), str(graph), str(graph)], capture_output=True, text=True, timeout=60)
    assert broken.returncode == 1
    assert "is not a binary 8-bit PPM" in broken.stderr


@pytest.mark.slow
@OPENVINO
@pytest.mark.parametrize("nms", [False, True])
def test_cpp_example(nms: bool, shared: Path, tmp_path: Path) -> None:
    code = "from openvino.utils import get_cmake_path; print(get_cmake_path(), end='')"
    config = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    build_examples(tmp_path / "build", f"-DOpenVINO_DIR={config}")
    shutil.copyfile(shared / "checkpoints/yolo11n-pose.pt", tmp_path / "n.pt")
    folder = Path(YOLO(tmp_path / "n.pt").export(format="openvino", imgsz=320, nms=nms, verbose=False))
    check_program(tmp_path / "build/pose", next(folder.glob("*.xml")), folder, shared, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("nms", [False, True])
def test_cpp_example_with_onnxruntime(nms: bool, shared: Path, tmp_path: Path) -> None:
    directory = os.environ.get("ONNXRUNTIME_DIR")
    if not directory:
        pytest.skip("ONNXRUNTIME_DIR is not set: a folder with the headers and the library of ONNX Runtime")
    build_examples(tmp_path / "build", f"-DONNXRUNTIME_DIR={directory}")
    shutil.copyfile(shared / "checkpoints/yolo11n-pose.pt", tmp_path / "n.pt")
    network = Path(YOLO(tmp_path / "n.pt").export(format="onnx", imgsz=320, nms=nms, verbose=False))
    check_program(tmp_path / "build/pose_onnxruntime", network, network, shared, tmp_path)
