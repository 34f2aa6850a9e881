"""MuSGD: SGD plus a step along the orthogonalized momentum for matrices and convolution filters.

Muon (K. Jordan, 2024) replaces the momentum of a matrix by the nearest semi-orthogonal matrix, so that all directions
move at the same rate. It is approximated by five Newton-Schulz iterations, batched over matrices of one shape.
`torch.optim.Muon` accepts 2-D parameters only and has no SGD step beside it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD

MUON_GAIN = 0.2
"""Learning rate of the orthogonalized step, relative to that of SGD."""

_ITERATIONS = 5
_A, _B, _C = 3.4445, -4.7750, 2.0315  # coefficients of the quintic iteration, from Muon
_EPS = 1e-7
_BUFFER = "orthogonal_buffer"


class MuSGD(SGD):
    """SGD with Nesterov momentum, and a Muon step for parameters of two or more dimensions.

    Args:
        groups: parameter groups as of `torch.optim.SGD`; the learning rate of a group applies to both steps.
        lr: learning rate.
        momentum: of both steps.
        fused: use torch's fused SGD kernel.
    """

    def __init__(self, groups: list[dict[str, Any]], lr: float, momentum: float, fused: bool = False) -> None:
        super().__init__(groups, lr=lr, momentum=momentum, nesterov=momentum > 0, fused=fused or None)
        # GradScaler must check for overflows itself: the Muon step does not read `found_inf`
        self._step_supports_amp_scaling = False

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Update all parameters."""
        loss = super().step(closure)
        for group in self.param_groups:
            shapes: dict[tuple[int, int], list[Tensor]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None and parameter.ndim >= 2:
                    shapes[len(parameter), parameter[0].numel()].append(parameter)
            for parameters in shapes.values():
                self._muon_step(parameters, group["lr"], group["momentum"])
        return loss

    def _muon_step(self, parameters: list[Tensor], lr: float, momentum: float) -> None:
        """Update parameters of one flattened shape."""
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        buffers: list[Tensor] = []
        for parameter in parameters:
            state = self.state[parameter]
            if _BUFFER not in state:
                state[_BUFFER] = torch.zeros_like(parameter)
            buffers.append(state[_BUFFER])
        weight = 1 - momentum
        torch._foreach_lerp_(buffers, gradients, weight)  # pyright: ignore[reportPrivateImportUsage]
        nesterov = torch._foreach_lerp(buffers, gradients, weight)  # pyright: ignore[reportPrivateImportUsage]
        updates = orthogonalize(torch.stack([update.flatten(1) for update in nesterov]))
        for parameter, update in zip(parameters, updates, strict=True):
            rows, columns = parameter.shape[-2:]
            parameter.add_(update.view_as(parameter), alpha=-lr * MUON_GAIN * max(1.0, rows / columns) ** 0.5)


def orthogonalize(matrices: Tensor) -> Tensor:
    """Return matrices with the same singular vectors and singular values near 1.

    Args:
        matrices: (N, rows, columns).
    """
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.transpose(1, 2) if tall else matrices
    x = x / (x.norm(dim=(1, 2), keepdim=True) + _EPS)
    for _ in range(_ITERATIONS):
        square = x @ x.transpose(1, 2)
        factor = torch.baddbmm(square, square, square, beta=_B, alpha=_C)
        x = torch.baddbmm(x, factor, x, beta=_A)
    return x.transpose(1, 2) if tall else x
