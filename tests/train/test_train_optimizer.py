"""Choice, groups and decay of the optimizer, and its state through a checkpoint."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from yolopose.base.errors import UsageError, WeightsError
from yolopose.config import TrainOptions
from yolopose.nn import PoseModel, build_network
from yolopose.train.optimizer import Optimizer, choose_optimizer, make_optimizer, parameter_groups, resolved_batch
from yolopose.train.precision import _step_if
from yolopose.weights import Checkpoint, read_checkpoint, write_checkpoint

RUNS = ("auto_adamw", "sgd_linear", "sgd_cos", "warm_long")
ROLES = {"weight": "weight", "bn": "norm", "bias": "bias"}  # the fixture's words → ours


class Small(nn.Module):
    """One parameter of each role, and one that is never trained."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 3, 1)
        self.norm = nn.BatchNorm2d(3)
        self.fixed = nn.Conv2d(3, 1, 1, bias=False).requires_grad_(False)


def small(seed: int = 0) -> Small:
    torch.manual_seed(seed)
    return Small()


def made(model: nn.Module, **options: Any) -> Optimizer:
    return make_optimizer(model, TrainOptions(**options), images=73, nc=1)


def train(model: Small, optim: Optimizer, steps: int, start: int = 0) -> None:
    """Step with gradients that hang on the weights and the step number alone."""
    for i in range(start, start + steps):
        for parameter in model.parameters():
            parameter.grad = torch.cos(parameter.detach() * 3 + i) if parameter.requires_grad else None
        optim.torch.step()


@pytest.fixture(scope="module")
def network() -> PoseModel:
    with torch.device("meta"):
        return build_network("yolo11n-pose.yaml", nc=1)


@pytest.mark.parametrize("run", RUNS)
def test_parameter_groups_equal_the_reference(shared: Path, network: PoseModel, run: str) -> None:
    golden = json.loads((shared / "fixtures/schedule.json").read_text())[run]
    options = {key: value for key, value in golden["settings"].items() if key != "images"}
    optim = make_optimizer(network, TrainOptions(**options), images=golden["settings"]["images"], nc=1)
    assert optim.config.name == golden["optimizer"]
    assert type(optim.torch).__name__ == golden["optimizer"]
    ours = [
        (
            len(group["params"]),
            sum(parameter.numel() for parameter in group["params"]),
            group["weight_decay"],
            group["lr"],
            group["role"],
        )
        for group in optim.torch.param_groups
    ]
    expected = [
        (group["n"], group["values"], group["weight_decay"], group["initial_lr"], ROLES[group["role"]])
        for group in golden["groups"]
    ]
    assert ours == expected


def test_every_parameter_is_in_one_group(network: PoseModel) -> None:
    grouped = [id(parameter) for group in parameter_groups(network, 0.1) for parameter in group["params"]]
    assert sorted(grouped) == sorted(id(parameter) for parameter in network.parameters())


def test_backbone_and_neck_learn_slower(network: PoseModel) -> None:
    optim = make_optimizer(network, TrainOptions(lr_backbone=0.25, lr_keypoints=3.0), images=100, nc=1)
    gains = {
        id(parameter): group.get("gain", 1.0) for group in optim.torch.param_groups for parameter in group["params"]
    }
    for name, parameter in network.named_parameters():
        layer = int(name.split(".")[1])  # 0…10 backbone, 11…22 neck, 23 head
        is_last = name.startswith("model.23.cv4.") and name.split(".")[4] == "2"
        assert gains[id(parameter)] == (0.25 if layer <= 10 else 0.5 if layer <= 22 else 3.0 if is_last else 1.0), name


