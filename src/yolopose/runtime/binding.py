"""Engines that can be bound to given boxes, or return other keypoints: those of networks of other packages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from yolopose.base.errors import UsageError
from yolopose.base.log import LOGGER
from yolopose.runtime.protocol import Runtime
from yolopose.schema import KeypointSchema

Boxes = npt.NDArray[np.float32]


@runtime_checkable
class BoxRuntime(Protocol):
    """An engine that may estimate poses in given boxes (top-down).

    Attributes:
        needs_boxes: whether it does.
    """

    needs_boxes: bool

    def with_boxes(self, boxes: Sequence[Boxes]) -> Runtime:
        """Return an engine bound to the boxes (n, 5) x1, y1, x2, y2, score of each image of the next batch."""
        ...


@runtime_checkable
class SelectiveRuntime(Protocol):
    """An engine that can return some of its keypoints."""

    def select_keypoints(self, indices: Sequence[int], schema: KeypointSchema) -> Runtime:
        """Return an engine that returns the keypoints of these indices, in this order, with another schema."""
        ...


def with_boxes(runtime: Runtime, boxes: Sequence[Boxes]) -> Runtime:
    """Return an engine that estimates poses in the boxes given for each image of the next batch.

    Args:
        runtime: the network.
        boxes: for each image, (n, 5) x1, y1, x2, y2, score in pixels.

    Raises:
        UsageError: the network does not take boxes.
    """
    candidate: Any = runtime
    if not isinstance(candidate, BoxRuntime) or not candidate.needs_boxes:
        name = runtime.metadata.name or "this network"
        raise UsageError(
            f"given_boxes= is for top-down networks, such as rtmpose-m; {name} finds "
            "the instances itself: omit given_boxes=."
        )
    return candidate.with_boxes(boxes)


def match_keypoints(runtime: Runtime, keypoints: KeypointSchema) -> Runtime:
    """Return an engine that returns the keypoints of a data set, selected by name; the same one if that is impossible.

    A network of another package may know more keypoints than the data set: MediaPipe's 33 include the 17 of COCO.

    Args:
        runtime: the network.
        keypoints: those of the data set.
    """
    own = runtime.metadata.spec.keypoints
    candidate: Any = runtime
    if not isinstance(candidate, SelectiveRuntime) or own.shape == keypoints.shape:
        return runtime
    names, wanted = list(own.keypoint_names(0)), keypoints.keypoint_names(0)
    if own.count == keypoints.count:  # they differ only in the third value
        return candidate.select_keypoints(range(own.count), keypoints)
    if not (own.names and keypoints.names and set(wanted) <= set(names)):
        return runtime
    LOGGER.info(f"{len(wanted)} of the {own.count} keypoints of {runtime.metadata.name} are compared, by name.")
    return candidate.select_keypoints([names.index(name) for name in wanted], keypoints)
