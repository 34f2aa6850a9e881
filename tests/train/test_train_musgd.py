"""MuSGD against a plain form of its definition."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from yolopose.config import TrainOptions
from yolopose.nn import build_network
from yolopose.train.musgd import MuSGD, orthogonalize
from yolopose.train.optimizer import make_optimizer
from yolopose.train.schedule import make_schedule


def newton_schulz(matrix: Tensor) -> Tensor:
    """One matrix in doubles, by the polynomial of its singular values."""
    u, s, v = torch.linalg.svd(matrix.double() / matrix.double().norm(), full_matrices=False)
    for _ in range(5):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    return ((u * s) @ v).float()


@pytest.mark.parametrize("shape", [(8, 8), (5, 40), (40, 5), (1, 9), (6, 1)])
def test_orthogonalizes_singular_values(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    matrices = torch.randn(3, *shape)
    found = orthogonalize(matrices)
    torch.testing.assert_close(found, torch.stack([newton_schulz(one) for one in matrices]), rtol=1e-3, atol=1e-4)
    spread = torch.linalg.svdvals(found)
    assert 0.3 < spread.min() <= spread.max() < 1.3
    assert torch.isfinite(orthogonalize(torch.zeros(1, 4, 4))).all()


def test_steps_follow_the_definition() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(2, 6))
    lr, beta, decay = 0.1, 0.9, 0.01
    values = {name: value.detach().clone() for name, value in model.named_parameters()}
    slow, fast = ({name: torch.zeros_like(value) for name, value in values.items()} for _ in range(2))
    optim = MuSGD([{"params": list(model.parameters()), "weight_decay": decay}], lr, beta)
    for i in range(3):
        for parameter in model.parameters():
            parameter.grad = torch.cos(parameter.detach() * 3 + i)
        for name, value in values.items():
            gradient = torch.cos(value * 3 + i)
            decayed = gradient + decay * value
            slow[name] = beta * slow[name] + decayed if i else decayed
            step = lr * (decayed + beta * slow[name])
            if value.ndim > 1:
                fast[name] = beta * fast[name] + (1 - beta) * gradient
                ahead = beta * fast[name] + (1 - beta) * gradient
                rows, columns = value.shape[-2:]
                scale = max(1, rows / columns) ** 0.5
                step = step + lr * 0.2 * scale * newton_schulz(ahead.flatten(1)).view_as(value)
            values[name] = value - step
        optim.step()
    for name, value in model.named_parameters():
        torch.testing.assert_close(value.detach(), values[name], rtol=1e-3, atol=1e-4)


def test_class_branches_learn_three_times_as_fast() -> None:
    network = build_network("yolo26n-pose.yaml", nc=1)
    options = TrainOptions(optimizer="MuSGD", lr0=0.02, warmup_epochs=0.0)
    optim = make_optimizer(network, options, images=73, nc=1)
    make_schedule(options, optim.config, 5).apply(optim.torch, 0)
    groups = optim.torch.param_groups
    assert [group["lr"] for group in groups] == pytest.approx([0.02] * 3 + [0.06] * 3)
    assert [group["role"] for group in groups] == ["weight", "norm", "bias"] * 2
    quick = {id(parameter) for group in groups[3:] for parameter in group["params"]}
    named = {name.split(".")[2] for name, value in network.named_parameters() if id(value) in quick}
    assert named == {"cv3", "one2one_cv3"}
    assert sum(len(group["params"]) for group in groups) == len(list(network.parameters()))
