from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from yolopose.nn import conv
from yolopose.nn.conv import Conv


def learned(unit: Conv, x: Tensor) -> tuple[Tensor, ...]:
    """Output, gradients and statistics of a step."""
    x = x.clone().requires_grad_()
    output = unit(x)
    (output.float() * torch.linspace(-1, 1, output.numel()).view_as(output)).sum().backward()
    gradients = [parameter.grad for parameter in unit.parameters() if parameter.grad is not None]
    assert x.grad is not None
    return output.detach(), x.grad, *gradients, *unit.buffers()


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("autocast", [False, True])
def test_norm_and_activation_learn_as_torch_has_them(frozen, order, autocast, monkeypatch) -> None:
    torch.manual_seed(0)
    unit = Conv(6, 8, 3).to(memory_format=order)
    nn.init.uniform_(unit.bn.weight)
    nn.init.normal_(unit.bn.bias)
    if frozen:
        unit.conv.weight.requires_grad_(False)
    x = torch.randn(3, 6, 10, 12).contiguous(memory_format=order)
    plain = copy.deepcopy(unit)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        found = learned(unit, x)
        monkeypatch.setattr(conv, "norm_silu", lambda *_: None)
        expected = learned(plain, x)
    assert len(found) == len(expected) == (7 if frozen else 8)
    for one, two in zip(found, expected, strict=True):
        off = (one.float() - two.float()).abs().max() / two.float().abs().max().clamp(min=1)
        assert off < (0.02 if autocast else 1e-5)


def test_one_map_less_is_kept() -> None:
    kept: list[Tensor] = []
    unit, x = Conv(4, 8, 3), torch.randn(2, 4, 16, 16)
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: (kept.append(tensor), tensor)[1], lambda kept: kept):
        unit(x)
    assert sum(tensor.numel() == 2 * 8 * 16 * 16 for tensor in kept) == 1  # what the norm reads


@pytest.mark.parametrize("how", ["eval", "frozen norm", "no gradient", "other activation"])
def test_all_else_goes_the_ordinary_way(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    unit, x, called = Conv(4, 8, 3), torch.randn(2, 4, 16, 16), []
    if how == "eval":
        unit.eval()
    elif how == "frozen norm":
        unit.bn.eval()
    elif how == "other activation":
        unit.act = nn.ReLU()
    unit.bn.register_forward_hook(lambda *_: called.append(1))
    with torch.set_grad_enabled(how != "no gradient"):
        unit(x)
    assert called == [1]
