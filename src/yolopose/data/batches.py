"""Validation batches: images of similar shape together, with minimal padding, and their ground truth.

Threads decode and resize images for the next batches while the network computes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from yolopose.base.errors import DataError, NotFoundError, SourceError
from yolopose.base.prefetch import prefetch
from yolopose.config import limit_workers
from yolopose.data.images import DamagedImageError, letterbox_into, read_channels
from yolopose.data.label_file import FloatArray
from yolopose.data.labels import Annotations
from yolopose.geometry import Letterbox
from yolopose.geometry.letterbox import PAD_VALUE

Size = tuple[int, int]
_AHEAD = 2  # batches in preparation while one is in use


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ValBatch:
    """A batch of B images with their N instances, in pixels of the network input.

    Attributes:
        images: (B, C, H, W) uint8, contiguous; RGB with 3 channels.
        letterboxes: position of each image, by which results are mapped back to the original image.
        indices: index of each image in the annotations.
        batch_idx: (N,) int64 image of each instance, ascending.
        classes: (N,) int32.
        boxes: (N, 4) float32 x1, y1, x2, y2.
        keypoints: (N, K, 3) float32 x, y, v.
        damaged: images of the batch that do not decode; they are gray and have no instances.
        reasons: why, for each of them.
    """

    images: npt.NDArray[np.uint8]
    letterboxes: list[Letterbox]
    indices: list[int]
    batch_idx: npt.NDArray[np.int64]
    classes: npt.NDArray[np.int32]
    boxes: FloatArray
    keypoints: FloatArray
    damaged: tuple[int, ...] = ()
    reasons: tuple[str, ...] = ()


class ValBatches:
    """The batches of a validation run in a fixed order; can be iterated repeatedly.

    Iterating raises DataError, with its path, for an image that can no longer be read. Images that do not decode
    are in `ValBatch.damaged`.

    Args:
        annotations: the annotations.
        imgsz: longer side of a loaded image, pixels; or the (height, width) of the input.
        batch: number of images in a batch, at least 1.
        stride: largest stride of the network.
        rect: sort by aspect ratio and use the smallest shape that fits each batch; False uses the shape `imgsz` in the
            order of the paths. Ignored if (height, width) is not square.
        workers: number of threads that decode and resize; None or 0 chooses.
        native_size: do not resize or pad: a batch holds images of one size; `imgsz`, `stride` and `rect` are ignored.
        channels: C, channels that the network reads: 1, 3 or 4.

    Attributes:
        groups: indices of the images of each batch.
        shapes: (height, width) of each batch.
    """

    def __init__(
        self,
        annotations: Annotations,
        *,
        imgsz: int | Size = 640,
        batch: int = 16,
        stride: int = 32,
        rect: bool = True,
        workers: int | None = None,
        native_size: bool = False,
        channels: int = 3,
    ) -> None:
        self._annotations = annotations
        self._channels = channels
        self._workers = limit_workers(workers or None)
        self._side: int | None = None
        if native_size:
            self.groups = _groups_of_one_size(annotations.shapes, batch)
            self.shapes: list[Size] = [_size(annotations.shapes[group[0]]) for group in self.groups]
            return
        shape = (imgsz, imgsz) if isinstance(imgsz, int) else imgsz
        self._side = max(shape)
        order = np.arange(len(annotations))
        ratios = annotations.shapes[:, 0] / annotations.shapes[:, 1]
        rect = rect and shape[0] == shape[1]
        if rect:
            # a stable sort leaves images of equal shape in the order of their paths, on every machine
            order = np.argsort(ratios, kind="stable")
        self.groups = [order[start : start + batch] for start in range(0, len(order), batch)]
        self.shapes = [batch_shape(ratios[group], self._side, stride) if rect else shape for group in self.groups]

    def __len__(self) -> int:
        return len(self.groups)

    def __iter__(self) -> Iterator[ValBatch]:
        pool = ThreadPoolExecutor(self._workers)
        try:
            batches = zip(self.groups, self.shapes, strict=True)
            yield from prefetch(batches, lambda batch: self._start(pool, *batch), _finish, _AHEAD)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _start(
        self, pool: ThreadPoolExecutor, group: npt.NDArray[Any], shape: Size
    ) -> tuple[ValBatch, list[Future[str]]]:
        """Return a batch with its ground truth, and the pending work that fills in the images."""
        indices = [int(index) for index in group]
        sources = [_size(source) for source in self._annotations.shapes[group]]
        side = self._side or max(shape)
        letterboxes = [letterbox_for(source, side, shape) for source in sources]
        gt = [
            self._annotations.to_letterbox(letterbox, index)
            for letterbox, index in zip(letterboxes, indices, strict=True)
        ]
        images = np.empty((len(indices), self._channels, *shape), dtype=np.uint8)
        pending = [
            pool.submit(_load_into, planes, self._annotations.files[index], letterbox)
            for planes, index, letterbox in zip(images, indices, letterboxes, strict=True)
        ]
        batch = ValBatch(
            images=images,
            letterboxes=letterboxes,
            indices=indices,
            batch_idx=np.repeat(np.arange(len(indices)), [len(labels.classes) for labels in gt]),
            classes=np.concatenate([labels.classes for labels in gt]),
            boxes=np.concatenate([labels.boxes for labels in gt]),
            keypoints=np.concatenate([labels.keypoints for labels in gt]),
        )
        return batch, pending


def loaded_size(source: Size, imgsz: int) -> Size:
    """Return (height, width) after loading: the longer side is `imgsz`, the other is rounded up."""
    ratio = imgsz / max(source)
    return min(math.ceil(source[0] * ratio), imgsz), min(math.ceil(source[1] * ratio), imgsz)


def batch_shape(ratios: npt.NDArray[np.floating[Any]], imgsz: int, stride: int = 32) -> Size:
    """Return the (height, width) of a batch.

    Args:
        ratios: (B,) height / width of its images.
        imgsz: longer side of a loaded image, pixels.
        stride: the sides are multiples of it, with at least half a stride of padding.
    """
    low = float(ratios.min())
    high = float(ratios.max())
    factors = (1.0, 1.0)
    if high < 1:
        factors = (high, 1.0)
    elif low > 1:
        factors = (1.0, 1 / low)
    height, width = (math.ceil(factor * imgsz / stride + 0.5) * stride for factor in factors)
    return height, width


def letterbox_for(source: Size, imgsz: int, shape: Size) -> Letterbox:
    """Return the position of an image in an input: loaded at `imgsz`, not enlarged further, centered.

    Args:
        source: (height, width) of the original image.
        imgsz: longer side of the loaded image, pixels.
        shape: (height, width) of the input.
    """
    fitted = Letterbox.fit(loaded_size(source, imgsz), shape, scaleup=False)
    return Letterbox(source, fitted.inner, fitted.top, fitted.left, fitted.out)


def _groups_of_one_size(shapes: npt.NDArray[Any], batch: int) -> list[npt.NDArray[np.int64]]:
    """Return the indices of images in batches of equal (height, width), in the order of the paths within a size."""
    order = np.lexsort((shapes[:, 1], shapes[:, 0]))
    changes = np.flatnonzero((np.diff(shapes[order], axis=0) != 0).any(axis=1)) + 1
    same = np.split(order, changes) if len(order) else []
    return [group[start : start + batch] for group in same for start in range(0, len(group), batch)]


def _size(shape: npt.NDArray[Any]) -> Size:
    return int(shape[0]), int(shape[1])


def _finish(started: tuple[ValBatch, list[Future[str]]]) -> ValBatch:
    batch, pending = started
    damaged = tuple(index for index, future in enumerate(pending) if future.result())
    if not damaged:
        return batch
    keep = ~np.isin(batch.batch_idx, damaged)
    return replace(
        batch,
        batch_idx=batch.batch_idx[keep],
        classes=batch.classes[keep],
        boxes=batch.boxes[keep],
        keypoints=batch.keypoints[keep],
        damaged=damaged,
        reasons=tuple(pending[index].result() for index in damaged),
    )


def _load_into(planes: npt.NDArray[np.uint8], path: Path, letterbox: Letterbox) -> str:
    """Write an image into its slot of a batch; return why it does not decode, or an empty text."""
    try:
        image = read_channels(path, len(planes))
    except DamagedImageError as error:
        planes[:] = PAD_VALUE
        return str(error)
    except (NotFoundError, SourceError) as error:
        raise DataError(f"{error} It was readable when its labels were loaded.") from error
    if image.shape[:2] != letterbox.source:
        raise DataError(f"The size of the image {path} has changed since its labels were loaded; start again.")
    letterbox_into(planes, image, letterbox)
    return ""
