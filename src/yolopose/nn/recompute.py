"""Batch norm and SiLU in training with fewer maps in memory.

Both keep their input for the way back, and a third copy is what the next layer keeps. The input of SiLU follows from
that of the norm by one multiplication and addition, so it is computed again on the way back instead. So is, within
`recompute_saved_maps`, what the next layer keeps, if it reads the very map. On GPUs torch's own kernels are left to it.
"""

from __future__ import annotations

import weakref
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

LEAST = 4 * 2**20
"""Bytes of a map from which on it is made again; smaller ones are cheaper kept."""


@dataclass(frozen=True, slots=True, eq=False)
class _Recipe:
    """How a map is made again: SiLU of x · gain + shift, channel by channel."""

    x: Tensor
    gain: Tensor
    shift: Tensor

    def __call__(self) -> Tensor:
        return nn.functional.silu(self.normed(), inplace=True)

    def normed(self) -> Tensor:
        return torch.addcmul(self.shift[:, None, None], self.x, self.gain[:, None, None]).to(self.x.dtype)


class _Known:
    """The maps of a forward pass that are still there, and how each is made."""

    def __init__(self) -> None:
        self._by_place: dict[int, tuple[weakref.ref[Tensor], int, _Recipe]] = {}

    def add(self, y: Tensor, recipe: _Recipe) -> None:
        self._by_place[y.data_ptr()] = weakref.ref(y), y._version, recipe

    def kept(self, tensor: Tensor) -> Tensor | _Recipe:
        """What to keep of a tensor that is needed on the way back."""
        found = self._by_place.get(tensor.data_ptr())
        if found is None:
            return tensor
        made, version, recipe = found
        y = made()  # gone: its place may hold another tensor by now
        same = y is not None and y.shape == tensor.shape and y.stride() == tensor.stride() and y.dtype == tensor.dtype
        return recipe if same and tensor._version == version else tensor


_KNOWN: ContextVar[_Known | None] = ContextVar("_KNOWN", default=None)


@contextmanager
def recompute_saved_maps() -> Generator[None, None, None]:
    """Within it, layers that read what `norm_silu` made keep how it is made instead of the map."""
    known = _Known()
    token = _KNOWN.set(known)

    def read(kept: Tensor | _Recipe) -> Tensor:
        return kept() if isinstance(kept, _Recipe) else kept

    try:
        with torch.autograd.graph.saved_tensors_hooks(known.kept, read):
            yield
    finally:
        _KNOWN.reset(token)


def norm_silu(norm: nn.BatchNorm2d, act: nn.Module, x: Tensor) -> Tensor | None:
    """Apply norm and activation; None where they are to be called in the ordinary way.

    Args:
        norm: the norm.
        act: what follows it.
        x: (B, C, H, W).
    """
    ours = type(norm) is nn.BatchNorm2d and type(act) is nn.SiLU and x.device.type == "cpu"
    if not (ours and norm.training and torch.is_grad_enabled() and norm.affine and norm.running_mean is not None):
        return None
    if norm.momentum is None or torch.compiler.is_compiling() or torch.jit.is_tracing():  # pyright: ignore[reportPrivateImportUsage]
        return None
    if norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
    made = _NormSilu.apply(x, norm.weight, norm.bias, norm.running_mean, norm.running_var, norm.momentum, norm.eps)
    y, batch_mean, scale = cast(tuple[Tensor, Tensor, Tensor], made)
    known = _KNOWN.get()
    if known is not None and y.nbytes >= LEAST:
        known.add(y, _recipe(x.detach(), norm.weight.detach(), norm.bias.detach(), batch_mean, scale))
    return y


def _recipe(x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, scale: Tensor) -> _Recipe:
    gain = weight * scale
    return _Recipe(x, gain, bias - mean * gain)


class _NormSilu(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, var: Tensor, *how: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        momentum, ctx.eps = how
        y, batch_mean, scale = torch.native_batch_norm(x, weight, bias, mean, var, True, momentum, ctx.eps)
        ctx.save_for_backward(x, weight, bias, batch_mean, scale)
        ctx.mark_non_differentiable(batch_mean, scale)
        return nn.functional.silu(y, inplace=True), batch_mean, scale

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, weight, bias, mean, scale = ctx.saved_tensors
        y = _recipe(x, weight, bias, mean, scale).normed()
        torch.ops.aten.silu_backward.grad_input(gradient.to(x.dtype), y, grad_input=y)
        found = torch.ops.aten.native_batch_norm_backward(
            y, x, weight, None, None, mean, scale, True, ctx.eps, list(ctx.needs_input_grad[:3])
        )
        return (*found, None, None, None, None)
