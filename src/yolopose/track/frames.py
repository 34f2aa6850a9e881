"""What a tracker takes and returns for one frame, and the interface of all trackers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from yolopose.base.errors import UsageError
from yolopose.results import Keypoints
from yolopose.results.arrays import to_numpy

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class TrackDetections:
    """The detections of one frame.

    Attributes:
        boxes: (N, 4) float64 x1, y1, x2, y2, pixels.
        scores: (N,) float64 confidence, 0…1.
        classes: (N,) int64 class indices.
        keypoints: (N, K, 3) float64 x, y, pixels, and confidence; None without keypoints.
        time: seconds since the start of the sequence; None for one frame interval after the previous frame.
        image: (H, W, 3) uint8 BGR, which only camera-motion compensation reads; None if not available.
        shape: (height, width) of the image, pixels; None if unknown. Tracks are rescaled if it changes.

    Raises:
        UsageError: arrays of different lengths or of the wrong shape.

    Examples:
        >>> from yolopose.track import TrackDetections
        >>> detections = TrackDetections.of(boxes=[[10, 20, 60, 120]], scores=[0.9], time=0.0)
        >>> len(detections), detections.classes.tolist()
        (1, [0])
    """

    boxes: FloatArray
    scores: FloatArray
    classes: IntArray
    keypoints: FloatArray | None = None
    time: float | None = None
    image: npt.NDArray[np.uint8] | None = None
    shape: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        count = len(self.boxes)
        shapes = (self.boxes.shape, self.scores.shape, self.classes.shape)
        points = self.keypoints
        if shapes != ((count, 4), (count,), (count,)) or (
            points is not None and (points.ndim != 3 or len(points) != count or points.shape[2] != 3)
        ):
            raise UsageError(
                "Detections of a frame are boxes (N, 4), scores (N,), classes (N,) and keypoints (N, K, 3) or None; "
                f"got shapes {', '.join(map(str, shapes))} and {None if points is None else points.shape}."
            )

    def __len__(self) -> int:
        return len(self.boxes)

    @classmethod
    def of(
        cls,
        boxes: Any,
        scores: Any,
        classes: Any = None,
        keypoints: Any = None,
        *,
        time: float | None = None,
        image: npt.NDArray[np.uint8] | None = None,
        shape: tuple[int, int] | None = None,
    ) -> TrackDetections:
        """Make detections of lists or arrays of any numeric type.

        Args:
            boxes: (N, 4) corners, pixels.
            scores: (N,) confidence.
            classes: (N,) class indices; all 0 by default.
            keypoints: (N, K, 2 or 3), pixels; points without confidence get 1. None without keypoints.
            time: see the attributes.
            image: see the attributes.
            shape: see the attributes; by default that of `image`.

        Raises:
            UsageError: arrays of different lengths or of the wrong shape.
        """
        corners = np.asarray(boxes, np.float64)
        corners = corners if corners.size else np.zeros((0, 4))
        indices = np.zeros(len(corners), np.int64) if classes is None else np.asarray(classes, np.int64)
        points = None if keypoints is None else np.asarray(keypoints, np.float64)
        if points is not None and points.ndim == 3 and points.shape[2] == 2:
            points = np.concatenate((points, np.ones((*points.shape[:2], 1))), axis=2)
        if shape is None and image is not None:
            shape = image.shape[0], image.shape[1]
        return cls(corners, np.asarray(scores, np.float64), indices, points, time, image, shape)


@dataclass(frozen=True, slots=True, eq=False)
class TrackedFrame:
    """The tracks of one frame, in the order of its detections.

    Attributes:
        ids: (N,) int64 track id of each detection, from 1; 0 for a detection without a track.

    Examples:
        >>> import numpy as np
        >>> from yolopose.track import TrackedFrame
        >>> TrackedFrame(np.array([3, 0])).tracked.tolist()
        [True, False]
    """

    ids: IntArray

    @property
    def tracked(self) -> npt.NDArray[np.bool_]:
        """(N,) whether a detection has a track."""
        return self.ids > 0


class Tracker(ABC):
    """Assigns detections of consecutive frames to tracks. One object per video or stream: ids start at 1 in each.

    Examples:
        >>> from yolopose.track import TrackDetections, make_tracker
        >>> tracker = make_tracker("bytetrack.yaml", fps=30)  # extra `track`
        >>> [tracker.update(TrackDetections.of([[x, 20, x + 50, 120]], [0.9])).ids.tolist() for x in (10, 12, 14)]
        [[1], [1], [1]]
    """

    @abstractmethod
    def update(self, detections: TrackDetections) -> TrackedFrame:
        """Process the next frame; call it for frames without detections, too.

        Boxes and keypoints of the detections are never changed: what was measured is what is reported.
        """

    @abstractmethod
    def reset(self) -> None:
        """Remove all tracks; the next track has id 1."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Return the whole state as plain values, which JSON can store without loss."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state; the following frames get the ids that they would have got without the interruption.

        Raises:
            UsageError: it is not the state of such a tracker.
        """


def keypoint_rows(keypoints: Keypoints) -> npt.NDArray[np.float64]:
    """Return (N, K, 3) points of results: confidence 1 where the network has none, 0 for those that the class lacks.

    Args:
        keypoints: those of the instances of a frame.
    """
    points = to_numpy(keypoints.data).astype(np.float64)
    if points.shape[2] == 3:
        return points
    mask = np.ones(points.shape[:2]) if keypoints.mask is None else to_numpy(keypoints.mask).astype(np.float64)
    return np.concatenate((points, mask[..., None]), axis=2)
