"""`Tracks`: the instances of one video with their ids, as flat arrays; `TrackFrame`: those of one frame."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from yolopose.base.errors import DataError
from yolopose.schema import COCO_PERSON_NAMES, KeypointSchema

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

MAX_FRAME = 100_000_000
"""Largest frame number; 38 days at 30 frames per second."""
NO_ID = -1
"""Id of an instance that belongs to no track."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrackFrame:
    """The instances of one frame.

    Attributes:
        number: frame number from 1.
        ids: (N,) track ids; `NO_ID` without a track.
        boxes: (N, 4) x1, y1, x2, y2, pixels.
        scores: (N,) confidences 0…1.
        classes: (N,) class indices.
        keypoints: (N, K, 3) x, y in pixels and confidence, or visibility of a ground truth; K may be 0.
        raw_keypoints: (N, K, 3) as measured, where `keypoints` are smoothed, else None; NaN in interpolated rows.
        interpolated: (N,) whether the instance was filled into a gap; None for none of them.
        seconds: time since the first frame, or None.

    Examples:
        >>> import numpy as np
        >>> from yolopose.data.tracks import TrackFrame
        >>> frame = TrackFrame(
        ...     number=1, ids=np.array([7]), boxes=np.array([[10.0, 20.0, 60.0, 90.0]]), scores=np.array([0.9]),
        ...     classes=np.array([0]), keypoints=np.zeros((1, 17, 3)),
        ... )
        >>> frame.ids.tolist(), frame.keypoints.shape
        ([7], (1, 17, 3))
    """

    number: int
    ids: Integers
    boxes: Floats
    scores: Floats
    classes: Integers
    keypoints: Floats
    raw_keypoints: Floats | None = None
    interpolated: npt.NDArray[np.bool_] | None = None
    seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tracks:
    """The instances of all frames of one video, sorted by frame number.

    `Tracks.build` sorts and checks them.

    Attributes:
        frames: (N,) frame number of each instance, from 1.
        ids: (N,) track ids; `NO_ID` without a track.
        boxes: (N, 4) x1, y1, x2, y2, pixels.
        scores: (N,) confidences 0…1.
        classes: (N,) class indices.
        keypoints: (N, K, 3) x, y in pixels and confidence (in a ground truth visibility: 0 is not labeled); K may be 0.
        raw_keypoints: (N, K, 3) as measured, where `keypoints` are smoothed, else None; NaN in interpolated rows.
        interpolated: (N,) whether the instance was filled into a gap.
        frame_numbers: (F,) all frames of the video in ascending order, also those without instances.
        name: name of the video.
        fps: frames per second; 0 if unknown.
        size: (height, width), pixels, or None if unknown.
        class_names: class names by index.
        schema: keypoint names and σ, or None if unknown.

    Examples:
        >>> import numpy as np
        >>> from yolopose.data.tracks import Tracks
        >>> boxes = np.array([[0.0, 0.0, 10.0, 10.0], [2.0, 0.0, 12.0, 10.0]])
        >>> tracks = Tracks.build(frames=[1, 2], ids=[7, 7], boxes=boxes, keypoints=np.zeros((2, 17, 3)), fps=30.0)
        >>> tracks.ids.tolist(), tracks.frame_numbers.tolist()
        ([7, 7], [1, 2])
    """

    frames: Integers
    ids: Integers
    boxes: Floats
    scores: Floats
    classes: Integers
    keypoints: Floats
    raw_keypoints: Floats | None = None
    interpolated: npt.NDArray[np.bool_]
    frame_numbers: Integers
    name: str = ""
    fps: float = 0.0
    size: tuple[int, int] | None = None
    class_names: Mapping[int, str] = field(default_factory=dict[int, str])
    schema: KeypointSchema | None = None

    @classmethod
    def build(
        cls,
        *,
        frames: Any,
        ids: Any,
        boxes: Any,
        scores: Any = None,
        classes: Any = None,
        keypoints: Any = None,
        raw_keypoints: Any = None,
        interpolated: Any = None,
        frame_numbers: Any = None,
        name: str = "",
        fps: float = 0.0,
        size: tuple[int, int] | None = None,
        class_names: Mapping[int, str] | None = None,
        schema: KeypointSchema | None = None,
        where: str = "",
    ) -> Tracks:
        """Sort and check the instances of a video; the arguments are the attributes.

        Args:
            frames: (N,).
            ids: (N,).
            boxes: (N, 4).
            scores: (N,); 1 by default.
            classes: (N,); 0 by default.
            keypoints: (N, K, 2 or 3), points with NaN count as not labeled; none by default.
            raw_keypoints: (N, K, 3).
            interpolated: (N,).
            frame_numbers: (F,); 1 to the last frame with an instance by default.
            name: name of the video.
            fps: frames per second.
            size: (height, width).
            class_names: class names by index.
            schema: keypoint names and σ.
            where: the file, for error messages.

        Raises:
            DataError: different lengths, frame numbers below 1 or not listed, boxes that are NaN, infinite or inverted,
                or an id twice in one frame.
        """
        prefix = f"{where}: " if where else ""
        columns = _to_columns(frames, ids, boxes, scores, classes, keypoints, raw_keypoints, interpolated, prefix)
        tracks = cls(
            **columns,
            frame_numbers=_to_frame_numbers(columns["frames"], frame_numbers, prefix),
            name=name,
            fps=fps if np.isfinite(fps) and fps > 0 else 0.0,
            size=size,
            class_names=dict(class_names or {}),
            schema=schema if schema is not None and schema.count == columns["keypoints"].shape[1] else None,
        )
        tracks._check(prefix)
        return tracks

    def _check(self, prefix: str) -> None:
        if len(self.frame_numbers) and self.frame_numbers[0] < 1:
            raise DataError(f"{prefix}frame {self.frame_numbers[0]} is not possible: frame numbers start at 1.")
        unlisted = np.setdiff1d(self.frames, self.frame_numbers)
        if len(unlisted):
            raise DataError(f"{prefix}an instance is in frame {unlisted[0]}, which is not a frame of the video.")
        for label, bad in (
            ("a coordinate that is NaN or infinite", ~np.isfinite(self.boxes).all(axis=1)),
            ("x2 < x1 or y2 < y1", (self.boxes[:, 2:] < self.boxes[:, :2]).any(axis=1)),
        ):
            if bad.any():
                row = int(np.flatnonzero(bad)[0])
                raise DataError(
                    f"{prefix}the box of id {self.ids[row]} in frame {self.frames[row]} has {label}: "
                    f"{self.boxes[row].tolist()}. Correct or remove this row."
                )
        tracked = np.flatnonzero(self.ids != NO_ID)
        order = tracked[np.lexsort((self.ids[tracked], self.frames[tracked]))]
        same = (np.diff(self.frames[order]) == 0) & (np.diff(self.ids[order]) == 0)
        if same.any():
            row = order[int(np.flatnonzero(same)[0])]
            raise DataError(
                f"{prefix}id {self.ids[row]} is used twice in frame {self.frames[row]}: an id names one instance per "
                "frame. Remove one of the rows, or write the videos to separate files."
            )

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def num_keypoints(self) -> int:
        """K, 0 without keypoints."""
        return self.keypoints.shape[1]

    @property
    def sigmas(self) -> Floats:
        """(K,) OKS σ of the keypoints: those of the schema, of a COCO person for its 17 keypoints, else 1/K."""
        if self.schema is not None:
            return self.schema.oks_sigmas
        return KeypointSchema(count=max(self.num_keypoints, 1)).oks_sigmas[: self.num_keypoints]

    @property
    def keypoint_names(self) -> tuple[str, ...]:
        """K names; `keypoint_0`, … where they are unknown."""
        if self.schema is not None and self.schema.names:
            return self.schema.keypoint_names(0)
        return tuple(f"keypoint_{index}" for index in range(self.num_keypoints))

    def select(self, rows: Any) -> Tracks:
        """Return the tracks with some rows only; the frames of the video stay."""
        return replace(
            self,
            frames=self.frames[rows],
            ids=self.ids[rows],
            boxes=self.boxes[rows],
            scores=self.scores[rows],
            classes=self.classes[rows],
            keypoints=self.keypoints[rows],
            raw_keypoints=None if self.raw_keypoints is None else self.raw_keypoints[rows],
            interpolated=self.interpolated[rows],
        )

    def by_frame(self) -> Iterator[TrackFrame]:
        """Yield every frame of the video in order, also those without instances."""
        starts = np.searchsorted(self.frames, self.frame_numbers, side="left").tolist()
        stops = np.searchsorted(self.frames, self.frame_numbers, side="right").tolist()
        for number, start, stop in zip(self.frame_numbers.tolist(), starts, stops, strict=True):
            rows = slice(start, stop)
            yield TrackFrame(
                number=number,
                ids=self.ids[rows],
                boxes=self.boxes[rows],
                scores=self.scores[rows],
                classes=self.classes[rows],
                keypoints=self.keypoints[rows],
                raw_keypoints=None if self.raw_keypoints is None else self.raw_keypoints[rows],
                interpolated=self.interpolated[rows],
                seconds=(number - 1) / self.fps if self.fps > 0 else None,
            )


