"""One training batch: on the CPU, on a device, or with its images still to be rendered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import torch

from yolopose.base.errors import TrainError
from yolopose.data import ImageLabels
from yolopose.geometry import xyxy_to_cxcywh
from yolopose.train.feed.deferred import DeferredImages, defer_images, write_pieces
from yolopose.train.feed.device_render import render_images
from yolopose.train.feed.labels import concat_labels
from yolopose.train.feed.sampling import BatchSpec, SampleBuilder
from yolopose.train.feed.tensors import Packed, TensorData, pack
from yolopose.train.process import empty_cache, is_out_of_memory


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrainBatch(TensorData):
    """A batch of B augmented images with their N instances. Images may be on a device while the rest is on the CPU.

    Attributes:
        images: (B, C, H, W) uint8, RGB with 3 channels, channels last in memory.
        batch_idx: (N,) int64, image of each instance in the batch, ascending.
        classes: (N,) int64.
        boxes: (N, 4) float32 cx, cy, w, h, normalized 0…1.
        keypoints: (N, K, 3) float32 x, y normalized 0…1, and v; a keypoint with v = 0 has x = y = 0.
        index: (B,) int64, index into the annotations of the image that each sample was made for.
        damaged: (index, reason) of images that turned out not to decode when this batch, or one at the same time, was
            made.
        num_pseudo: number of images with pseudo labels, which are the last ones.
    """

    images: torch.Tensor
    batch_idx: torch.Tensor
    classes: torch.Tensor
    boxes: torch.Tensor
    keypoints: torch.Tensor
    index: torch.Tensor
    damaged: tuple[tuple[int, str], ...] = ()
    num_pseudo: int = 0

    def __len__(self) -> int:
        return len(self.images)

    def to(self, device: torch.device | str) -> TrainBatch:
        """Return the batch on a device; the host does not wait for copies from pinned memory to a GPU."""
        # a copy to the CPU must be complete before the CPU reads it
        non_blocking = torch.device(device).type != "cpu"
        return self.map_tensors(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def slice_images(self, start: int, end: int) -> TrainBatch:
        """Return images `start`…`end - 1` with their instances."""
        first, last = torch.searchsorted(self.batch_idx, torch.tensor([start, end])).tolist()
        rows = slice(first, last)
        return TrainBatch(
            images=self.images[start:end],
            batch_idx=self.batch_idx[rows] - start,
            classes=self.classes[rows],
            boxes=self.boxes[rows],
            keypoints=self.keypoints[rows],
            index=self.index[start:end],
            num_pseudo=max(end - max(start, len(self) - self.num_pseudo), 0),
        )


@dataclass(frozen=True, slots=True, eq=False)
class DeferredParts(TensorData):
    """What a `DeferredBatch` holds.

    Attributes:
        images: what is needed to render the images.
        labels: the batch with empty images.
    """

    images: DeferredImages
    labels: TrainBatch


@dataclass(frozen=True, slots=True, eq=False)
class DeferredBatch:
    """A batch whose images are still to be rendered.

    Attributes:
        parts: images and labels, in one block of memory.
    """

    parts: Packed[DeferredParts]

    def __len__(self) -> int:
        return self.parts.layout.images.count

    @property
    def damaged(self) -> tuple[tuple[int, str], ...]:
        """Images that turned out not to decode; see `TrainBatch`."""
        return self.parts.layout.labels.damaged

    def pin_memory(self) -> DeferredBatch:
        """Return a copy in page-locked memory."""
        return DeferredBatch(self.parts.pin_memory())

    def render(self, device: torch.device) -> TrainBatch:
        """Return the batch with images on a device; everything else stays where it is.

        Raises:
            TrainError: the memory of the device is full.
        """
        layout = self.parts.layout
        for _ in range(2):
            try:
                images = render_images(self.parts.to(device).unpack_part(layout.images))
                return replace(self.parts.unpack_part(layout.labels), images=images)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
            # blocks that the previous step has left in torch's cache have other sizes than are needed here
            empty_cache(device)
        height, width = layout.images.size
        raise TrainError(
            f"Out of memory on {device} while {len(self)} images of {height} × {width} pixels are "
            "augmented there. Choose a smaller batch or imgsz, or close other programs that use the memory."
        )


def make_batch(builder: SampleBuilder, spec: BatchSpec) -> TrainBatch:
    """Make a batch in this thread.

    Raises:
        DataError: an image cannot be read any more; the message names it.
    """
    height, width = spec.shape
    # channels last, the layout of OpenCV and the fastest one for convolutions
    images = np.empty((len(spec.index), height, width, builder.channels), dtype=np.uint8)
    labels: list[ImageLabels] = []
    for target, index in zip(images, spec.index, strict=True):
        image, instances = builder.build(spec, int(index))
        if builder.channels == 3:
            cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_BGR2RGB, dst=target)
        else:
            target[:] = image
        labels.append(instances)
    batch = _with_labels(torch.from_numpy(images).permute(0, 3, 1, 2), labels, spec)
    return replace(batch, damaged=builder.take_damaged())


def make_deferred_batch(builder: SampleBuilder, spec: BatchSpec) -> DeferredBatch:
    """Make a batch in this thread without rendering its images.

    Raises:
        DataError: an image cannot be read any more; the message names it.
    """

    def make() -> DeferredBatch:
        samples = [builder.sample_params(spec, int(index)) for index in spec.index]
        no_pixels = torch.empty((len(samples), builder.channels, 0, 0), dtype=torch.uint8)
        labels = _with_labels(no_pixels, [sample.labels for sample in samples], spec)
        images, pieces = defer_images(builder, samples)
        batch = DeferredBatch(pack(DeferredParts(images, labels)))
        write_pieces(batch.parts.unpack().images.pixels, pieces)
        return batch

    batch = builder.without_damaged(make)
    layout = batch.parts.layout
    labels = replace(layout.labels, damaged=builder.take_damaged())
    return DeferredBatch(replace(batch.parts, layout=replace(layout, labels=labels)))


def empty_batch(spec: BatchSpec, keypoint_shape: Sequence[int], channels: int) -> TrainBatch:
    """Return a batch without images, for keypoints of shape (K, 3) and images of C channels."""
    integers = torch.zeros(0, dtype=torch.int64)
    return TrainBatch(
        images=torch.zeros((0, channels, *spec.shape), dtype=torch.uint8),
        batch_idx=integers,
        classes=integers,
        boxes=torch.zeros((0, 4)),
        keypoints=torch.zeros((0, *keypoint_shape)),
        index=integers,
    )


def _with_labels(images: torch.Tensor, labels: Sequence[ImageLabels], spec: BatchSpec) -> TrainBatch:
    """Join images with the instances of each, normalized by the size of the batch."""
    instances = concat_labels(labels)
    size = np.array(spec.shape[::-1], dtype=np.float32)
    counts = [len(one.classes) for one in labels]

    def float32(values: Any) -> torch.Tensor:
        return torch.from_numpy(values.astype(np.float32))

    return TrainBatch(
        images=images,
        batch_idx=torch.from_numpy(np.repeat(np.arange(len(labels)), counts)),
        classes=torch.from_numpy(instances.classes.astype(np.int64)),
        boxes=float32(xyxy_to_cxcywh(instances.boxes) / np.tile(size, 2)),
        keypoints=float32(instances.keypoints / np.append(size, np.float32(1))),
        index=torch.from_numpy(np.array(spec.index, dtype=np.int64)),
    )
