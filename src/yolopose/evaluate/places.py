"""Where truths and detections lie in their pictures, in few bytes: what pictures with poses are drawn from later."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from yolopose.data.labels import ImageLabels
from yolopose.geometry import Letterbox
from yolopose.predict.nms import Detections

SHOWN = 0.1
"""Score from which on the places of a detection are kept; as many as there are truths are kept whatever their score."""
_MORE = 10  # kept at most beyond twice as many as there are truths, so that a run stays small whatever is found
_STEPS = 65535  # a share of a side in 16 bits: a sixteenth of a pixel in a picture of 4000


def packed(places: npt.NDArray[Any], size: tuple[int, int]) -> npt.NDArray[np.uint16]:
    """Returns x, y (last axis, in pairs) as shares of a picture's sides; what lies outside is moved to the edge.

    Args:
        places: (..., 2·n) pixels.
        size: (height, width) of the picture.
    """
    sides = np.tile(np.array(size[::-1], dtype=np.float32), places.shape[-1] // 2)
    shares = np.nan_to_num(places / sides, posinf=1.0)  # training may measure a network that went astray
    return np.rint(np.clip(shares, 0, 1) * _STEPS).astype(np.uint16)


def unpacked(shares: npt.NDArray[np.uint16], size: tuple[int, int] | npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
    """Returns the pixels that `packed` was given."""
    sides = np.tile(np.array([size[1], size[0]], dtype=np.float32), shares.shape[-1] // 2)
    return (shares.astype(np.float32) * (sides / _STEPS)).astype(np.float32)


def truth_places(truth: ImageLabels, letterbox: Letterbox) -> dict[str, npt.NDArray[Any]]:
    """The columns of `Record` that say where the truths of a picture lie.

    Args:
        truth: objects in network-input pixels.
        letterbox: where the picture lies in the input.
    """
    return {
        "truth_box": packed(letterbox.boxes_to_source(truth.boxes), letterbox.source),
        "truth_place": packed(letterbox.points_to_source(truth.keypoints[..., :2]), letterbox.source),
        "truth_seen": truth.keypoints[..., 2],
    }


def detection_places(found: Detections, truths: int, letterbox: Letterbox) -> dict[str, npt.NDArray[Any]]:
    """The columns of `Record` that say where the better detections of a picture lie.

    Args:
        found: detections by falling score, network-input pixels.
        truths: number of truths in the picture.
        letterbox: where the picture lies in the input.
    """
    count = min(max(int((found.scores >= SHOWN).sum()), truths), 2 * truths + _MORE, len(found.scores))
    points = found.points[:count]
    seen = points[..., 2] if points.shape[-1] == 3 else np.ones(points.shape[:2])
    return {
        "drawn": np.arange(count),
        "drawn_box": packed(letterbox.boxes_to_source(found.boxes[:count]), letterbox.source),
        "drawn_place": packed(letterbox.points_to_source(points[..., :2]), letterbox.source),
        "drawn_seen": np.rint(np.clip(np.nan_to_num(seen), 0, 1) * 255),
    }
