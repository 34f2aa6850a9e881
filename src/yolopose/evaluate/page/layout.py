"""Where the keypoints of an object are drawn: a figure for persons, and an example from the data for all else."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from yolopose.evaluate.places import unpacked
from yolopose.evaluate.record import Record
from yolopose.results.palette import drawing_schema
from yolopose.schema import COCO_PERSON_NAMES, KeypointSchema

Places = list[list[float] | None]
_EXAMPLES = 500  # truths among which an example is looked for
# a person who faces us, with a head large enough to tell its points apart; left is on our right
_PERSON = {
    "nose": (50, 40), "left_eye": (63, 24), "right_eye": (37, 24), "left_ear": (80, 34), "right_ear": (20, 34),
    "left_shoulder": (76, 66), "right_shoulder": (24, 66), "left_elbow": (92, 98), "right_elbow": (8, 98),
    "left_wrist": (100, 132), "right_wrist": (0, 132), "left_hip": (66, 132), "right_hip": (34, 132),
    "left_knee": (70, 172), "right_knee": (30, 172), "left_ankle": (72, 212), "right_ankle": (28, 212),
}  # fmt: skip


def figure_of(schema: KeypointSchema, class_names: dict[int, str], cls: int) -> tuple[KeypointSchema, bool]:
    """Return names and edges to draw an object of a class with, and whether it is a person with COCO's 17 points."""
    found = drawing_schema(schema, schema.count, class_names)
    person = found.keypoint_names(cls) == COCO_PERSON_NAMES
    if person and not found.skeleton:
        found = KeypointSchema.coco_person()
    return found, person


def edges_of(schema: KeypointSchema) -> list[list[int]]:
    """Return the edges of a skeleton as plain lists."""
    return [list(edge) for edge in schema.skeleton]


def person_places() -> Places:
    """Return x and y of the 17 points of a person."""
    return [list(map(float, _PERSON[name])) for name in COCO_PERSON_NAMES]


def example_places(record: Record, chosen: npt.NDArray[np.bool_]) -> Places:
    """Return x and y of each point of an object of the data: one with many labeled points, far from each other.

    Points that it lacks lie where they lie in others on the average; None where no object has them.

    Args:
        record: the run.
        chosen: (N,) the truths that may be taken.
    """
    rows = np.flatnonzero(chosen)
    labeled = record.truth_seen[rows] != 0
    rows = rows[np.argsort(-labeled.sum(axis=1), kind="stable")][:_EXAMPLES]
    if not len(rows):
        return [None] * record.truth_seen.shape[1]
    labeled = record.truth_seen[rows] != 0
    places = np.stack([unpacked(record.truth_place[row], record.size[record.truth_image[row]]) for row in rows])
    boxes = np.stack([unpacked(record.truth_box[row], record.size[record.truth_image[row]]) for row in rows])
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 1e-6)
    complete = labeled.sum(axis=1) == labeled.sum(axis=1).max()
    clear = [_spread(place[keep], side) if whole else -1.0 for place, keep, side, whole in zip(
        places, labeled, sides, complete, strict=True
    )]  # fmt: skip
    best = int(np.argmax(clear))
    shares = np.where(labeled[..., None], (places - boxes[:, None, :2]) / sides[:, None], np.nan)
    known = labeled.any(axis=0)
    usual = np.zeros(shares.shape[1:])
    usual[known] = np.nanmean(shares[:, known], axis=0)
    here = np.where(labeled[best][:, None], shares[best], usual) * sides[best] / sides[best].max() * 200
    return [place if fine else None for place, fine in zip(here.round(1).tolist(), known.tolist(), strict=True)]


def _spread(places: npt.NDArray[Any], side: npt.NDArray[Any]) -> float:
    """Mean distance of each point from its nearest, as a share of the box diagonal."""
    if len(places) < 2:
        return 0.0
    apart = np.linalg.norm(places[:, None] - places[None], axis=-1)
    np.fill_diagonal(apart, np.inf)
    return float(apart.min(axis=1).mean() / np.linalg.norm(side))