class TrackWriter(ABC):
    """A file of tracks that grows frame by frame."""

    @abstractmethod
    def write(self, frame: TrackFrame) -> None:
        """Add the instances of the next frame.

        Raises:
            OutputError: it cannot be written.
        """

    def next_video(self, video: Tracks) -> None:
        """Start another video in the same file; its name, size and rate are written, its instances are ignored.

        Raises:
            DataError: the format holds one video per file, or the keypoints are others.
        """
        raise DataError(
            f"A file of this format holds one video, so {video.name!r} cannot be added. Write each video to a file of "
            "its own, or all to JSON Lines (.jsonl)."
        )

    @abstractmethod
    def close(self) -> None:
        """Finish the file; may be called again.

        Raises:
            OutputError: it cannot be written.
        """

    @abstractmethod
    def discard(self) -> None:
        """Remove what was written, unless the file is finished; an older file stays."""


def schema_of(names: tuple[str, ...] | None, count: int) -> KeypointSchema | None:
    """Return the schema that keypoint names of a file imply: a COCO person for its 17 names; None without names."""
    if names is None or count == 0:
        return None
    if names == COCO_PERSON_NAMES:
        return KeypointSchema.coco_person()
    return KeypointSchema(count=count, names={0: names})


def _to_columns(
    frames: Any,
    ids: Any,
    boxes: Any,
    scores: Any,
    classes: Any,
    keypoints: Any,
    raw_keypoints: Any,
    interpolated: Any,
    prefix: str,
) -> dict[str, Any]:
    """Return the arrays of the instances by attribute of `Tracks`, sorted by frame number.

    Raises:
        DataError: different lengths, or a frame number, id or class that is not an integer.
    """
    frames = _to_integers(frames, "frame number", prefix)
    count = len(frames)
    columns: dict[str, Any] = {
        "frames": frames,
        "ids": _to_integers(ids, "id", prefix),
        "boxes": np.asarray(boxes, dtype=np.float64).reshape(-1, 4),
        "scores": np.ones(count) if scores is None else np.asarray(scores, dtype=np.float64).reshape(-1),
        "classes": np.zeros(count, np.int64) if classes is None else _to_integers(classes, "class", prefix),
        "keypoints": _clean_points(keypoints, count),
        "raw_keypoints": None if raw_keypoints is None else np.asarray(raw_keypoints, dtype=np.float64),
        "interpolated": np.zeros(count, bool) if interpolated is None else np.asarray(interpolated, bool).reshape(-1),
    }
    for name, values in columns.items():
        if values is not None and len(values) != count:
            raise DataError(f"{prefix}{len(values)} {name} do not match {count} frame numbers.")
    order = np.argsort(frames, kind="stable")
    return {name: None if values is None else values[order] for name, values in columns.items()}


