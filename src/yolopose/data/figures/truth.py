"""The truth about a painted figure: its box, how much of it is seen, and which of its points."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from yolopose.data.figures.body import Array
from yolopose.data.figures.paint import FACE, HEAD, SHIFT, TORSO, Figure, fixed, owner, owner_of
from yolopose.schema import COCO_PERSON_NAMES

Owners = npt.NDArray[np.int32]
_CARRIERS = {
    "shoulder": ("upper_arm",), "elbow": ("upper_arm", "forearm"), "wrist": ("forearm", "hand"), "hip": ("thigh",),
    "knee": ("thigh", "shin"), "ankle": ("shin", "foot"),
}  # fmt: skip


def box_of(figure: Figure, width: int, height: int) -> Array:
    """(4,) x1, y1, x2, y2 tight around all of a figure that is inside the image, what is hidden there too.

    A figure wholly outside gives zeros.
    """
    every = np.concatenate([part.outline for part in figure.parts])
    image = np.array([[0, 0], [width, 0], [width, height], [0, height]], dtype=np.float32)
    if every.min() < 0 or (every > (width, height)).any():
        cut = [cv2.intersectConvexConvex(part.outline.astype(np.float32), image) for part in figure.parts]
        inside = [np.asarray(outline).reshape(-1, 2) for area, outline in cut if area > 0]
        every = np.concatenate([np.empty((0, 2)), *inside])
        if not len(every):
            return np.zeros(4)
    return np.concatenate((every.min(axis=0), every.max(axis=0))).clip(0, (width, height, width, height))


def seen_share(figure: Figure, number: int, owners: Owners) -> float:
    """How much of a figure's area is seen in the image, 0…1; what is beyond the edge counts as not seen.

    Args:
        figure: the figure.
        number: its number in the image.
        owners: (H, W) map of who owns each pixel.
    """
    every = np.concatenate([part.outline for part in figure.parts])
    corner = np.floor(every.min(axis=0)) - 1
    width, height = (np.ceil(every.max(axis=0)) + 1 - corner).astype(int)
    alone = np.zeros((height, width), dtype=np.uint8)
    for part in figure.parts:
        cv2.fillConvexPoly(alone, fixed(part.outline - corner), 1, cv2.LINE_8, SHIFT)
    seen = np.count_nonzero((owners >= owner(number, 0)) & (owners < owner(number + 1, 0)))
    return seen / max(np.count_nonzero(alone), 1)


def visibility(figure: Figure, number: int, owners: Owners) -> npt.NDArray[np.int64]:
    """(17,) 2 where a point is seen, 1 where it is hidden, 0 outside the image.

    A point is seen where a part that it lies on owns its pixel, if it is not on the far side of head or trunk.

    Args:
        figure: the figure.
        number: its number in the image.
        owners: (H, W) map of who owns each pixel.
    """
    height, width = owners.shape
    states = np.zeros(len(COCO_PERSON_NAMES), dtype=np.int64)
    for index, (name, (x, y)) in enumerate(zip(COCO_PERSON_NAMES, figure.points, strict=True)):
        if 0 <= x < width and 0 <= y < height:
            who, part = owner_of(int(owners[int(y), int(x)]))
            states[index] = 1 + (who == number and _shows(figure, name, figure.parts[part].name))
    return states


def _shows(figure: Figure, point: str, part: str) -> bool:
    """Whether a point is seen where this part of its own figure is on top."""
    at, body = figure.body.at, figure.body
    side, _, joint = point.rpartition("_")
    if joint in ("nose", "eye", "ear"):
        nearer = float((at[point] - at["head"])[2]) / body.head
        return part in (HEAD, FACE) and nearer > (-0.25 if joint == "ear" else 0.05)
    if part in [f"{side}_{carrier}" for carrier in _CARRIERS[joint]]:
        return True
    # on the trunk a joint is seen from its own side, and from straight ahead or behind
    trunk = at["neck"] if joint == "shoulder" else at["pelvis"]
    return part == TORSO and joint in ("shoulder", "hip") and float(at[point][2] - trunk[2]) > -0.045
