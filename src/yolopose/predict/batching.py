"""From loaded images to results: batches of one input size, inference, NMS, coordinates of the original image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from time import perf_counter

import numpy as np

from yolopose.base.errors import UsageError
from yolopose.config import PredictSettings
from yolopose.data.given_boxes import BoxTable
from yolopose.data.images import letterbox_batch, read_image
from yolopose.geometry import Letterbox
from yolopose.predict.sources.base import LoadedImage
from yolopose.results import Results
from yolopose.runtime import Batch, Runtime
from yolopose.runtime.binding import with_boxes
from yolopose.runtime.nms import Detections, nms
from yolopose.schema import PoseSpec

# Batches are formed within a window of this many batches, so that images of the same input size are in the same batch.
_WINDOW = 4


def window_size(batch: int) -> int:
    """Return how many consecutive images are loaded before batches are formed."""
    return batch if batch == 1 else _WINDOW * batch


@dataclass(frozen=True, slots=True)
class InferenceBatch:
    """Images of one input size that go through the network in one call.

    Attributes:
        positions: position of each image in its window.
        images: the images.
        letterboxes: position of each image in the network input.
    """

    positions: list[int]
    images: list[LoadedImage]
    letterboxes: list[Letterbox]

    @property
    def paths(self) -> list[str]:
        """Paths of the images."""
        return [image.path for image in self.images]

    def predict(self, runtime: Runtime, settings: PredictSettings) -> list[Results]:
        """Run the network and return one result per image."""
        start = perf_counter()
        batch = self.network_input(runtime.metadata.spec.channels)
        preprocessed = perf_counter()
        engine = self._bind_boxes(runtime, settings)
        candidates = engine.infer(batch, conf=settings.conf, classes=settings.classes)
        inferred = perf_counter()
        detections = nms(
            candidates, len(batch), iou=settings.iou, max_det=settings.max_det, agnostic=settings.agnostic_nms
        )
        results = [
            _make_result(runtime, *parts) for parts in zip(self.images, self.letterboxes, detections, strict=True)
        ]
        seconds = {
            "preprocess": preprocessed - start,
            "inference": inferred - preprocessed,
            "postprocess": perf_counter() - inferred,
        }
        for result in results:
            result.speed = {phase: 1000 * value / len(batch) for phase, value in seconds.items()}
        return results

    def _bind_boxes(self, runtime: Runtime, settings: PredictSettings) -> Runtime:
        """Return the engine, bound to the given boxes of these images if there are any."""
        if settings.given_boxes is None:
            return runtime
        table: BoxTable = settings.given_boxes
        boxes = [
            table.of_image(path, letterbox.source) for path, letterbox in zip(self.paths, self.letterboxes, strict=True)
        ]
        return with_boxes(runtime, boxes)

    def network_input(self, channels: int) -> Batch:
        """Return the images as (B, C, H, W), letterboxed uint8 or the given float32 tensors."""
        tensors = [image.tensor for image in self.images if image.tensor is not None]
        if tensors:
            return np.stack(tensors)
        return letterbox_batch([image.image for image in self.images], self.letterboxes, channels)


class ImageWindow:
    """Consecutive images of a source, their batches, and their results in the order of the source.

    Args:
        images: the images; those with an error get an empty result and are not part of a batch.
        spec: classes and keypoints of the network.
        settings: settings of the run.

    Attributes:
        batches: all batches, ordered by their first image.

    Raises:
        UsageError: a tensor of a size that the network does not accept.
    """

    def __init__(self, images: Sequence[LoadedImage], spec: PoseSpec, settings: PredictSettings) -> None:
        self._results: list[Results | None] = [_error_result(image, spec) if image.error else None for image in images]
        self._input_sizes = [(0, 0)] * len(images)
        self._next = 0
        groups: dict[tuple[bool, tuple[int, int]], InferenceBatch] = {}
        self.batches: list[InferenceBatch] = []
        for position, image in enumerate(images):
            if image.error:
                continue
            letterbox = fit_image(image, settings)
            self._input_sizes[position] = letterbox.out
            # Tensors are float32 and letterboxed images uint8, so they never share a batch.
            key = image.tensor is None, letterbox.out
            batch = groups.get(key)
            if batch is None or len(batch.images) == settings.batch:
                batch = groups[key] = InferenceBatch([], [], [])
                self.batches.append(batch)
            batch.positions.append(position)
            batch.images.append(image)
            batch.letterboxes.append(letterbox)

    def set_results(self, batch: InferenceBatch, results: Sequence[Results]) -> None:
        """Store the results of a batch."""
        for position, result in zip(batch.positions, results, strict=True):
            self._results[position] = result

    def take_ready(self) -> Iterator[tuple[Results, tuple[int, int]]]:
        """Yield (result, (height, width) of its network input) in source order, up to the first missing result."""
        while self._next < len(self._results) and (result := self._results[self._next]) is not None:
            self._results[self._next] = None  # `stream=True` keeps one result in memory at a time
            self._next += 1
            yield result, self._input_sizes[self._next - 1]


def fit_image(image: LoadedImage, settings: PredictSettings) -> Letterbox:
    """Return the position of an image in the network input; a tensor is the input itself.

    Raises:
        UsageError: a tensor of a size that the network does not accept.
    """
    size = image.full_size or (image.image.shape[0], image.image.shape[1])
    if settings.native_size or image.tensor is None:
        return fit_size(
            size, settings.imgsz, rect=settings.rect, stride=settings.stride, native_size=settings.native_size
        )
    if not settings.rect and size != settings.imgsz:
        raise UsageError(
            f"This network accepts only inputs of {settings.imgsz[0]} × {settings.imgsz[1]}, but the tensor is "
            f"{size[0]} × {size[1]}. Resize or pad it, or pass a numpy array, which is letterboxed."
        )
    return Letterbox.fit(size, size)


def fit_size(size: tuple[int, int], imgsz: tuple[int, int], *, rect: bool, stride: int, native_size: bool) -> Letterbox:
    """Return the position of an image of a size in the network input.

    Args:
        size: (height, width) of the image.
        imgsz: (height, width) of the network input.
        rect: whether the input may be smaller than `imgsz`, in multiples of the stride.
        stride: stride of the network.
        native_size: whether the engine takes images at their own size, see `ModelMetadata.native_size`.
    """
    if native_size:
        return Letterbox.fit(size, size)
    return Letterbox.fit(size, imgsz, auto=rect, stride=stride)


def _error_result(image: LoadedImage, spec: PoseSpec) -> Results:
    return Results.unreadable(image.path, spec.names, image.error or "", schema=spec.keypoints, frame=image.frame)


def _make_result(runtime: Runtime, image: LoadedImage, letterbox: Letterbox, detections: Detections) -> Results:
    spec = runtime.metadata.spec
    boxes = letterbox.boxes_to_source(detections.boxes)
    points = letterbox.points_to_source(detections.points)
    sigmas = None if detections.sigmas is None else letterbox.lengths_to_source(detections.sigmas)
    return Results(
        # An image that was decoded at a reduced scale is read again at full size if its pixels are needed.
        image.image if image.full_size is None else partial(read_image, image.path),
        image.path,
        spec.names,
        orig_shape=letterbox.source,
        boxes=runtime.to_array(np.column_stack((boxes, detections.scores, detections.classes)).astype(np.float32)),
        keypoints=runtime.to_array(points.astype(np.float32)),
        schema=spec.keypoints,
        frame=image.frame,
        sigmas=None if sigmas is None else runtime.to_array(sigmas),
        visible=None if detections.visible is None else runtime.to_array(detections.visible),
    )
