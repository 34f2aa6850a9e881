"""Batch norm and SiLU in training with one map less in memory.

Both keep their input for the way back, and a third copy is what the next layer keeps. The input of SiLU follows from
that of the norm by one multiplication and addition, so it is computed again on the way back instead: a third less
memory for the maps of a step, in about the same time. On GPUs torch's own kernels are left to it.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


def norm_silu(norm: nn.BatchNorm2d, act: nn.Module, x: Tensor) -> Tensor | None:
    """Applies norm and activation; None where they are to be called in the ordinary way.

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
    return cast(
        Tensor,
        _NormSilu.apply(x, norm.weight, norm.bias, norm.running_mean, norm.running_var, norm.momentum, norm.eps),
    )


class _NormSilu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, var: Tensor, *how: float) -> Tensor:
        momentum, ctx.eps = how
        y, batch_mean, scale = torch.native_batch_norm(x, weight, bias, mean, var, True, momentum, ctx.eps)
        ctx.save_for_backward(x, weight, bias, batch_mean, scale)
        return nn.functional.silu(y, inplace=True)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, weight, bias, mean, scale = ctx.saved_tensors
        gain = weight * scale
        shift = bias - mean * gain
        y = torch.addcmul(shift[:, None, None], x, gain[:, None, None]).to(x.dtype)
        torch.ops.aten.silu_backward.grad_input(gradient.to(x.dtype), y, grad_input=y)
        found = torch.ops.aten.native_batch_norm_backward(
            y, x, weight, None, None, mean, scale, True, ctx.eps, list(ctx.needs_input_grad[:3])
        )
        return (*found, None, None, None, None)
