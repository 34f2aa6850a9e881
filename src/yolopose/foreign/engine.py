"""`ForeignRuntime`: an estimator of a foreign layout as an engine of yolopose."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from yolopose.foreign.layout import Estimator, Float32, Image, Poses
from yolopose.results import HostArray
from yolopose.runtime import Batch, Candidates
from yolopose.schema import KeypointSchema, ModelMetadata, PoseSpec

BoxSource = Callable[[Image, float], Float32]
"""Returns (n, 5) boxes x1, y1, x2, y2, score in an image (H, W, 3) BGR, above a score."""

_MIN_DETECTION = 0.05  # of boxes in which a top-down network runs


class ForeignRuntime:
    """Runs a network of another package; implements `yolopose.runtime.Runtime`.

    A batch holds images at their own size (`ModelMetadata.native_size`), and candidates are in their pixels.

    Args:
        estimator: the network.
        metadata: its metadata.
        device: name of the device.
        detector: finds the boxes for a top-down network; None if it needs none, or none is known.

    Attributes:
        metadata: classes, keypoints and input size.
        device: name of the device.
        needs_boxes: whether the network estimates poses in given boxes.
    """

    def __init__(
        self, estimator: Estimator, metadata: ModelMetadata, device: str, detector: BoxSource | None = None
    ) -> None:
        self.metadata = metadata
        self.device = device
        self.needs_boxes = hasattr(estimator, "estimate_in")
        self._estimator = estimator
        self._detector = detector
        self._boxes: Sequence[Float32] | None = None
        self._selected: list[int] | None = None

    def infer(
        self,
        batch: Batch,
        *,
        conf: float,
        max_nms: int = 30_000,
        classes: Sequence[int] | None = None,
        multi_label: bool = False,
    ) -> Candidates:
        """Estimate the poses of all images; see `yolopose.runtime.Runtime.infer`.

        Raises:
            UsageError: a top-down network has no boxes.
        """
        del max_nms, multi_label
        poses = [self._estimate(to_image(planes), index, conf) for index, planes in enumerate(batch)]
        if classes is not None and 0 not in classes:
            poses = [Poses.none(self._estimator.spec) for _ in poses]
        counts = [len(item.scores) for item in poses]
        return Candidates(
            boxes=np.concatenate([item.boxes for item in poses]),
            scores=np.concatenate([item.scores for item in poses]),
            classes=np.zeros(sum(counts), np.int64),
            points=self._select(np.concatenate([item.points for item in poses])),
            batch_idx=np.repeat(np.arange(len(counts)), counts),
            nms_done=self._estimator.nms_done,
        )

    def to_array(self, array: npt.NDArray[Any]) -> HostArray:
        """Return a host array with the common methods of a tensor."""
        return HostArray(array)

    def with_boxes(self, boxes: Sequence[Float32]) -> ForeignRuntime:
        """Return an engine that estimates poses in given boxes.

        Args:
            boxes: for each image of the next batch, (n, 5) x1, y1, x2, y2, score in pixels.
        """
        bound = self._copy()
        bound._boxes = boxes
        return bound

    def select_keypoints(self, indices: Sequence[int], schema: KeypointSchema) -> ForeignRuntime:
        """Return an engine that returns some of the keypoints, in a given order, with another schema.

        Keypoints have confidence 1 if the schema has a third value and the network none.
        """
        bound = self._copy()
        bound._selected = list(indices)
        spec = PoseSpec(classes=self.metadata.spec.classes, keypoints=schema)
        bound.metadata = replace(self.metadata, spec=spec)
        return bound

    def _copy(self) -> ForeignRuntime:
        copy = object.__new__(ForeignRuntime)
        vars(copy).update(vars(self))
        return copy

    def _select(self, points: Float32) -> Float32:
        if self._selected is None:
            return points
        points = points[:, self._selected, : self.metadata.spec.keypoints.dims]
        missing = self.metadata.spec.keypoints.dims - points.shape[2]
        return np.concatenate((points, np.ones((*points.shape[:2], missing), np.float32)), axis=2)

    def _estimate(self, image: Image, index: int, conf: float) -> Poses:
        estimate_in = getattr(self._estimator, "estimate_in", None)
        if estimate_in is None:
            poses = self._estimator.estimate(image, conf)
        elif self._boxes is not None:
            poses = estimate_in(image, self._boxes[index])
        elif self._detector is not None:
            poses = estimate_in(image, self._detector(image, max(conf, _MIN_DETECTION)))
        else:
            return self._estimator.estimate(image, conf)  # raises the error that names the options
        order = np.argsort(-poses.scores, kind="stable")
        return Poses(poses.boxes[order], poses.scores[order], poses.points[order])


def to_image(planes: npt.NDArray[Any]) -> Image:
    """Return an image of a batch, (3, H, W) RGB uint8 or float 0…1, as (H, W, 3) BGR uint8."""
    if not np.issubdtype(planes.dtype, np.integer):
        planes = np.rint(np.asarray(planes, np.float32) * 255).clip(0, 255)
    red, green, blue = (np.ascontiguousarray(plane, dtype=np.uint8) for plane in planes)
    return np.asarray(cv2.merge([blue, green, red]), np.uint8)


def whole_image(image: Image, conf: float) -> Float32:
    """Return the whole image as the only box; a `BoxSource`."""
    del conf
    return np.array([[0, 0, image.shape[1], image.shape[0], 1]], np.float32)
