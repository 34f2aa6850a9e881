"""The keypoint branch is trained alone, on feature maps that are computed once."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from train_worlds import DUAL_MODEL, FAST, MODEL, make_world

from yolopose import YOLO
from yolopose.config import TrainSettings, make_options, train_settings
from yolopose.nn import PoseModel, build_network
from yolopose.train import head_warmup
from yolopose.train.data import TrainData, load_data
from yolopose.train.feed import image_cache
from yolopose.train.head_warmup import warm_up_head

CPU = torch.device("cpu")


def make_run(root: Path, text: str, steps: int = 60, **given: object) -> tuple[PoseModel, TrainData, TrainSettings]:
    data, model_yaml = make_world(root / "blocks")
    model_yaml.write_text(text)
    options = make_options("train", {"data": str(data), **FAST, "head_steps": steps, **given})
    torch.manual_seed(0)
    world = load_data(options, 3)
    return build_network(model_yaml, spec=world.spec), world, train_settings(options, 8)


@pytest.mark.parametrize("text", [MODEL, DUAL_MODEL])
def test_known_boxes_and_scores_change_nothing(tmp_path: Path, text: str) -> None:
    network, _, _ = make_run(tmp_path, text)
    maps = network.train().features(torch.rand(2, 3, 64, 64))
    full = network.head.outputs(maps)
    partial = network.head.outputs(maps, known=full)
    branches = [(full, partial), *([(full.one2one, partial.one2one)] if full.one2one else [])]
    for expected, output in branches:
        assert output.boxes is expected.boxes
        assert output.scores is expected.scores
        assert torch.allclose(output.kpts, expected.kpts, atol=1e-6)


@pytest.mark.parametrize("text", [MODEL, DUAL_MODEL])
def test_only_the_keypoint_branch_learns(tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    network, data, settings = make_run(tmp_path, text)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    seconds = warm_up_head(network, data, settings, CPU)
    changed = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    keypoint_names = ("cv4", "flow_model")
    assert changed
    assert all(any(part in name for part in keypoint_names) for name in changed)
    assert any("cv4" in name and name.endswith("running_mean") for name in changed)
    assert all(parameter.grad is None for parameter in network.parameters())
    assert network.training
    assert seconds > 0
    first, last = capsys.readouterr().out.split("pose loss ")[1].split(" to ")
    assert float(last.split(".\n")[0]) < 0.7 * float(first)


def test_equal_seeds_give_equal_weights(tmp_path: Path) -> None:
    states = []
    for _ in range(2):
        network, data, settings = make_run(tmp_path, MODEL, 5)
        warm_up_head(network, data, settings, CPU)
        states.append(network.state_dict())
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_a_frozen_branch_stays(tmp_path: Path) -> None:
    network, data, settings = make_run(tmp_path, MODEL)
    network.head.requires_grad_(False)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert warm_up_head(network, data, settings, CPU) == 0
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_the_cache_in_memory_is_filled_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled: list[object] = []
    fill = image_cache._fill
    monkeypatch.setattr(image_cache, "_fill", lambda *args: (filled.append(args), fill(*args)))
    data, model_yaml = make_world(tmp_path / "blocks")
    options = {**FAST, "epochs": 1, "cache": "ram", "head_steps": 2, "val": False}
    YOLO(model_yaml).train(data=data, **options, project=tmp_path / "runs")
    assert len(filled) == 1


@pytest.mark.parametrize(("free", "expected"), [(0, 16), (10**12, 24)])  # 8 images, 3 views, at least one batch
def test_samples_fit_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, expected: int) -> None:
    monkeypatch.setattr(head_warmup, "memory_meter", lambda device: SimpleNamespace(free=lambda: free))
    network, data, settings = make_run(tmp_path, MODEL)
    samples = head_warmup._make_samples(network, data, settings, head_warmup.Precision(False, CPU), CPU)
    assert len(samples) == len(samples.maps[0]) == len(samples.outputs.boxes) == expected
    targets = samples.targets(torch.tensor([3, 0]))
    assert torch.allclose(targets.boxes, torch.cat([samples.targets(torch.tensor([i])).boxes for i in (3, 0)]))


def test_option_of_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, model_yaml = make_world(tmp_path / "blocks")
    (tmp_path / "blocks/labels/train/0.txt").write_text("")  # an image without instances
    cv2.imwrite(str(tmp_path / "blocks/images/train/1.png"), np.zeros((32, 64, 3), np.uint8))  # another shape
    model = YOLO(model_yaml)
    options = {**FAST, "verbose": True, "epochs": 1, "rect": True, "amp": "bf16", "head_steps": 3}
    model.train(data=data, **options, project=tmp_path / "runs")
    assert "Keypoint branch: 3 steps on 24 samples" in capsys.readouterr().out