def _to_frame_numbers(frames: Integers, frame_numbers: Any, prefix: str) -> Integers:
    """Return (F,) the frames of the video; by default 1 to the last of the sorted (N,) `frames`.

    Raises:
        DataError: a frame number is above `MAX_FRAME` or not an integer.
    """
    last = int(frames[-1]) if len(frames) else 0
    if last > MAX_FRAME:
        raise DataError(f"{prefix}frame {last} is not possible: frame numbers go up to {MAX_FRAME}.")
    if frame_numbers is None:
        return np.arange(1, last + 1)
    return np.unique(_to_integers(frame_numbers, "frame number", prefix))


def _to_integers(values: Any, label: str, prefix: str) -> Integers:
    """Return (N,) integers.

    Raises:
        DataError: a value is not an integer, or has more than 15 digits.
    """
    numbers = np.asarray(values if hasattr(values, "dtype") else list(values), dtype=np.float64).reshape(-1)
    bad = ~np.isfinite(numbers) | (np.abs(numbers) > 1e15) | (numbers != np.floor(numbers))
    if bad.any():
        raise DataError(f"{prefix}the {label} {numbers[np.flatnonzero(bad)[0]]:g} is not an integer of usual size.")
    return numbers.astype(np.int64)


def _clean_points(keypoints: Any, count: int) -> Floats:
    """Return (N, K, 3) points; those with NaN or infinite values become x = y = 0 with confidence 0."""
    if keypoints is None:
        return np.zeros((count, 0, 3))
    points = np.array(keypoints, dtype=np.float64)  # a copy
    if points.size == 0:
        points = points.reshape(count, points.shape[1] if points.ndim == 3 else 0, 3)
    if points.ndim != 3 or points.shape[2] not in (2, 3):
        raise DataError(f"Keypoints must have the shape (N, K, 3) or (N, K, 2), got {points.shape}.")
    if points.shape[2] == 2:
        points = np.concatenate((points, np.ones((*points.shape[:2], 1))), axis=2)
    points[~np.isfinite(points).all(axis=2)] = 0
    return points
