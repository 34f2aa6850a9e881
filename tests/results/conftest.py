"""Results of one image, in every kind of array that they may hold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from results_samples import BOXES, KINDS, NAMES, POINTS, SCHEMA

from yolopose.results import HostArray, Results


@pytest.fixture(params=list(KINDS))
def kind(request: pytest.FixtureRequest) -> Callable[[np.ndarray], Any]:
    """Make an array of one kind from a numpy array."""
    return KINDS[request.param]


@pytest.fixture
def make() -> Callable[..., Results]:
    """Make a result of a 100 × 200 black image."""

    def result(
        boxes: Any = BOXES, points: Any = POINTS, img: Any = None, kind: Any = HostArray, **more: Any
    ) -> Results:
        img = np.zeros((100, 200, 3), np.uint8) if img is None else img
        boxes = None if boxes is None else kind(np.asarray(boxes, np.float32))
        points = None if points is None else kind(np.asarray(points, np.float32))
        more.setdefault("schema", SCHEMA)
        return Results(img, "folder/bus.jpg", NAMES, boxes=boxes, keypoints=points, **more)

    return result


@pytest.fixture
def tracked() -> np.ndarray:
    """(3, 7) boxes with track ids."""
    return np.insert(BOXES, 4, [7, 3, 12], axis=1)
