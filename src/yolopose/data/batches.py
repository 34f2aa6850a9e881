"""Validation batches: images of alike shape together, padded no more than needed, with their truth.

Images are decoded and resized by threads, some batches ahead of the network.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from yolopose.base.errors import DataError, NotFoundError, SourceError
from yolopose.data.images import read_image
from yolopose.data.label_file import FloatArray
from yolopose.data.label_scan import worker_count
from yolopose.data.labels import Annotations
from yolopose.geometry import Letterbox
from yolopose.geometry.letterbox import PAD_VALUE

Size = tuple[int, int]
_AHEAD = 2  # batches being made while one is in use


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ValBatch:
    """A batch of B images with their objects, everything in network-input pixels.

    Attributes:
        images: (B, 3, H, W) uint8 RGB, contiguous.
        letterboxes: where each image lies; the source is the original image, so results map back to it.
        indices: index of each image in the annotations.
        batch_idx: (N,) int64, for each object its image in the batch, ascending.
        classes: (N,) int32.
        boxes: (N, 4) float32 x1, y1, x2, y2.
        keypoints: (N, K, 3) float32 x, y, v.
    """

    images: npt.NDArray[np.uint8]
    letterboxes: list[Letterbox]
    indices: list[int]
    batch_idx: npt.NDArray[np.int64]
    classes: npt.NDArray[np.int32]
    boxes: FloatArray
    keypoints: FloatArray


class ValBatches:
    """The batches of a table, in a fixed order; may be gone through again and again.

    Attributes:
        groups: for each batch the indices of its images in the table.
        shapes: (height, width) of each batch.
    """

    def __init__(
        self,
        table: Annotations,
        *,
        imgsz: int | Size = 640,
        batch: int = 16,
        stride: int = 32,
        rect: bool = True,
        workers: int = 0,
    ) -> None:
        self._table = table
        self._workers = worker_count(workers)
        self._side = imgsz if isinstance(imgsz, int) else max(imgsz)
        order = np.arange(len(table))
        ratios = table.shapes[:, 0] / table.shapes[:, 1]
        rect = rect and isinstance(imgsz, int)
        if rect:
            # stable: images of one shape keep the order of their paths, on every machine
            order = np.argsort(ratios, kind="stable")
        self.groups = [order[start : start + batch] for start in range(0, len(order), batch)]
        fixed = (imgsz, imgsz) if isinstance(imgsz, int) else imgsz
        self.shapes = [batch_shape(ratios[group], self._side, stride) if rect else fixed for group in self.groups]

    def __len__(self) -> int:
        return len(self.groups)

    def __iter__(self) -> Iterator[ValBatch]:
        pool = ThreadPoolExecutor(self._workers)
        waiting: deque[tuple[ValBatch, list[Future[None]]]] = deque()
        try:
            for group, shape in zip(self.groups, self.shapes, strict=True):
                waiting.append(self._start(pool, group, shape))
                if len(waiting) > _AHEAD:
                    yield _finish(*waiting.popleft())
            while waiting:
                yield _finish(*waiting.popleft())
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _start(self, pool: ThreadPoolExecutor, group: npt.NDArray[Any], shape: Size) -> tuple[ValBatch, list[Future]]:
        """Make a batch with its truth; threads fill in the images."""
        index = [int(one) for one in group]
        sources = [(int(height), int(width)) for height, width in self._table.shapes[group]]
        letterboxes = [letterbox_for(source, self._side, shape) for source in sources]
        truths = [self._table.to_letterbox(letterbox, one) for letterbox, one in zip(letterboxes, index, strict=True)]
        images = np.full((len(index), 3, *shape), PAD_VALUE, dtype=np.uint8)
        work = [
            pool.submit(_fill, images[number], self._table.files[one], letterboxes[number])
            for number, one in enumerate(index)
        ]
        made = ValBatch(
            images=images,
            letterboxes=letterboxes,
            indices=index,
            batch_idx=np.repeat(np.arange(len(index)), [len(truth.classes) for truth in truths]),
            classes=np.concatenate([truth.classes for truth in truths]),
            boxes=np.concatenate([truth.boxes for truth in truths]),
            keypoints=np.concatenate([truth.keypoints for truth in truths]),
        )
        return made, work


def val_batches(
    table: Annotations,
    *,
    imgsz: int | Size = 640,
    batch: int = 16,
    stride: int = 32,
    rect: bool = True,
    workers: int = 0,
) -> ValBatches:
    """Make the batches of a validation run.

    Args:
        table: the labels.
        imgsz: longer side of a loaded image, pixels; or a fixed (height, width) of the input.
        batch: images in a batch, at least 1.
        stride: largest stride of the network.
        rect: sort by aspect ratio and give each batch the smallest shape that fits; False gives squares of `imgsz`
            in path order.
        workers: threads that decode and resize; 0 chooses.

    Returns:
        An iterable with a length. Iterating raises DataError when an image cannot be read any more; it names it.
    """
    return ValBatches(table, imgsz=imgsz, batch=batch, stride=stride, rect=rect, workers=workers)


def loaded_size(source: Size, imgsz: int) -> Size:
    """Return (height, width) after loading: the longer side `imgsz`, the other rounded up."""
    ratio = imgsz / max(source)
    return min(math.ceil(source[0] * ratio), imgsz), min(math.ceil(source[1] * ratio), imgsz)


def batch_shape(ratios: npt.NDArray[np.floating[Any]], imgsz: int, stride: int = 32) -> Size:
    """Return the (height, width) of a batch.

    Args:
        ratios: (B,) height / width of its images.
        imgsz: longer side of a loaded image, pixels.
        stride: the sides are multiples of it, with half a stride or more to spare.
    """
    low, high = float(ratios.min()), float(ratios.max())
    factors = (1.0, 1.0)
    if high < 1:
        factors = (high, 1.0)
    elif low > 1:
        factors = (1.0, 1 / low)
    height, width = (math.ceil(factor * imgsz / stride + 0.5) * stride for factor in factors)
    return height, width


def letterbox_for(source: Size, imgsz: int, shape: Size) -> Letterbox:
    """Return where an image lies in an input: loaded to `imgsz`, not enlarged further, centerd.

    Args:
        source: (height, width) of the original image.
        imgsz: longer side of the loaded image, pixels.
        shape: (height, width) of the input.
    """
    fitted = Letterbox.fit(loaded_size(source, imgsz), shape, scaleup=False)
    return Letterbox(source, fitted.inner, fitted.top, fitted.left, fitted.out)


def _finish(made: ValBatch, work: list[Future[None]]) -> ValBatch:
    for one in work:
        one.result()
    return made


def _fill(target: npt.NDArray[np.uint8], path: Path, letterbox: Letterbox) -> None:
    """Decode an image and lays it into its (3, H, W) place, BGR to RGB."""
    try:
        image: npt.NDArray[Any] = read_image(path)
    except (NotFoundError, SourceError) as error:
        raise DataError(f"{error} It could be read when its labels were.") from error
    if image.shape[:2] != letterbox.source:
        raise DataError(f"The image {path} has changed since its labels were read; start again.")
    height, width = letterbox.inner
    if image.shape[:2] != letterbox.inner:
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    top, left = letterbox.top, letterbox.left
    target[:, top : top + height, left : left + width] = image.transpose(2, 0, 1)[::-1]
