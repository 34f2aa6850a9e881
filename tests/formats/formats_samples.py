"""A small network of several classes, and batches for it."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest

SMALL = """
nc: 3
kpt_shape: [5, 2]
backbone:
  - [-1, 1, Conv, [16, 3, 2]]
  - [-1, 1, Conv, [32, 3, 2]]
  - [-1, 1, C2f, [32, True]]
  - [-1, 1, Conv, [64, 3, 2]]
head:
  - [[2, 3], 1, Pose, [nc, kpt_shape]]
"""


def batch_of(count: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 3, height, width), dtype=np.uint8)


def need_openvino() -> None:
    """Skips a module where OpenVINO is not installed; `importorskip` would import it, and it would report that."""
    if find_spec("openvino") is None:
        pytest.skip("openvino is not installed", allow_module_level=True)