@pytest.mark.parametrize(
    ("images", "batch", "epochs", "name"),
    [
        (64_000, 16, 10, "AdamW"),  # 1000 · 10 = 10 000: not more than 10 000
        (64_001, 16, 10, "SGD"),  # a part of a batch counts
        (64_001, 128, 19, "AdamW"),  # batches above the nominal one count as they are: 501 · 19
        (64_001, 128, 20, "SGD"),
    ],
)
def test_auto_depends_on_the_length_of_the_run(images: int, batch: int, epochs: int, name: str) -> None:
    choice = choose_optimizer(TrainOptions(batch=batch, epochs=epochs, lr0=0.5, momentum=0.1), images=images, nc=80)
    lr = {"SGD": 0.01, "AdamW": 0.000119}[name]
    assert (choice.name, choice.lr, choice.momentum, choice.warmup_bias_lr) == (name, lr, 0.9, 0.0)


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW", "NAdam", "RAdam", "Adamax", "RMSProp"])
def test_named_optimizers_use_their_hyperparameters_and_train(name: str) -> None:
    model = small()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    optim = made(model, optimizer=name, lr0=0.02, momentum=0.8, warmup_bias_lr=0.3)
    assert type(optim.torch).__name__.removeprefix("Fused").lower() == name.lower()
    assert optim.config.warmup_bias_lr == 0.3
    for group in optim.torch.param_groups:
        assert group["lr"] == 0.02
        assert group["momentum"] == 0.8 if "momentum" in group else group["betas"] == (0.8, 0.999)
    train(model, optim, 2)
    changed = {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    assert changed == {"conv.weight", "conv.bias", "norm.weight", "norm.bias"}


def test_sgd_is_nesterov_and_decays_only_weights() -> None:
    model, lr, momentum, decay = small(), 0.1, 0.5, 0.01
    optim = made(model, optimizer="SGD", lr0=lr, momentum=momentum, weight_decay=decay)
    expected = {name: value.detach().clone() for name, value in model.named_parameters()}
    buffers: dict[str, Tensor] = {}
    for i in range(3):
        for name, value in expected.items():
            if name == "fixed.weight":
                continue
            gradient = torch.cos(value * 3 + i) + (decay * value if name == "conv.weight" else 0)
            buffers[name] = momentum * buffers[name] + gradient if i else gradient.clone()
            expected[name] = value - lr * (gradient + momentum * buffers[name])
    train(model, optim, 3)
    for name, value in model.named_parameters():
        torch.testing.assert_close(value.detach(), expected[name])


@pytest.fixture
def spoiled_memory() -> Iterator[None]:
    """Memory that nobody has written to holds no numbers."""
    torch.use_deterministic_algorithms(True)
    assert torch.utils.deterministic.fill_uninitialized_memory
    assert torch.empty(1).isnan().all()
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("spoiled_memory")
@pytest.mark.parametrize("name", ["SGD", "AdamW"])
def test_a_skipped_first_step_changes_nothing(name: str) -> None:
    states: list[dict[str, Tensor]] = []
    for left_out in (1, 0):
        model = small()
        optim = made(model, optimizer=name, lr0=0.1)
        for parameter in model.parameters():
            parameter.grad = torch.cos(parameter.detach())
        for fine in [False] * left_out + [True, True]:
            _step_if(optim.torch, torch.tensor(fine))
        states.append(model.state_dict())
    for key, value in states[1].items():
        torch.testing.assert_close(states[0][key], value, msg=key, rtol=0, atol=0 if name == "SGD" else 1e-6)


@pytest.mark.parametrize(("batch", "nbs", "decay"), [(16, 64, 0.5), (24, 64, 0.5625), (100, 64, 0.78125), (1, 64, 0.5)])
def test_decay_is_scaled_to_the_accumulated_batch(batch: int, nbs: int, decay: float) -> None:
    optim = made(small(), optimizer="SGD", batch=batch, nbs=nbs, weight_decay=0.5)
    assert optim.weight_decay == decay
    assert [group["weight_decay"] for group in optim.torch.param_groups] == [decay, 0, 0]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"optimizer": "AdanW"}, "Did you mean 'AdamW'"),
        ({"optimizer": "Adam", "momentum": 1.0}, "below 1"),
        ({"batch": -1}, "batch=-1"),
        ({"batch": 0.6}, "batch=0.6"),
        ({"batch": 2.5}, "batch=2.5"),
    ],
)
def test_refuses_bad_options(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        made(small(), **options)


def test_resolved_batch_accepts_an_integral_float() -> None:
    assert resolved_batch(TrainOptions(batch=16.0)) == 16


@pytest.mark.parametrize("name", ["SGD", "MuSGD", "AdamW", "RAdam", "RMSProp"])
def test_state_continues_from_a_checkpoint(tmp_path: Path, name: str) -> None:
    whole, model = small(), small()
    train(whole, made(whole, optimizer=name), 5)
    optim = made(model, optimizer=name)
    train(model, optim, 3)
    path = tmp_path / "last.pt"
    write_checkpoint(path, Checkpoint(state=model.state_dict(), extra={"optimizer": optim.state_dict()}))

    found, again = read_checkpoint(path), small(seed=1)
    again.load_state_dict(found.state)
    resumed = made(again, optimizer=name, lr0=0.01)
    resumed.load_state_dict(found.extra["optimizer"])
    train(again, resumed, 2, start=3)
    for key, value in whole.state_dict().items():
        torch.testing.assert_close(again.state_dict()[key], value, rtol=0, atol=0)


def test_refuses_the_state_of_another_optimizer_or_network() -> None:
    model = small()
    optim = made(model, optimizer="SGD")
    train(model, optim, 1)
    state = optim.state_dict()
    with pytest.raises(WeightsError, match="optimizer=SGD, and this run uses Adam"):
        made(small(), optimizer="Adam").load_state_dict(state)
    with pytest.raises(WeightsError, match="another number of parameters"):
        made(small().conv, optimizer="SGD").load_state_dict(state)
    wider = small()
    wider.conv = nn.Conv2d(2, 4, 1)
    with pytest.raises(WeightsError, match="other shapes"):
        made(wider, optimizer="SGD").load_state_dict(state)
    with pytest.raises(WeightsError, match="optimizer=None"):
        made(small(), optimizer="SGD").load_state_dict({})


def test_summary_contains_the_hyperparameters() -> None:
    text = str(made(small(), optimizer="SGD", batch=64))
    assert text == "SGD(lr=0.01, momentum=0.937, decay=0.0005): 2 weight, 1 norm, 2 bias"
