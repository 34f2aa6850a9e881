"""The labeled objects of a batch, as the criterion wants them."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Targets:
    """N objects of a batch of images, in pixels of the network input.

    Attributes:
        batch_idx: (N,) int64, the image of each object.
        classes: (N,) int64.
        boxes: (N, 4) float32 x1, y1, x2, y2.
        keypoints: (N, K, 3) float32 x, y, v; a point counts where v is not 0.
    """

    batch_idx: Tensor
    classes: Tensor
    boxes: Tensor
    keypoints: Tensor

    def __len__(self) -> int:
        return len(self.batch_idx)

    def to(self, device: torch.device | str) -> Targets:
        """Return the targets on a device."""
        return Targets(*(getattr(self, one.name).to(device, non_blocking=True) for one in fields(self)))

    @classmethod
    def from_normalized(
        cls, batch_idx: Tensor, classes: Tensor, boxes: Tensor, keypoints: Tensor, shape: tuple[int, int]
    ) -> Targets:
        """Make targets from labels relative to the image.

        Args:
            batch_idx: (N,) image of each object.
            classes: (N,) class of each.
            boxes: (N, 4) cx, cy, w, h, 0…1.
            keypoints: (N, K, 3) x, y 0…1 and v.
            shape: (height, width) of the network input, pixels.
        """
        height, width = shape
        size = boxes.new_tensor([width, height])
        center, half = boxes[:, :2] * size, boxes[:, 2:] * size / 2
        points = torch.cat((keypoints[..., :2] * size, keypoints[..., 2:]), -1)
        return cls(batch_idx.long(), classes.long(), torch.cat((center - half, center + half), 1), points)
