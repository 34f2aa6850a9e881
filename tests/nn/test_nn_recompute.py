from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from yolopose.nn import conv, recompute
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


def kept_by(units: nn.Module, x: Tensor, **where: bool) -> tuple[int, tuple[Tensor, ...]]:
    """How many maps of the size of x are kept of a step, each counted once; output and gradients."""
    places: set[int] = set()
    honest = torch.autograd.graph.saved_tensors_hooks

    class Counted(honest):
        def __init__(self, pack, unpack) -> None:
            def packed(tensor: Tensor):
                kept = pack(tensor)
                held = kept if isinstance(kept, Tensor) else kept.x
                places.update([held.untyped_storage().data_ptr()] if held.numel() == x.numel() else [])
                return kept

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
    count = len(places)
    output.square().sum().backward()
    assert given.grad is not None
    return count, (
        output.detach(),
        given.grad,
        *[one.grad.clone() for one in units.parameters() if one.grad is not None],
    )


class Doubled(nn.Module):
    """Changes its input in place, so that it is not the map any more that was made."""

    def forward(self, x: Tensor) -> Tensor:
        x.detach().mul_(2)
        return x


@pytest.fixture
def any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recompute, "LEAST", 0)


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
@pytest.mark.usefixtures("any_size")
def test_what_the_next_layer_reads_is_made_again(order) -> None:
    torch.manual_seed(0)
    units = nn.Sequential(*(Conv(4, 4, 3) for _ in range(5))).to(memory_format=order)
    x = torch.randn(2, 4, 16, 16).contiguous(memory_format=order)
    few, found = kept_by(units, x)
    many, expected = kept_by(units, x, lean=False)
    assert (few, many) == (1 + 5, 1 + 5 + 4)  # the input, what each norm reads, what each but the first layer reads
    for one, two in zip(found, expected, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "between", [nn.Identity, Doubled, lambda: nn.MaxPool2d(1)], ids=["nothing", "changed", "copied"]
)
@pytest.mark.usefixtures("any_size")
def test_a_map_that_was_changed_is_kept(between) -> None:
    torch.manual_seed(0)
    units = nn.Sequential(Conv(4, 4, 3), between(), Conv(4, 4, 3))
    x = torch.randn(2, 4, 16, 16)
    for one, two in zip(kept_by(units, x)[1], kept_by(units, x, lean=False)[1], strict=True):
        torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("any_size")
def test_the_place_of_a_map_that_is_gone_may_hold_another() -> None:
    units = nn.Sequential(Conv(4, 4, 3), nn.AvgPool2d(1), Conv(4, 4, 3))
    with recompute.recompute_saved_maps():
        known = recompute._KNOWN.get()
        assert known is not None
        y = units[0](torch.randn(2, 4, 8, 8))
        place, kept = y.data_ptr(), known.kept(y.detach())
        assert not isinstance(kept, Tensor)
        other = torch.empty(0).set_(y.untyped_storage(), 0, y.shape, y.stride())
        del y
        assert other.data_ptr() == place
        assert isinstance(known.kept(other), Tensor)


def test_small_maps_are_kept_and_outside_all_are() -> None:
    units, x = nn.Sequential(Conv(4, 4, 3), Conv(4, 4, 3)), torch.randn(2, 4, 16, 16)
    assert kept_by(units, x)[0] == kept_by(units, x, lean=False)[0] == 4
    assert recompute._KNOWN.get() is None
