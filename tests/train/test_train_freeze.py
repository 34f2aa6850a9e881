"""Frozen layers: which parameters train, and that nothing of a frozen layer moves."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from yolopose.base.errors import UsageError
from yolopose.config import TrainOptions
from yolopose.nn import HeadOutput, PoseModel, build_network
from yolopose.train.optimizer import freeze_layers, make_optimizer


@pytest.fixture
def network() -> PoseModel:
    """Four layers; the last is the head."""
    torch.manual_seed(0)
    source: dict[str, Any] = {
        "nc": 1,
        "kpt_shape": [3, 2],
        "backbone": [[-1, 1, "Conv", [8, 3, 2]], [-1, 1, "Conv", [8, 3, 2]], [-1, 1, "Conv", [8, 3, 1]]],
        "head": [[[2], 1, "Pose", ["nc", "kpt_shape"]]],
    }
    return build_network(source)


def trained(model: PoseModel) -> set[int]:
    return {int(name.split(".")[1]) for name, value in model.named_parameters() if value.requires_grad}


@pytest.mark.parametrize(
    ("freeze", "layers"),
    [(None, ()), (0, ()), ([], ()), (2, (0, 1)), ([2, 0], (0, 2)), ((1, 1), (1,)), ([3], (3,))],
)
def test_freezes_the_given_layers(network: PoseModel, freeze: Any, layers: tuple[int, ...]) -> None:
    network.requires_grad_(False)  # an earlier choice is forgotten
    frozen = freeze_layers(network, freeze)
    assert frozen.layers == layers
    assert trained(network) == {0, 1, 2, 3} - set(layers)
    assert not network.head.dfl.conv.weight.requires_grad


@pytest.mark.parametrize("freeze", [2, [0, 3]])
def test_frozen_layers_do_not_change(network: PoseModel, freeze: Any) -> None:
    frozen = freeze_layers(network, freeze)
    optim = make_optimizer(network, TrainOptions(optimizer="SGD", weight_decay=0.1), images=4, nc=1)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    network.train()
    frozen.set_norms_to_eval()
    output = network(torch.rand(2, 3, 32, 32))
    assert isinstance(output, HeadOutput)  # a frozen head still speaks as in training
    (output.boxes.square().mean() + output.scores.square().mean() + output.kpts.square().mean()).backward()
    optim.torch.step()
    moved = {
        int(name.split(".")[1]) for name, value in network.state_dict().items() if not torch.equal(value, before[name])
    }
    assert moved == {0, 1, 2, 3} - set(frozen.layers)


@pytest.mark.parametrize(
    ("freeze", "words"),
    [
        (5, "the network has 4"),
        (-1, "not a valid number of layers"),
        ([1, 4], "layer 4 does not exist"),
        ([-1], "layer -1 does not exist"),
        (4, "leaves no layer to train"),
        ([0, 1, 2, 3], "leaves no layer to train"),
    ],
)
def test_refuses_impossible_layers(network: PoseModel, freeze: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        freeze_layers(network, freeze)
