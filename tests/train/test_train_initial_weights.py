"""The keypoint layer starts at the mean place of each keypoint."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from train_worlds import DUAL_MODEL, FAST, MODEL, make_world

from yolopose import YOLO
from yolopose.config import TrainOptions
from yolopose.nn import build_network
from yolopose.train.data import TrainData, load_data
from yolopose.train.initial_weights import mean_offsets, place_keypoints


@pytest.fixture
def data(tmp_path: Path) -> TrainData:
    path, _ = make_world(tmp_path / "blocks", images=5)
    (tmp_path / "blocks/labels/train/0.txt").write_text("0 0.5 0.5 0.5 0.5 0.1 0.2 2 0.9 0.8 0 0.5 0.5 1\n")
    (tmp_path / "blocks/labels/train/1.txt").write_text("")
    return load_data(TrainOptions(data=str(path)), 3)


def test_mean_offsets_by_a_loop(data: TrainData) -> None:
    sums = np.zeros((3, 2))
    counts = np.zeros((3, 1))
    for (height, width), labels in zip(data.train.shapes, data.train, strict=True):
        scale = 320 / max(height, width)
        for box, keypoints in zip(labels.boxes, labels.keypoints, strict=True):
            for index, (x, y, v) in enumerate(keypoints):
                if v:
                    sums[index] += (x - box[0]) * width * scale, (y - box[1]) * height * scale
                    counts[index] += 1
    assert counts.ravel().tolist() == [4, 3, 4]
    np.testing.assert_allclose(mean_offsets(data.train, 320), sums / counts, rtol=1e-5)


@pytest.mark.parametrize(("model", "layers"), [(MODEL, 2), (DUAL_MODEL, 4)])
def test_every_branch_starts_at_the_mean_place(data: TrainData, model: str, layers: int, tmp_path: Path) -> None:
    file = tmp_path / "network.yaml"
    file.write_text(model)
    network = build_network(file, spec=data.spec)
    place_keypoints(network, data.train, 64)
    head = network.head
    level = head.branches()[0]
    assert len(head.keypoint_layers()) == layers
    for stride, layer in head.keypoint_layers():
        places = (level.scale * layer.bias.detach().view(3, 3)[:, :2] + level.shift) * stride
        np.testing.assert_allclose(places.numpy(), mean_offsets(data.train, 64), rtol=1e-4, atol=1e-4)


def test_option_of_a_run(tmp_path: Path) -> None:
    data, model_yaml = make_world(tmp_path / "blocks")
    errors = {}
    for prior in (False, True):
        model = YOLO(model_yaml)
        options = {**FAST, "epochs": 1, "lr0": 1e-6, "kpt_prior": prior, "val": True}
        model.train(data=data, **options, project=tmp_path / "runs")
        biases = [layer.bias.detach().view(3, 3)[:, :2] for _, layer in model.trainer.model.head.keypoint_layers()]
        errors[prior] = torch.stack(biases).abs().max().item()
    assert errors[True] > 1 > errors[False]  # the keypoints lie some anchors away from the center of the box
