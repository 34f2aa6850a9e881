"""Blocks against golden values: attention scale, softmax axis and residual forms, which whole networks hide."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from nn_golden import fill
from torch import nn

from yolopose.base.errors import ModelError
from yolopose.nn.attention import C2PSA, AAttn, ABlock, Attention, PSABlock
from yolopose.nn.blocks import C3, SPPF, A2C2f, Bottleneck, C2f, C3k, C3k2
from yolopose.nn.conv import DFL, Conv, DWConv

GOLDEN: dict[str, tuple[Callable[[], nn.Module], float]] = {
    "Attention(128,heads=2)": (lambda: Attention(128, 2), 3),
    "PSABlock(128,heads=2)": (lambda: PSABlock(128, heads=2), 6),
    "C2PSA(128,128,n=1)": (lambda: C2PSA(128, 128, 1), 6),
    "AAttn(64,heads=2,area=4)": (lambda: AAttn(64, 2, 4), 6),
    "AAttn(128,heads=4,area=1)": (lambda: AAttn(128, 4, 1), 6),
    "A2C2f(64,64,n=1,a2=True,area=4,residual=True,mlp_ratio=1.2)": (lambda: A2C2f(64, 64, 1, True, 4, True, 1.2), 3),
    "A2C2f(64,64,n=1,a2=False)": (lambda: A2C2f(64, 64, 1, False, -1), 3),
    "SPPF(64,64,5,3,True)": (lambda: SPPF(64, 64, 5, 3, True), 3),
    "C3k2(64,64,n=1,c3k=True,e=.5,attn=True)": (lambda: C3k2(64, 64, 1, True, 0.5, True), 6),
    "C3k2(64,64,n=1,c3k=True)": (lambda: C3k2(64, 64, 1, True), 3),
    "C3k2(64,64,n=1,c3k=False,e=.25)": (lambda: C3k2(64, 64, 1, False, 0.25), 3),
}


@pytest.fixture(params=["excerpt", "full"])
def golden(request: pytest.FixtureRequest) -> tuple[Mapping[str, np.ndarray], int]:
    """Golden outputs by block, and the step between their channels."""
    if request.param == "excerpt":
        return np.load(Path(__file__).parents[1] / "fixtures" / "blocks.npz"), 4
    return np.load(request.getfixturevalue("shared") / "fixtures" / "blocks.npz"), 1


def test_every_golden_block_is_compared(golden: tuple[Mapping[str, np.ndarray], int]) -> None:
    assert set(golden[0]) == set(GOLDEN)


@pytest.mark.parametrize("name", GOLDEN)
def test_block_matches_golden(name: str, golden: tuple[Mapping[str, np.ndarray], int]) -> None:
    want, step = golden[0][name], golden[1]
    make, gain = GOLDEN[name]
    block = fill(make(), gain).eval()
    shape = (1, len(want) * step, *want.shape[1:])
    values = np.sin(0.37 * np.arange(want.size * step) ** 2 % 6283).astype(np.float32)
    with torch.no_grad():
        got = block(torch.from_numpy(values).view(shape))[0, ::step].numpy()
    assert np.abs(got - want).max() < 1e-5 * np.abs(want).max()


@pytest.mark.parametrize(
    ("make", "channels"),
    [
        (lambda: Bottleneck(16, 24), 24),
        (lambda: C2f(16, 24, 2, True), 24),
        (lambda: C3(16, 24, 2), 24),
        (lambda: C3k(16, 24, 2), 24),
        (lambda: SPPF(16, 24), 24),
        (lambda: DWConv(16, 24, 3), 24),
        (lambda: A2C2f(16, 64, 1, True, 4), 64),
        (lambda: A2C2f(16, 24, 2, False), 24),
        (lambda: ABlock(16, 2), 16),
    ],
)
def test_block_has_output_channels_and_gradients(make: Callable[[], nn.Module], channels: int) -> None:
    block = make()
    x = torch.randn(2, 16, 8, 6, requires_grad=True)
    y = block(x)
    y.square().mean().backward()
    assert y.shape == (2, channels, 8, 6)
    assert x.grad is not None
    assert x.grad.abs().sum() > 0
    assert all(parameter.grad is not None for parameter in block.parameters())


@pytest.mark.parametrize(("size", "k", "s", "d"), [(9, 3, 2, 1), (8, 1, 1, 1), (8, 5, 1, 1), (8, 3, 1, 2)])
def test_conv_padding_keeps_size_divided_by_stride(size: int, k: int, s: int, d: int) -> None:
    assert Conv(3, 8, k, s, d=d)(torch.zeros(2, 3, size, size)).shape[2:] == (-(-size // s),) * 2


def test_sppf_with_a_pool_count_has_no_first_activation() -> None:
    assert isinstance(SPPF(16, 16, 5).cv1.act, nn.SiLU)
    assert isinstance(SPPF(16, 16, 5, 3).cv1.act, nn.Identity)


def test_area_attention_stays_within_an_area() -> None:
    block = fill(AAttn(32, 1, 4), 6).eval()
    block.pe = nn.Identity()  # only the position encoding reaches across areas
    block.pe.forward = torch.zeros_like  # type: ignore[method-assign]
    x = torch.randn(1, 32, 8, 8)
    y = block(x)
    x[..., 2:4, :] += 1  # the second of four areas of two rows
    changed = (block(x) - y).abs().amax((0, 1, 3)) > 1e-6
    assert changed.tolist() == [False] * 2 + [True] * 2 + [False] * 4


def test_dfl_is_the_expectation_and_is_not_trained() -> None:
    dfl = DFL(16)
    logits = torch.randn(2, 64, 7)
    share = logits.view(2, 4, 16, 7).softmax(2)
    want = (share * torch.arange(16.0).view(16, 1)).sum(2)
    torch.testing.assert_close(dfl(logits), want)
    assert not any(parameter.requires_grad for parameter in dfl.parameters())


def test_dfl_computes_in_float32_under_autocast() -> None:
    dfl, logits = DFL(16), torch.randn(1, 64, 50)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(dfl(logits), dfl(logits.double().float()), rtol=0, atol=0)
        assert dfl(logits).dtype == torch.float32
    torch.testing.assert_close(dfl.half()(logits), DFL(16)(logits), rtol=0, atol=0)


@pytest.mark.parametrize("make", [lambda: Conv(8, 16, 3, 2), lambda: DWConv(8, 16, 3), lambda: Conv(8, 8, act=False)])
def test_fusing_a_conv_keeps_its_output(make: Callable[[], Conv]) -> None:
    conv = fill(make(), 3).eval()
    x = torch.randn(2, 8, 9, 9)
    before = conv(x)
    conv.fuse()
    conv.fuse()
    assert conv.bn is None
    torch.testing.assert_close(conv(x), before, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "make",
    [
        lambda: C2PSA(64, 128),
        lambda: Attention(100, 3),
        lambda: Conv(0, 8),
        lambda: Conv(8, 9, g=2),
        lambda: AAttn(100, 3),
        lambda: A2C2f(64, 48),
        lambda: A2C2f(32, 64, residual=True),
    ],
)
def test_impossible_channels_raise_model_error(make: Callable[[], nn.Module]) -> None:
    with pytest.raises(ModelError):
        make()
