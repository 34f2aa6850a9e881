"""What a layout provides, and what the modules of layouts have in common."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from yolopose.foreign.graph import Graph
from yolopose.schema import PoseSpec

Image = npt.NDArray[np.uint8]
Float32 = npt.NDArray[np.float32]

IMAGENET_MEAN = (123.675, 116.28, 103.53)  # red, green, blue, 0…255
IMAGENET_STD = (58.395, 57.12, 57.375)


@dataclass(frozen=True, slots=True)
class Poses:
    """The poses of one image, in its pixels.

    Attributes:
        boxes: (n, 4) float32 x1, y1, x2, y2.
        scores: (n,) float32, 0…1.
        points: (n, K, D) float32 x, y and, with D = 3, a confidence.
    """

    boxes: Float32
    scores: Float32
    points: Float32

    @classmethod
    def none(cls, spec: PoseSpec) -> Poses:
        """Return no poses."""
        shape = (0, *spec.keypoints.shape)
        return cls(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(shape, np.float32))


class Estimator(Protocol):
    """Estimates the poses of an image with a graph.

    Attributes:
        spec: classes and keypoints.
        imgsz: (height, width) of the network input, pixels.
        nms_done: whether duplicates are suppressed already.
    """

    spec: PoseSpec
    imgsz: tuple[int, int]
    nms_done: bool

    def estimate(self, image: Image, conf: float) -> Poses:
        """Return the poses with a score above `conf`.

        Args:
            image: (H, W, 3) BGR.
            conf: exclusive lower limit of the scores.
        """
        ...


class BoxEstimator(Estimator, Protocol):
    """An estimator that is given the boxes of the instances (top-down)."""

    def estimate_in(self, image: Image, boxes: Float32) -> Poses:
        """Return one pose for each box.

        Args:
            image: (H, W, 3) BGR.
            boxes: (n, 5) x1, y1, x2, y2, score; pixels.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocessing:
    """How the pixels of an image become the input of a network.

    Attributes:
        channels: order of the channels, `rgb` or `bgr`.
        mean: subtracted from each channel, in their order; 0…255.
        std: divides each channel.
    """

    channels: str = "rgb"
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def apply(self, image: Image) -> Float32:
        """Return an image (H, W, 3) BGR as (3, H, W) float32."""
        pixels = image[..., ::-1] if self.channels == "rgb" else image
        mean, std = np.array(self.mean, np.float64), np.array(self.std, np.float64)
        return np.ascontiguousarray(((pixels - mean) / std).transpose(2, 0, 1), dtype=np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFile:
    """An opened file, from which a layout makes its estimator.

    Attributes:
        graph: the graph of the file; of a bundle, that of the keypoints.
        name: what error messages call it.
        spec_for: returns classes and keypoints for (K, D) and the name of the default schema; "" for that of K.
        preprocessing: that of the model's row in the table; None for the default of the layout.
        detector: graph of the first stage, if the file has two.
    """

    graph: Graph
    name: str
    spec_for: Callable[[int, int, str], PoseSpec]
    preprocessing: Preprocessing | None = None
    detector: Graph | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """An output layout.

    Attributes:
        name: name in `zoo/models_foreign.yaml`.
        title: for messages.
        signature: inputs and outputs by which it is recognized, for messages.
        matches: whether a graph has this layout.
        make: makes the estimator of a file.
        first_stage: whether a graph is the detector of a two-stage model of this layout.
    """

    name: str
    title: str
    signature: str
    matches: Callable[[Graph], bool]
    make: Callable[[ModelFile], Estimator]
    first_stage: Callable[[Graph], bool] = field(default=lambda _graph: False)


def extent(points: Float32) -> Float32:
    """Return (n, 4) the smallest box around the points (n, K, 2 or 3) of each instance."""
    if not len(points):
        return np.zeros((0, 4), np.float32)
    xy = points[..., :2]
    return np.concatenate((xy.min(axis=1), xy.max(axis=1)), axis=1).astype(np.float32)
