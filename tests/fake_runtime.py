"""An engine without a network that detects colored rectangles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from yolopose.config import PredictOptions, PredictSettings, predict_settings
from yolopose.results import HostArray
from yolopose.runtime import Candidates
from yolopose.schema import KeypointSchema, ModelMetadata, PoseSpec

SPEC = PoseSpec(classes=("red", "green"), keypoints=KeypointSchema(count=2, dims=3))


@dataclass
class FakeRuntime:
    """Detects the bounding box of the pixels that are bright in one channel only."""

    metadata: ModelMetadata = field(default_factory=lambda: ModelMetadata(spec=SPEC, name="fake"))
    device: str = "cpu"
    shapes: list[tuple[int, ...]] = field(default_factory=list)
    types: list[Any] = field(default_factory=list)

    def infer(
        self,
        batch: np.ndarray,
        *,
        conf: float,
        max_nms: int = 30_000,
        classes: Sequence[int] | None = None,
        multi_label: bool = False,
    ) -> Candidates:
        self.shapes.append(batch.shape)
        self.types.append(batch.dtype)
        rows: list[tuple[int, int, list[float]]] = []
        for image, planes in enumerate(batch.astype(np.float32) * (1 if batch.dtype == np.uint8 else 255)):
            for cls in range(2) if classes is None else classes:
                others = [channel for channel in range(3) if channel != cls]
                ys, xs = np.nonzero((planes[cls] > 150) & (planes[others].max(axis=0) < 60))
                if len(xs):
                    rows.append((image, cls, [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]))
        boxes = np.array([row[2] for row in rows], np.float32).reshape(-1, 4)
        points = np.stack((boxes[:, :2], boxes[:, 2:]), 1)
        visible = np.full((len(rows), 2, 1), 0.75, np.float32)
        return Candidates(
            boxes=boxes,
            scores=np.full(len(rows), 0.875, np.float32),
            classes=np.array([row[1] for row in rows], np.int64),
            points=np.concatenate((points, visible), 2),
            batch_idx=np.array([row[0] for row in rows], np.int64),
        )

    def to_array(self, array: np.ndarray) -> HostArray:
        return HostArray(array)


def painted(height: int, width: int, box: tuple[int, int, int, int], cls: int = 0) -> np.ndarray:
    """A black BGR image with one rectangle x1 y1 x2 y2 of class red or green."""
    image = np.zeros((height, width, 3), np.uint8)
    image[box[1] : box[3], box[0] : box[2], 2 - cls] = 255
    return image


def settings(**options: Any) -> PredictSettings:
    """Settings of `predict` for the network of `FakeRuntime`, without log lines."""
    return predict_settings(PredictOptions(**{"verbose": False, **options}), FakeRuntime().metadata)
