"""Formulas of the weights and images behind the golden values."""

from __future__ import annotations

import zlib

import numpy as np
import torch
from torch import Tensor, nn


def wave(name: str, count: int) -> np.ndarray:
    """sin(0.7·i + crc32(name) mod 1000), i = 0…count-1, float64."""
    return np.sin(0.7 * np.arange(count) + zlib.crc32(name.encode()) % 1000)


def golden_value(name: str, tensor: Tensor, gain: float) -> np.ndarray:
    """Return the values of one state_dict entry."""
    values = wave(name, tensor.numel()).reshape(tuple(tensor.shape))
    if name.endswith("running_var"):
        return 1 + 0.5 * np.abs(values)
    if name.endswith("running_mean"):
        return 0.1 * values
    if tensor.ndim == 4:
        return values * gain / np.sqrt(tensor[0].numel())
    if name.endswith("bn.weight"):
        return 1 + 0.2 * values
    return 0.1 * values if name.endswith("bias") else values


@torch.no_grad()
def fill(module: nn.Module, gain: float = 1.2) -> nn.Module:
    """Set all weights by the formula (4-D ones: wave·gain/√fan-in); integers and the DFL bins stay."""
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point() and "dfl" not in name:
            tensor.copy_(torch.from_numpy(golden_value(name, tensor, gain)))
    return module


def image(height: int = 96, width: int = 160) -> Tensor:
    """(1, 3, height, width) float32 image 0.5 + 0.5·sin(0.05·x·(c+1) + 0.03·y)."""
    c, y, x = np.mgrid[1:4, :height, :width]
    return torch.from_numpy((0.5 + 0.5 * np.sin(0.05 * x * c + 0.03 * y)).astype(np.float32))[None]
