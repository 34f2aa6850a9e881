"""MuSGD: SGD, and for filters and matrices a step along the orthogonalized momentum as well.

Muon (K. Jordan, 2024) replaces the momentum of a matrix by the nearest orthogonal one, so that all its directions move
alike. Five Newton-Schulz steps come close enough; those of all matrices of one shape are computed together.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD

SHARE = 0.2
"""Learning rate of the orthogonalized step as a share of that of SGD."""

_STEPS = 5
_A, _B, _C = 3.4445, -4.7750, 2.0315
_EPS = 1e-7
_BUFFER = "orthogonal_buffer"


class MuSGD(SGD):
    """SGD with Nesterov momentum for all parameters; matrices and filters move along orthogonalized momentum as well.

    Args:
        groups: parameter groups as of `torch.optim.SGD`; the rates of a group hold for both steps.
        lr: learning rate.
        momentum: of both steps.
        fused: take torch's one-kernel form of SGD.
    """

    def __init__(self, groups: list[dict[str, Any]], lr: float, momentum: float, fused: bool = False) -> None:
        super().__init__(groups, lr=lr, momentum=momentum, nesterov=momentum > 0, fused=fused or None)
        # a scaler of gradients must look for overflows itself: the second step does not know of them
        self._step_supports_amp_scaling = False

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Make a step."""
        loss = super().step(closure)
        for group in self.param_groups:
            shapes: dict[tuple[int, int], list[Tensor]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None and parameter.ndim >= 2:
                    shapes[len(parameter), parameter[0].numel()].append(parameter)
            for parameters in shapes.values():
                self._move(parameters, group["lr"], group["momentum"])
        return loss

    def _move(self, parameters: list[Tensor], lr: float, momentum: float) -> None:
        """Move parameters of one flattened shape."""
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        buffers: list[Tensor] = []
        for parameter in parameters:
            state = self.state[parameter]
            if _BUFFER not in state:
                state[_BUFFER] = torch.zeros_like(parameter)
            buffers.append(state[_BUFFER])
        share = 1 - momentum
        torch._foreach_lerp_(buffers, gradients, share)  # pyright: ignore[reportPrivateImportUsage]
        ahead = torch._foreach_lerp(buffers, gradients, share)  # pyright: ignore[reportPrivateImportUsage]
        moves = orthogonalized(torch.stack([one.flatten(1) for one in ahead]))
        for parameter, move in zip(parameters, moves, strict=True):
            rows, columns = parameter.shape[-2:]
            parameter.add_(move.view_as(parameter), alpha=-lr * SHARE * max(1.0, rows / columns) ** 0.5)


def orthogonalized(matrices: Tensor) -> Tensor:
    """Return matrices with the singular vectors of the given ones and singular values near 1.

    Args:
        matrices: (N, rows, columns).
    """
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.transpose(1, 2) if tall else matrices
    x = x / (x.norm(dim=(1, 2), keepdim=True) + _EPS)
    for _ in range(_STEPS):
        square = x @ x.transpose(1, 2)
        factor = torch.baddbmm(square, square, square, beta=_B, alpha=_C)
        x = torch.baddbmm(x, factor, x, beta=_A)
    return x.transpose(1, 2) if tall else x
