"""Ground truth of a batch in the layout the criterion reads."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Targets:
    """N ground-truth instances of a batch of images, in pixels of the network input.

    Attributes:
        batch_idx: (N,) int64, index of the image in the batch.
        classes: (N,) int64.
        boxes: (N, 4) float32 x1, y1, x2, y2.
        keypoints: (N, K, 3) float32 x, y, v; a keypoint is labeled where v is not 0.
    """

    batch_idx: Tensor
    classes: Tensor
    boxes: Tensor
    keypoints: Tensor

    def __len__(self) -> int:
        return len(self.batch_idx)

    def to(self, device: torch.device) -> Targets:
        """Return the targets on a device; from the CPU to a GPU in one copy, which the host does not wait for."""
        values: list[Tensor] = [getattr(self, field.name) for field in fields(self)]
        if device.type != "cuda" or self.boxes.device.type != "cpu":
            return Targets(*(value.to(device, non_blocking=True) for value in values))
        flat = [value.contiguous().flatten().view(torch.uint8) for value in values]  # 8-byte values first
        block = torch.cat(flat).pin_memory().to(device, non_blocking=True)
        parts = block.split([len(part) for part in flat])
        return Targets(*(part.view(value.dtype).view(value.shape) for part, value in zip(parts, values, strict=True)))

    def repeat(self, times: int, images: int) -> Targets:
        """Return the targets of `times` batches of `images` images, one behind the other."""
        if times == 1:
            return self
        batch_idx = torch.cat([self.batch_idx + images * number for number in range(times)])
        return Targets(
            batch_idx,
            self.classes.repeat(times),
            self.boxes.repeat(times, 1),
            self.keypoints.repeat(times, 1, 1),
        )

    def slice_images(self, start: int, end: int) -> Targets:
        """Return the instances of images `start`…`end - 1`; instances are ordered by image."""
        first, last = torch.searchsorted(self.batch_idx, self.batch_idx.new_tensor([start, end])).tolist()
        rows = slice(first, last)
        return Targets(self.batch_idx[rows] - start, self.classes[rows], self.boxes[rows], self.keypoints[rows])

    @classmethod
    def from_normalized(
        cls, batch_idx: Tensor, classes: Tensor, boxes: Tensor, keypoints: Tensor, shape: tuple[int, int]
    ) -> Targets:
        """Make targets from labels relative to the image size.

        Args:
            batch_idx: (N,) index of the image.
            classes: (N,) class index.
            boxes: (N, 4) cx, cy, w, h in 0…1.
            keypoints: (N, K, 3) x, y in 0…1 and v.
            shape: (height, width) of the network input, pixels.
        """
        height, width = shape
        size = boxes.new_tensor([width, height])
        center = boxes[:, :2] * size
        half = boxes[:, 2:] * size / 2
        points = torch.cat((keypoints[..., :2] * size, keypoints[..., 2:]), -1)
        return cls(batch_idx.long(), classes.long(), torch.cat((center - half, center + half), 1), points)
