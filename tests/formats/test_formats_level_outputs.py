from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from formats_samples import random_batch

from few_images import SMALL
from yolopose import YOLO
from yolopose.formats.export_modules import LevelOutputs
from yolopose.formats.metadata import level_names
from yolopose.formats.toolchain.worker_runtime import join_levels
from yolopose.schema import KeypointSchema, ModelMetadata, PoseSpec

torch = pytest.importorskip("torch")


def of(text: str, folder: Path) -> YOLO:
    file = folder / "small-pose.yaml"
    file.write_text(text, encoding="utf-8")
    return YOLO(file)


def compared(model: YOLO, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    network = model.model.eval().select_output(False).fuse()
    metadata = replace(ModelMetadata(spec=model.spec), imgsz=size)
    images = torch.from_numpy(random_batch(2, *size)).float() / 255
    with torch.no_grad():
        parts = [part.numpy() for part in LevelOutputs(network).eval()(images)]
        expected = network(images).numpy()
    return join_levels(parts, metadata, network.stride), expected, parts


@pytest.mark.parametrize("shape", ["[5, 2]", "[5, 3]"])
def test_joined_levels_equal_the_network_output(shape: str, tmp_path: Path) -> None:
    text = SMALL.replace("kpt_shape: [5, 2]", f"kpt_shape: {shape}")
    assert shape in text
    model = of(text, tmp_path)
    found, expected, parts = compared(model, (64, 96))
    np.testing.assert_allclose(found, expected, atol=1e-3, rtol=1e-4)
    assert len(parts) == len(level_names(model.model.stride, 2 if shape == "[5, 2]" else 3))


@pytest.mark.parametrize("name", ["yolov8n-pose.yaml", "yolo26n-pose.yaml"])
def test_other_heads(name: str) -> None:
    found, expected, parts = compared(YOLO(name), (64, 64))
    np.testing.assert_allclose(found, expected, atol=2e-3, rtol=1e-4)
    nc = parts[1].shape[1]
    assert [part.shape[1:] for part in parts[:4]] == [(4, 64), (nc, 64), (34, 64), (17, 64)]


def test_join_levels_of_two_anchors() -> None:
    metadata = ModelMetadata(spec=PoseSpec(classes=("a",), keypoints=KeypointSchema(count=1, dims=2)), imgsz=(8, 16))
    distances = np.array([[[1, 0], [2, 0], [3, 0], [4, 0]]], np.float32)  # left, top, right, bottom of two cells
    points = np.array([[[0.5, -1], [0, 2]]], np.float32)
    found = join_levels([distances, np.ones((1, 1, 2), np.float32), points], metadata, [8])
    # the first cell's center is at (4, 4): from -4 to 28 and from -12 to 36
    np.testing.assert_allclose(found[0, :, 0], [12, 12, 32, 48, 1, 8, 4])
    np.testing.assert_allclose(found[0, :, 1], [12, 4, 0, 0, 1, 4, 20])
    assert level_names([8, 16], 2)[2:4] == ["points_8", "distances_16"]
