"""Mixed precision: autocast, gradient scaling, clipping and the optimizer step."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

import torch
from torch import Tensor
from torch.optim import Optimizer

_DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": None}


class Precision:
    """Precision of the forward pass, with gradient scaling for float16.

    Args:
        amp: the option: True (float16 on a CUDA GPU, float32 elsewhere), False, `fp16`, `bf16`, `fp32`.
        device: where the network is.

    Attributes:
        dtype: the 16-bit type in use; None means float32.
    """

    def __init__(self, amp: bool | str, device: torch.device) -> None:
        self._device = device.type
        default = torch.float16 if amp and device.type == "cuda" else None
        self.dtype = _DTYPES[amp] if isinstance(amp, str) else default
        scaled = self.dtype == torch.float16
        self._scaler = torch.GradScaler(device.type) if scaled else None

    def __str__(self) -> str:
        return str(self.dtype or torch.float32).removeprefix("torch.")

    def autocast(self) -> AbstractContextManager[Any]:
        """Return the context manager of the forward pass."""
        return torch.autocast(self._device, self.dtype) if self.dtype else nullcontext()

    def backward(self, loss: Tensor) -> None:
        """Accumulate the gradients of a loss."""
        (loss if self._scaler is None else self._scaler.scale(loss)).backward()

    def step(
        self, optimizer: Optimizer, parameters: Sequence[Tensor], max_norm: float, *, on_device: bool = False
    ) -> bool | Tensor:
        """Clip the norm of all gradients and step, unless a gradient is not finite.

        Args:
            optimizer: the optimizer.
            parameters: parameters with gradients.
            max_norm: largest norm of all gradients together.
            on_device: let the device decide whether to step, if the optimizer's kernels support it.

        Returns:
            Whether the gradients were finite, as a bool or a tensor on the device. With gradient scaling always True:
            an occasional overflow is expected and only lowers the scale.
        """
        if self._scaler is None:
            finite = torch.isfinite(clip_gradients(parameters, max_norm))
            # MuSGD sets it to False: its second step does not read `found_inf`.
            if on_device and getattr(optimizer, "_step_supports_amp_scaling", False):
                return _step_if(optimizer, finite)
            if finite:
                optimizer.step()
            return bool(finite)
        self._scaler.unscale_(optimizer)
        clip_gradients(parameters, max_norm)
        self._scaler.step(optimizer)
        self._scaler.update()
        return True

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs."""
        return {} if self._scaler is None else self._scaler.state_dict()

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Restore `state_dict()`."""
        if self._scaler is not None and saved:
            self._scaler.load_state_dict(saved)


@torch.no_grad()
def clip_gradients(parameters: Sequence[Tensor], max_norm: float) -> Tensor:
    """Scale all gradients, which share a device, so that their norm is at most `max_norm`; return the norm before.

    The values are those of `torch.nn.utils.clip_grad_norm_`, without its Python loops over tensors.
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if not gradients:
        return torch.zeros(())
    norms = torch._foreach_norm(gradients)  # pyright: ignore[reportPrivateImportUsage]
    norm = torch.linalg.vector_norm(torch.stack(norms))
    factor = (max_norm / (norm + 1e-6)).clamp(max=1.0)
    torch._foreach_mul_(gradients, factor)  # pyright: ignore[reportPrivateImportUsage]
    return norm


def _step_if(optimizer: Optimizer, finite: Tensor) -> Tensor:
    """Step with a fused kernel that reads on the device whether to; torch's GradScaler uses the same attributes."""
    fused = cast(Any, optimizer)
    fused.grad_scale = None
    fused.found_inf = (~finite).float()
    try:
        optimizer.step()
    finally:
        del fused.grad_scale, fused.found_inf
    return finite
