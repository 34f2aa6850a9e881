"""Batch norm and SiLU for training on the CPU with fewer saved tensors.

Autograd saves the input of the batch norm, the input of SiLU, and the output, which the next layer reads. The input of
SiLU is an affine function of the input of the norm, so `batch_norm_silu` recomputes it in the backward pass; that is
faster than saving it. Within `recompute_saved_maps` the next layer saves how its input is recomputed instead of the
input itself, which costs one more SiLU in the backward pass. On GPUs torch's own kernels are used.
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

MIN_BYTES = 4 * 2**20
"""Size from which a map is recomputed instead of saved; for smaller ones recomputing costs more than it saves."""


@dataclass(frozen=True, slots=True, eq=False)
class _Recipe:
    """Recomputes a map: SiLU(x · gain + shift) by channel."""

    x: Tensor
    gain: Tensor
    shift: Tensor

    def __call__(self) -> Tensor:
        return nn.functional.silu(self.normalized(), inplace=True)

    def normalized(self) -> Tensor:
        return torch.addcmul(self.shift[:, None, None], self.x, self.gain[:, None, None]).to(self.x.dtype)


class _RecipeTable:
    """Recipes of the maps of a forward pass, by memory address."""

    def __init__(self) -> None:
        self._recipes: dict[int, tuple[weakref.ref[Tensor], int, _Recipe]] = {}

    def add(self, output: Tensor, recipe: _Recipe) -> None:
        self._recipes[output.data_ptr()] = weakref.ref(output), output._version, recipe

    def pack(self, tensor: Tensor) -> Tensor | _Recipe:
        """Return what autograd saves for a tensor: its recipe if it is exactly a recorded map, else the tensor."""
        entry = self._recipes.get(tensor.data_ptr())
        if entry is None:
            return tensor
        reference, version, recipe = entry
        output = reference()
        # the map may be freed and its address reused, and an in-place change makes the recipe wrong
        is_recorded = (
            output is not None
            and output.shape == tensor.shape
            and output.stride() == tensor.stride()
            and output.dtype == tensor.dtype
            and tensor._version == version
        )
        return recipe if is_recorded else tensor


_RECIPES: ContextVar[_RecipeTable | None] = ContextVar("_RECIPES", default=None)


@contextmanager
def recompute_saved_maps() -> Generator[None, None, None]:
    """Make layers save how outputs of `batch_norm_silu` are recomputed instead of the outputs."""
    recipes = _RecipeTable()
    token = _RECIPES.set(recipes)

    def unpack(saved: Tensor | _Recipe) -> Tensor:
        return saved() if isinstance(saved, _Recipe) else saved

    try:
        with torch.autograd.graph.saved_tensors_hooks(recipes.pack, unpack):
            yield
    finally:
        _RECIPES.reset(token)


def batch_norm_silu(norm: nn.BatchNorm2d, act: nn.Module, x: Tensor) -> Tensor | None:
    """Apply batch norm and activation to (B, C, H, W); None where the modules must be called instead."""
    supported = type(norm) is nn.BatchNorm2d and type(act) is nn.SiLU and x.device.type == "cpu"
    if not (supported and norm.training and torch.is_grad_enabled() and norm.affine and norm.running_mean is not None):
        return None
    tracing = torch.jit.is_tracing()  # pyright: ignore[reportPrivateImportUsage]  # documented, yet not in __all__
    if norm.momentum is None or torch.compiler.is_compiling() or tracing:
        return None
    if norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
    outputs = _BatchNormSiLU.apply(
        x, norm.weight, norm.bias, norm.running_mean, norm.running_var, norm.momentum, norm.eps
    )
    y, batch_mean, inv_std = cast(tuple[Tensor, Tensor, Tensor], outputs)
    recipes = _RECIPES.get()
    if recipes is not None and y.nbytes >= MIN_BYTES:
        recipes.add(y, _make_recipe(x.detach(), norm.weight.detach(), norm.bias.detach(), batch_mean, inv_std))
    return y


def _make_recipe(x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, inv_std: Tensor) -> _Recipe:
    gain = weight * inv_std
    return _Recipe(x, gain, bias - mean * gain)


class _BatchNormSiLU(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, var: Tensor, momentum: float, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        ctx.eps = eps
        y, batch_mean, inv_std = torch.native_batch_norm(x, weight, bias, mean, var, True, momentum, eps)
        ctx.save_for_backward(x, weight, bias, batch_mean, inv_std)
        ctx.mark_non_differentiable(batch_mean, inv_std)
        return nn.functional.silu(y, inplace=True), batch_mean, inv_std

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, weight, bias, mean, inv_std = ctx.saved_tensors
        y = _make_recipe(x, weight, bias, mean, inv_std).normalized()
        torch.ops.aten.silu_backward.grad_input(gradient.to(x.dtype), y, grad_input=y)
        gradients = torch.ops.aten.native_batch_norm_backward(
            y, x, weight, None, None, mean, inv_std, True, ctx.eps, list(ctx.needs_input_grad[:3])
        )
        return (*gradients, None, None, None, None)
