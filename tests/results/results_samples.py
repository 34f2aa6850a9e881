"""Two people and a dog, and the kinds of arrays that results may hold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from yolopose.results import HostArray
from yolopose.schema import KeypointSchema

NAMES = {0: "person", 1: "dog"}
KINDS: dict[str, Callable[[np.ndarray], Any]] = {
    "numpy": np.array,
    "host": lambda values: HostArray(np.array(values)),
    "torch": lambda values: torch.from_numpy(np.array(values)),
}
BOXES = np.array(
    [[10, 20, 60, 90, 0.91234, 0], [20.123456, 30, 50, 70, 0.5, 1], [100, 10, 180, 80, 0.3, 0]], np.float32
)
POINTS = np.array(
    [
        [[15.5, 30.25, 0.9], [40, 50, 0.1], [55, 85, 0.6]],
        [[25, 35, 0.8], [30, 45, 0.7], [45, 65, 0.95]],
        [[110, 20, 0.99], [140, 45, 0.4], [170, 70, 0.26]],
    ],
    np.float32,
)
SCHEMA = KeypointSchema(count=3, names={0: ("left_ear", "nose", "right_ear")}, skeleton=((0, 1), (1, 2)))
