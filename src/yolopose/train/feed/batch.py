"""One training batch: in memory, on a device, or still to be painted there."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch

from yolopose.base.errors import TrainError
from yolopose.train.feed.deferred import DeferredImages
from yolopose.train.feed.render_gpu import paint
from yolopose.train.process import empty_cache, is_out_of_memory


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrainBatch:
    """A batch of B augmented images with their N objects, as CPU tensors; painted ones have their images elsewhere.

    Attributes:
        images: (B, 3, H, W) uint8 RGB, pixels lying channels last.
        batch_idx: (N,) int64, for each object its image in the batch, ascending.
        classes: (N,) int64.
        boxes: (N, 4) float32 cx, cy, w, h, normalized 0…1.
        keypoints: (N, K, 3) float32 x, y normalized 0…1 and v; a point with v = 0 has x = y = 0.
        index: (B,) int64, the image of the table that each sample was made for.
    """

    images: torch.Tensor
    batch_idx: torch.Tensor
    classes: torch.Tensor
    boxes: torch.Tensor
    keypoints: torch.Tensor
    index: torch.Tensor

    def __len__(self) -> int:
        return len(self.images)

    def to(self, device: torch.device | str) -> TrainBatch:
        """Return the batch on a device; pinned memory is copied to a GPU without waiting."""
        ahead = torch.device(device).type != "cpu"  # the CPU would not wait for what it is to read
        return TrainBatch(**{one.name: getattr(self, one.name).to(device, non_blocking=ahead) for one in fields(self)})

    def slice_images(self, start: int, end: int) -> TrainBatch:
        """Return images `start`…`end - 1` of it with their objects."""
        first, last = torch.searchsorted(self.batch_idx, torch.tensor([start, end])).tolist()
        rows = slice(first, last)
        return TrainBatch(
            images=self.images[start:end],
            batch_idx=self.batch_idx[rows] - start,
            classes=self.classes[rows],
            boxes=self.boxes[rows],
            keypoints=self.keypoints[rows],
            index=self.index[start:end],
        )

    def pin_memory(self) -> TrainBatch:
        """Return the batch in page-locked memory."""
        return TrainBatch(**{one.name: getattr(self, one.name).pin_memory() for one in fields(self)})


@dataclass(frozen=True, slots=True, eq=False)
class DeferredBatch:
    """A batch whose pixels are still to be painted.

    Attributes:
        sketch: what it shows.
        labels: the batch with empty images.
    """

    sketch: DeferredImages
    labels: TrainBatch

    def painted(self, device: torch.device) -> TrainBatch:
        """Return the batch; its images are painted on the device, all else stays where it is.

        Raises:
            TrainError: the device's memory is full.
        """
        for _ in range(2):
            try:
                return replace(self.labels, images=paint(self.sketch, device))
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
            empty_cache(device)  # what the step before has left lies in other pieces than are wanted
        raise TrainError(
            f"Out of memory on {device} while {len(self.labels.index)} images of "
            f"{' × '.join(map(str, self.sketch.size))} pixels are augmented there: choose a smaller batch or imgsz, or "
            "close what else uses the memory."
        )

    def pin_memory(self) -> DeferredBatch:
        """Return the batch in page-locked memory."""
        return DeferredBatch(self.sketch.pin_memory(), self.labels.pin_memory())
