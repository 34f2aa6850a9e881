"""Networks to files and back, and copying weights from one network to another."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from yolopose.base.errors import WeightsError
from yolopose.nn import PoseModel, build_network
from yolopose.schema import KeypointSchema, PoseSpec
from yolopose.weights import load_matching, load_network, make_checkpoint, write_checkpoint
from yolopose.weights.network import _convert_kernel

TINY: dict[str, Any] = {
    "nc": 2,
    "kpt_shape": [3, 2],
    "backbone": [[-1, 1, "Conv", [8, 3, 4]], [-1, 1, "Conv", [8, 3, 2]], [-1, 1, "Conv", [16, 3, 2]]],
    "head": [[[1, 2], 1, "Pose", ["nc", "kpt_shape"]]],
}
SPEC = PoseSpec(classes=("mouse", "rat"), keypoints=KeypointSchema(count=3, dims=2, flip_idx=(0, 2, 1)))


def network(seed: int = 0, spec: PoseSpec = SPEC) -> PoseModel:
    """A small network with random batch norm statistics."""
    torch.manual_seed(seed)
    model = build_network(copy.deepcopy(TINY), spec=spec)
    for name, value in model.state_dict().items():
        if "running" in name or name.endswith("bn.weight"):
            value.uniform_(0.5, 2)
    return model.eval()


def outputs(model: PoseModel) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(1)))


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_network_round_trip(tmp_path: Path, suffix: str) -> None:
    model = network()
    args = {"imgsz": 96, "lr0": 0.1}
    path = write_checkpoint(tmp_path / f"best{suffix}", make_checkpoint(model, args=args, metrics={"f": 1.0}, epoch=3))
    again, found = load_network(path)
    assert torch.equal(outputs(again), outputs(model))
    assert again.spec == SPEC
    assert (again.stride, again.name, again.yaml) == (model.stride, model.name, model.yaml)
    assert found.metadata is not None
    assert (found.metadata.stride, found.metadata.imgsz, found.train_args) == (16, (96, 96), args)
    assert (found.epoch, found.metrics) == (3, {"f": 1.0})
    assert [p.requires_grad for p in again.parameters()] == [p.requires_grad for p in model.parameters()]
    assert found.date.startswith("20")


def test_checkpoint_is_a_copy() -> None:
    model = network()
    found = make_checkpoint(model)
    before = found.state["model.0.conv.weight"].clone()
    model.state_dict()["model.0.conv.weight"].zero_()
    assert torch.equal(found.state["model.0.conv.weight"], before)


def test_loaded_network_can_be_trained(tmp_path: Path) -> None:
    model, _ = load_network(write_checkpoint(tmp_path / "a.pt", make_checkpoint(network()), half=True))
    model.train()
    result = model(torch.rand(2, 3, 32, 32))
    (result.boxes.sum() + result.scores.sum() + result.kpts.sum()).backward()
    assert all(p.grad is not None and p.dtype == torch.float32 for p in model.parameters() if p.requires_grad)


def test_weights_must_fit_their_architecture(tmp_path: Path) -> None:
    found = make_checkpoint(network())
    found.state["model.0.conv.weight"] = torch.zeros(8, 3, 1, 1)
    del found.state["model.1.bn.weight"]
    found.state["model.9.x"] = torch.zeros(1)
    path = write_checkpoint(tmp_path / "a.pt", found)
    with pytest.raises(WeightsError, match=r"a\.pt do not fit") as caught:
        load_network(path)
    for message in (
        "model.1.bn.weight is missing",
        "model.0.conv.weight is (8, 3, 1, 1), not (8, 3, 3, 3)",
        "model.9.x is not",
    ):
        assert message in str(caught.value)


def test_further_problems_are_counted(tmp_path: Path) -> None:
    found = make_checkpoint(network())
    found.state = {}
    with pytest.raises(WeightsError, match=r"is missing and \d+ more"):
        load_network(write_checkpoint(tmp_path / "a.pt", found))


def test_batch_counters_may_be_missing(tmp_path: Path) -> None:
    model = network()
    found = make_checkpoint(model)
    found.state = {name: value for name, value in found.state.items() if "num_batches" not in name}
    again, _ = load_network(write_checkpoint(tmp_path / "a.pt", found))
    assert torch.equal(outputs(again), outputs(model))


def test_fused_file_gives_the_same_network(tmp_path: Path) -> None:
    model = network()
    expected = outputs(model)
    path = write_checkpoint(tmp_path / "a.pt", make_checkpoint(model.fuse()))
    again, found = load_network(path)
    assert not any("bn" in name for name in found.state)
    assert any("bn" in name for name in again.state_dict())
    torch.testing.assert_close(outputs(again), expected, rtol=1e-4, atol=1e-3)


def test_load_matching_copies_matching_tensors() -> None:
    source, target = network(0), network(1, PoseSpec(classes=("a",), keypoints=KeypointSchema(count=5, dims=3)))
    before = {name: value.clone() for name, value in target.state_dict().items()}
    state = {name: value for name, value in source.state_dict().items() if name != "model.0.conv.weight"}
    report = load_matching(target, {**state, "unknown": torch.zeros(1)})
    assert report.missing == ("model.0.conv.weight",)
    # the class branch ends in nc channels, the keypoint branch in K·D
    assert "model.3.cv3.0.2.bias" in report.mismatched
    assert "model.3.cv4.1.2.weight" in report.mismatched
    assert report.total == len(before)
    assert report.copied == report.total - 1 - len(report.mismatched)
    for name, value in target.state_dict().items():
        left = name in (*report.missing, *report.mismatched)
        assert torch.equal(value, before[name] if left else state[name]), name


def test_load_matching_of_a_whole_network() -> None:
    source, target = network(0), network(1)
    report = load_matching(target, source.state_dict())
    assert report.copied == report.total
    assert torch.equal(outputs(target), outputs(source))


@pytest.mark.parametrize("source_channels", [1, 3, 4])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_first_convolution_of_other_channels(source_channels: int, channels: int) -> None:
    """A gray scene has the same output, whichever channels the network reads; a new alpha channel has no effect."""
    spec = network().spec
    source = network(0, replace(spec, channels=source_channels))
    target = network(1, replace(spec, channels=channels))
    report = load_matching(target, source.state_dict())
    assert (report.copied, report.mismatched) == (report.total, ())
    note = "" if source_channels == channels else f"converted from {source_channels} to {channels} channels"
    assert note in report.summary("x", "y")
    gray = torch.rand(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    inputs = [gray.expand(-1, count, -1, -1).clone() for count in (source_channels, channels)]
    inputs[0][:, 3:] = 0.0
    inputs[1][:, 3:] = 0.5 if source_channels < 4 else 0.0
    with torch.no_grad():
        expected, got = source.eval()(inputs[0]), target.eval()(inputs[1])
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-3)


def test_a_kernel_of_color_is_reordered() -> None:
    kernel = torch.randn(8, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    rgb = torch.rand(2, 3, 9, 9, generator=torch.Generator().manual_seed(1))
    bgra = torch.cat((rgb.flip(1), torch.rand(2, 1, 9, 9)), 1)
    converted = _convert_kernel(kernel, torch.Size((8, 4, 3, 3)))
    assert converted is not None
    conv = torch.nn.functional.conv2d
    torch.testing.assert_close(conv(bgra, converted), conv(rgb, kernel))
    again = _convert_kernel(converted, kernel.shape)
    assert again is not None
    assert torch.equal(again, kernel)
    for shape in ((8, 3, 3, 3), (8, 2, 3, 3), (16, 1, 3, 3), (8, 1, 1, 1), (8, 1)):
        assert _convert_kernel(kernel, torch.Size(shape)) is None


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_channels_are_stored(tmp_path: Path, suffix: str) -> None:
    path = write_checkpoint(tmp_path / f"a{suffix}", make_checkpoint(network(0, replace(network().spec, channels=4))))
    again, checkpoint = load_network(path)
    assert (again.spec.channels, again.yaml["ch"], again.model[0].conv.in_channels) == (4, 4, 4)
    assert checkpoint.metadata is not None
    assert checkpoint.metadata.spec.channels == 4


def test_load_matching_of_public_weights(shared: Path) -> None:
    from yolopose.weights import read_checkpoint

    state = read_checkpoint(shared / "checkpoints" / "yolo11n-pose.pt").state
    model = build_network("yolo11n-pose.yaml", kpt_shape=(17, 3), nc=2)
    report = load_matching(model, state)
    assert report.total == 541
    assert report.missing == ()
    assert all(".cv3." in name and name.split(".")[4] == "2" for name in report.mismatched)
    assert len(report.mismatched) == 6
