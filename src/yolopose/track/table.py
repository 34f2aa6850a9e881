"""The tracks of a tracker as arrays, one row per track, so that each step is a few operations over all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from yolopose.base.errors import UsageError
from yolopose.track.association import BoolArray
from yolopose.track.frames import FloatArray, IntArray
from yolopose.track.motion import MotionState, move, new_states, to_measurement


@dataclass(slots=True)
class TrackTable:
    """T tracks.

    Attributes:
        ids: (T,) track id; 0 while a track is tentative.
        classes: (T,) class of the last detection.
        hits: (T,) number of observations.
        evidence: (T,) sum of the squared scores of the observations.
        active: (T,) whether the track was observed in the last frame.
        lost: (T,) time since the last observation, in steps of 1/30 second.
        mean, cov: filter states now, as in `MotionState`.
        seen_mean, seen_cov: filter states after the last observation.
        boxes: (T, 4) corners of the last observation.
        points: (T, K, 3) x, y, confidence of the last observation.
        past: (T, P, 2) centers of the last P observations, the oldest first.
    """

    ids: IntArray
    classes: IntArray
    hits: IntArray
    evidence: FloatArray
    active: BoolArray
    lost: FloatArray
    mean: FloatArray
    cov: FloatArray
    seen_mean: FloatArray
    seen_cov: FloatArray
    boxes: FloatArray
    points: FloatArray
    past: FloatArray

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def of_detections(
        cls, boxes: FloatArray, scores: FloatArray, classes: IntArray, points: FloatArray, past: int
    ) -> TrackTable:
        """Return tentative tracks that start with detections.

        Args:
            boxes: (N, 4) corners.
            scores: (N,) scores.
            classes: (N,) class indices.
            points: (N, K, 3) keypoints.
            past: P, number of remembered centers.
        """
        count = len(boxes)
        states = new_states(boxes)
        centers = to_measurement(boxes)[:, None, :2]
        return cls(
            ids=np.zeros(count, np.int64),
            classes=classes.copy(),
            hits=np.ones(count, np.int64),
            evidence=scores**2,
            active=np.ones(count, np.bool_),
            lost=np.zeros(count),
            mean=states.mean,
            cov=states.cov,
            seen_mean=states.mean.copy(),
            seen_cov=states.cov.copy(),
            boxes=boxes.copy(),
            points=points.copy(),
            past=np.repeat(centers, past, axis=1),
        )

    @classmethod
    def empty(cls, keypoints: int, past: int) -> TrackTable:
        """Return a table without tracks."""
        nothing = np.zeros(0)
        return cls.of_detections(np.zeros((0, 4)), nothing, nothing.astype(np.int64), np.zeros((0, keypoints, 3)), past)

    @property
    def confirmed(self) -> BoolArray:
        """(T,) whether a track has an id."""
        return self.ids > 0

    @property
    def states(self) -> MotionState:
        """Filter states now."""
        return MotionState(self.mean, self.cov)

    @property
    def seen_states(self) -> MotionState:
        """Filter states after the last observation."""
        return MotionState(self.seen_mean, self.seen_cov)

    def select(self, rows: BoolArray) -> TrackTable:
        """Return the tracks for which `rows` is True."""
        return TrackTable(*(getattr(self, name)[rows] for name in _NAMES))

    def append(self, other: TrackTable) -> TrackTable:
        """Return the tracks of both tables."""
        return TrackTable(*(np.concatenate((getattr(self, name), getattr(other, name))) for name in _NAMES))

    def move(self, matrix: FloatArray) -> None:
        """Move all tracks with the camera.

        Args:
            matrix: (2, 3) affine transform of the pixels.
        """
        states = move(self.states, matrix)
        seen = move(self.seen_states, matrix)
        self.mean, self.cov = states.mean, states.cov
        self.seen_mean, self.seen_cov = seen.mean, seen.cov
        scale = np.hypot(matrix[0, :2], matrix[1, :2])
        half = (self.boxes[:, 2:] - self.boxes[:, :2]) / 2 * scale
        center = _transform((self.boxes[:, :2] + self.boxes[:, 2:]) / 2, matrix)
        self.boxes = np.concatenate((center - half, center + half), axis=1)
        self.points[..., :2] = _transform(self.points[..., :2], matrix)
        self.past = _transform(self.past, matrix)

    def state_dict(self) -> dict[str, Any]:
        """Return plain lists by name."""
        return {"keypoints": self.points.shape[1], **{name: getattr(self, name).tolist() for name in _NAMES}}

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Any], past: int) -> TrackTable:
        """Restore a table.

        Raises:
            UsageError: a column is missing or has the wrong shape.
        """
        table = cls.empty(int(state["keypoints"]), past)
        count = len(state["ids"])
        columns: dict[str, npt.NDArray[Any]] = {}
        for name in _NAMES:
            template: npt.NDArray[Any] = getattr(table, name)
            try:
                columns[name] = np.asarray(state[name], template.dtype).reshape(count, *template.shape[1:])
            except (KeyError, TypeError, ValueError) as error:
                raise UsageError(
                    f"The state of a tracker is damaged: its column {name!r} is missing or has the wrong shape."
                ) from error
        return cls(**columns)


_NAMES = tuple(field.name for field in fields(TrackTable))


def _transform(points: FloatArray, matrix: FloatArray) -> FloatArray:
    """Return (..., 2) points transformed by a (2, 3) affine matrix."""
    return points @ matrix[:, :2].T + matrix[:, 2]
