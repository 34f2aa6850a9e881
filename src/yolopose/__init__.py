"""yolopose: pose estimation with YOLO networks.

`from yolopose import YOLO` is the whole interface; importing the package loads no torch, and the
class itself is loaded when it is first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from yolopose._version import __version__

if TYPE_CHECKING:
    from yolopose.model import YOLO

__all__ = ["YOLO", "__version__"]


def __getattr__(name: str) -> Any:
    if name == "YOLO":
        from yolopose.model import YOLO

        return YOLO
    raise AttributeError(f"module 'yolopose' has no attribute {name!r}")
