"""Number formats of the forward pass, and the scaling that 16-bit gradients need."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer

_NAMES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": None}


class Precision:
    """Mixed precision, where it is asked for and the device gains from it.

    Args:
        amp: the option: True (float16 on a CUDA GPU, float32 elsewhere), False, `fp16`, `bf16`, `fp32`.
        device: where the network is.

    Attributes:
        dtype: the 16-bit type in use; None computes in float32.
    """

    def __init__(self, amp: bool | str, device: torch.device) -> None:
        self._device = device.type
        plain = torch.float16 if amp and device.type == "cuda" else None
        self.dtype = _NAMES[amp] if isinstance(amp, str) else plain
        scaled = self.dtype == torch.float16
        self._scaler = torch.amp.GradScaler(device.type) if scaled else None  # pyright: ignore[reportPrivateImportUsage]

    def __str__(self) -> str:
        return str(self.dtype or torch.float32).removeprefix("torch.")

    def forward(self) -> AbstractContextManager[Any]:
        """Return the context of the forward pass."""
        return torch.autocast(self._device, self.dtype) if self.dtype else nullcontext()

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of a loss."""
        (loss if self._scaler is None else self._scaler.scale(loss)).backward()

    def step(
        self, optimizer: Optimizer, parameters: Iterable[Tensor], clip: float, *, ahead: bool = False
    ) -> bool | Tensor:
        """Clip the norm of all gradients and lets the optimizer step, unless they overflowed.

        Args:
            optimizer: steps.
            parameters: what has the gradients.
            clip: largest norm.
            ahead: leave it to the device whether the step is made, where the optimizer's kernels can.

        Returns:
            False, as a bool or on the device, where they are no numbers. Scaled ones may overflow now and then: the
            scale is lowered, and the step counts as made.
        """
        if self._scaler is None:
            fine = torch.isfinite(clip_grad_norm_(parameters, clip))
            if ahead and hasattr(optimizer, "_step_supports_amp_scaling"):
                return _step_where(optimizer, fine)
            made = bool(fine)
            if made:
                optimizer.step()
            return made
        self._scaler.unscale_(optimizer)
        clip_grad_norm_(parameters, clip)
        self._scaler.step(optimizer)
        self._scaler.update()
        return True

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs."""
        return {} if self._scaler is None else self._scaler.state_dict()

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Go on from `state_dict()`."""
        if self._scaler is not None and saved:
            self._scaler.load_state_dict(saved)


def _step_where(optimizer: Optimizer, fine: Tensor) -> Tensor:
    """Step with a fused kernel that looks on the device whether to; what torch's GradScaler does, without a scale."""
    switches = cast(Any, optimizer)
    switches.grad_scale, switches.found_inf = None, (~fine).float()
    try:
        optimizer.step()
    finally:
        del switches.grad_scale, switches.found_inf
    return fine
