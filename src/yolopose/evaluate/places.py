"""Where truths and detections lie in their images, in few bytes: what images with poses are drawn from later."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from yolopose.data.labels import ImageLabels
from yolopose.geometry import Letterbox
from yolopose.runtime.nms import Detections

SHOWN = 0.1
"""Score from which on the places of a detection are kept; as many as there are truths are kept whatever their score."""
_MORE = 10  # kept at most beyond twice as many as there are truths, so that a run stays small whatever is found
_STEPS = 65535  # a share of a side in 16 bits: a sixteenth of a pixel in an image of 4000


def packed(places: npt.NDArray[Any], letterbox: Letterbox) -> npt.NDArray[np.uint16]:
    """Return points as shares of the sides of their image; what lies outside is moved to the edge.

    Args:
        places: (..., 2) network-input pixels.
        letterbox: where the image lies in the input.
    """
    shift = np.array([letterbox.left, letterbox.top], dtype=np.float32)
    steps = np.array([_STEPS / letterbox.inner[1], _STEPS / letterbox.inner[0]], dtype=np.float32)
    # fmax makes 0 of what is no number: training may measure a network that went astray
    return np.rint(np.fmin(np.fmax((places - shift) * steps, 0), _STEPS)).astype(np.uint16)


def unpacked(shares: npt.NDArray[np.uint16], size: tuple[int, int] | npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
    """Return the pixels that `packed` was given."""
    sides = np.tile(np.array([size[1], size[0]], dtype=np.float32), shares.shape[-1] // 2)
    return (shares.astype(np.float32) * (sides / _STEPS)).astype(np.float32)


def truth_places(truth: ImageLabels, letterbox: Letterbox) -> dict[str, npt.NDArray[Any]]:
    """The columns of `Record` that say where the truths of an image lie.

    Args:
        truth: objects in network-input pixels.
        letterbox: where the image lies in the input.
    """
    box, place = _of_objects(truth.boxes, truth.keypoints, letterbox)
    return {"truth_box": box, "truth_place": place, "truth_seen": truth.keypoints[..., 2]}


def detection_places(found: Detections, truths: int, letterbox: Letterbox) -> dict[str, npt.NDArray[Any]]:
    """The columns of `Record` that say where the better detections of an image lie.

    Args:
        found: detections by falling score, network-input pixels.
        truths: number of truths in the image.
        letterbox: where the image lies in the input.
    """
    count = min(max(int((found.scores >= SHOWN).sum()), truths), 2 * truths + _MORE, len(found.scores))
    points = found.points[:count]
    box, place = _of_objects(found.boxes[:count], points, letterbox)
    seen = np.full(points.shape[:2], 255)
    if points.shape[-1] == 3:
        seen = np.rint(np.fmin(np.fmax(points[..., 2], 0), 1) * 255)
    return {"drawn": np.arange(count), "drawn_box": box, "drawn_place": place, "drawn_seen": seen}


def _of_objects(
    boxes: npt.NDArray[Any], points: npt.NDArray[Any], letterbox: Letterbox
) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.uint16]]:
    """(N, 4) boxes and (N, K, D) points, packed together: images are many, and each call costs."""
    both = packed(np.concatenate((boxes.reshape(-1, 2, 2), points[..., :2]), axis=1), letterbox)
    return both[:, :2].reshape(-1, 4), both[:, 2:]
