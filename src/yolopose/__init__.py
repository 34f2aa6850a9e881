"""yolopose: pose estimation with YOLO networks.

Importing the package loads no other library; each name is loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from yolopose._version import __version__

if TYPE_CHECKING:
    from yolopose.evaluate import PoseMetrics
    from yolopose.model import YOLO
    from yolopose.results import Boxes, Keypoints, Results

__all__ = ["YOLO", "Boxes", "Keypoints", "PoseMetrics", "Results", "__version__"]

_PACKAGES = {
    "YOLO": "model",
    "Boxes": "results",
    "Keypoints": "results",
    "Results": "results",
    "PoseMetrics": "evaluate",
}


def __getattr__(name: str) -> Any:
    if name in _PACKAGES:
        from yolopose.base.opencv import check_opencv

        check_opencv()  # all of them import it
        return getattr(import_module(f"yolopose.{_PACKAGES[name]}"), name)
    raise AttributeError(f"module 'yolopose' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
