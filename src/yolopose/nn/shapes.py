"""Running a network on shapes alone: an empty batch and weights that take no memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.func import functional_call

if TYPE_CHECKING:
    from yolopose.nn.head import Shapes
    from yolopose.nn.model import PoseModel


def shape_pass(model: PoseModel, channels: int, height: int, width: int) -> Shapes:
    """Run the network up to its raw outputs on no images of this size; hooks see all shapes.

    An empty batch on the CPU is used instead of "meta" tensors, whose first batch norm makes PyTorch
    import its compiler (more than a second). Weights may be anywhere; they are not touched.

    Returns:
        (height, width) of each level that the head reads, in cells.
    """
    values = model.state_dict()
    # all are views of one untouched buffer; not expanded scalars, which convolutions would copy to full size
    room = torch.empty(max(value.numel() for value in values.values()), device="cpu")
    state = {name: room[: value.numel()].view(value.shape) for name, value in values.items()}
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    model.head.training = True  # raw outputs, though every batch norm is in evaluation mode
    try:
        with torch.no_grad():
            return functional_call(model, state, (torch.empty(0, channels, height, width, device="cpu"),)).shapes
    finally:
        for module, training in modes:
            module.training = training
