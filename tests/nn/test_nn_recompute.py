from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from yolopose.nn import conv, recompute
from yolopose.nn.conv import Conv


def train_step(unit: Conv, x: Tensor) -> tuple[Tensor, ...]:
    """Return output, gradients and statistics of a step."""
    x = x.clone().requires_grad_()
    output = unit(x)
    (output.float() * torch.linspace(-1, 1, output.numel()).view_as(output)).sum().backward()
    gradients = [parameter.grad for parameter in unit.parameters() if parameter.grad is not None]
    assert x.grad is not None
    return output.detach(), x.grad, *gradients, *unit.buffers()


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("autocast", [False, True])
def test_output_gradients_and_statistics_match_torch(frozen, order, autocast, monkeypatch) -> None:
    torch.manual_seed(0)
    unit = Conv(6, 8, 3).to(memory_format=order)
    nn.init.uniform_(unit.bn.weight)
    nn.init.normal_(unit.bn.bias)
    if frozen:
        unit.conv.weight.requires_grad_(False)
    x = torch.randn(3, 6, 10, 12).contiguous(memory_format=order)
    plain = copy.deepcopy(unit)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        result = train_step(unit, x)
        monkeypatch.setattr(conv, "batch_norm_silu", lambda *_: None)
        expected = train_step(plain, x)
    assert len(result) == len(expected) == (7 if frozen else 8)
    for one, two in zip(result, expected, strict=True):
        off = (one.float() - two.float()).abs().max() / two.float().abs().max().clamp(min=1)
        assert off < (0.02 if autocast else 1e-5)


def test_input_of_silu_is_not_saved() -> None:
    saved: list[Tensor] = []
    unit, x = Conv(4, 8, 3), torch.randn(2, 4, 16, 16)
    with torch.autograd.graph.saved_tensors_hooks(
        lambda tensor: (saved.append(tensor), tensor)[1], lambda saved: saved
    ):
        unit(x)
    assert sum(tensor.numel() == 2 * 8 * 16 * 16 for tensor in saved) == 1  # the input of the norm


@pytest.mark.parametrize("how", ["eval", "frozen norm", "no gradient", "other activation"])
def test_unsupported_cases_call_the_modules(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
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


def count_saved(units: nn.Module, x: Tensor, **where: bool) -> tuple[int, tuple[Tensor, ...]]:
    """Count the distinct saved maps of the size of x in a step; return also output and gradients."""
    addresses: set[int] = set()
    original = torch.autograd.graph.saved_tensors_hooks

    class Counted(original):
        def __init__(self, pack, unpack) -> None:
            def packed(tensor: Tensor):
                saved = pack(tensor)
                held = saved if isinstance(saved, Tensor) else saved.x
                addresses.update([held.untyped_storage().data_ptr()] if held.numel() == x.numel() else [])
                return saved

            super().__init__(packed, unpack)

    units.zero_grad()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.autograd.graph, "saved_tensors_hooks", Counted)
        given = x.clone().requires_grad_()
        if where.get("lean", True):
            with recompute.recompute_saved_maps():
                output = units(given)
        else:
            with Counted(lambda one: one, lambda one: one):
                output = units(given)
    count = len(addresses)
    output.square().sum().backward()
    assert given.grad is not None
    return count, (
        output.detach(),
        given.grad,
        *[one.grad.clone() for one in units.parameters() if one.grad is not None],
    )


class InPlaceDouble(nn.Module):
    """Changes its input in place, so that its recipe is wrong."""

    def forward(self, x: Tensor) -> Tensor:
        x.detach().mul_(2)
        return x


@pytest.fixture
def any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recompute, "MIN_BYTES", 0)


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
@pytest.mark.usefixtures("any_size")
def test_input_of_the_next_layer_is_recomputed(order) -> None:
    torch.manual_seed(0)
    units = nn.Sequential(*(Conv(4, 4, 3) for _ in range(5))).to(memory_format=order)
    x = torch.randn(2, 4, 16, 16).contiguous(memory_format=order)
    few, result = count_saved(units, x)
    many, expected = count_saved(units, x, lean=False)
    assert (few, many) == (1 + 5, 1 + 5 + 4)  # input; inputs of norms; inputs of all but the first layer
    for one, two in zip(result, expected, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "between", [nn.Identity, InPlaceDouble, lambda: nn.MaxPool2d(1)], ids=["unchanged", "changed in place", "copied"]
)
@pytest.mark.usefixtures("any_size")
def test_changed_map_is_saved(between) -> None:
    torch.manual_seed(0)
    units = nn.Sequential(Conv(4, 4, 3), between(), Conv(4, 4, 3))
    x = torch.randn(2, 4, 16, 16)
    for one, two in zip(count_saved(units, x)[1], count_saved(units, x, lean=False)[1], strict=True):
        torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("any_size")
def test_reused_address_of_a_freed_map_is_saved() -> None:
    units = nn.Sequential(Conv(4, 4, 3), nn.AvgPool2d(1), Conv(4, 4, 3))
    with recompute.recompute_saved_maps():
        recipes = recompute._RECIPES.get()
        assert recipes is not None
        y = units[0](torch.randn(2, 4, 8, 8))
        address, saved = y.data_ptr(), recipes.pack(y.detach())
        assert not isinstance(saved, Tensor)
        other = torch.empty(0).set_(y.untyped_storage(), 0, y.shape, y.stride())
        del y
        assert other.data_ptr() == address
        assert isinstance(recipes.pack(other), Tensor)


def test_small_maps_and_all_maps_outside_the_context_are_saved() -> None:
    units, x = nn.Sequential(Conv(4, 4, 3), Conv(4, 4, 3)), torch.randn(2, 4, 16, 16)
    assert count_saved(units, x)[0] == count_saved(units, x, lean=False)[0] == 4
    assert recompute._RECIPES.get() is None
