"""The stages in which the detections of a frame are assigned to the tracks."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from yolopose.track.association import (
    BoolArray,
    assign,
    box_similarity,
    direction_similarity,
    find_duplicates,
    pose_similarity,
)
from yolopose.track.frames import FloatArray, IntArray
from yolopose.track.motion import to_corners, to_measurement
from yolopose.track.settings import TrackerSettings
from yolopose.track.table import TrackTable

_EPS = 1e-6
# Displacement, as a share of the box size, from which the direction of motion is fully reliable.
_CLEAR_DISPLACEMENT = 0.1
# With `max_instances`: distance that an instance may move unseen, at once and for each 1/30 second, in box sizes.
_REACH = 1.0
_REACH_PER_STEP = 0.25


class Stages:
    """Assigns detections to tracks, stage by stage; what is assigned is not available to later stages.

    Args:
        table: T tracks, predicted to the time of the frame.
        boxes: (N, 4) corners of the detections.
        points: (N, K, 3) keypoints of the detections.
        scores: (N,) scores; detections below every threshold are never assigned.
        classes: (N,) class indices.
        settings: thresholds and weights.
        tolerance: (K,) tolerance of each keypoint, see `pose_similarity`.

    Attributes:
        rows: (N,) track of each detection; -1 without one.
    """

    def __init__(
        self,
        table: TrackTable,
        boxes: FloatArray,
        points: FloatArray,
        scores: FloatArray,
        classes: IntArray,
        settings: TrackerSettings,
        tolerance: FloatArray,
    ) -> None:
        self.rows = np.full(len(boxes), -1, np.int64)
        self._free_tracks = np.ones(len(table), np.bool_)
        self._table = table
        self._boxes = boxes
        self._points = points
        self._scores = scores
        self._classes = classes
        self._settings = settings
        self._tolerance = tolerance

    def run(self) -> None:
        """Run all stages."""
        settings = self._settings
        table = self._table
        if not len(table) or not len(self._boxes):
            return
        confirmed = table.confirmed
        high = self._scores >= settings.track_high_thresh
        similarity = self._predicted_similarity()
        fused = similarity * self._scores if settings.fuse_score else similarity
        bonus = self._direction_bonus() if settings.inertia else None
        self._stage(fused, settings.match_thresh, confirmed, high, bonus)
        if settings.use_byte:
            low = (self._scores >= settings.track_low_thresh) & ~high
            self._stage(similarity, settings.low_match_thresh, confirmed & table.active, low)
        if settings.recovery and self._is_open(confirmed, high):
            last = self._similarity(table.boxes, table.points, np.zeros(len(table)))
            self._stage(last, settings.match_thresh, confirmed, high)
        if self._is_open(~confirmed, high):
            self._stage(fused, settings.new_match_thresh, ~confirmed, high & ~self.duplicates)
        if settings.max_instances and self._is_open(confirmed, high):
            self._stage(self._proximity(), 1.0, confirmed, high)

    @property
    def unassigned(self) -> BoolArray:
        """(N,) whether a detection has no track."""
        return self.rows < 0

    @cached_property
    def duplicates(self) -> BoolArray:
        """(N,) whether a detection is a second one of an instance, which continues confirmed tracks only.

        Of the detections of an instance the one that continues a track comes first, then that with the highest score.
        """
        settings = self._settings
        if settings.duplicate_thresh >= 1 and settings.duplicate_iou >= 1:
            return np.zeros(len(self._boxes), np.bool_)
        return find_duplicates(
            self._boxes, self._points, np.where(self.unassigned, self._scores, 1.0 + self._scores),
            settings.duplicate_thresh, settings.duplicate_iou, settings.kpt_conf,
        )  # fmt: skip

    def _is_open(self, tracks: BoolArray, detections: BoolArray) -> bool:
        return bool((tracks & self._free_tracks).any() and (detections & self.unassigned).any())

    def _stage(
        self,
        similarity: FloatArray,
        max_cost: float,
        tracks: BoolArray,
        detections: BoolArray,
        bonus: FloatArray | None = None,
    ) -> None:
        """Assign pairs whose cost, 1 - similarity, is below the maximum.

        The sum of (similarity - smallest similarity + bonus) is maximized, so that a pair is worth how much better it
        is than no pair. Pairs of tracks that were lost for long are worth less: their position is uncertain.
        """
        minimum = max(1 - max_cost, _EPS)
        allowed = (similarity >= minimum) & (tracks & self._free_tracks)[:, None] & (detections & self.unassigned)
        gain = similarity - minimum + _EPS
        if bonus is not None:
            gain = np.maximum(gain + bonus, _EPS)
        if self._settings.lost_weight:
            lost = self._table.lost - self._table.lost.min()
            gain = gain / (1 + self._settings.lost_weight * lost)[:, None]
        rows, columns = assign(gain, allowed)
        self.rows[columns] = rows
        self._free_tracks[rows] = False

    def _predicted_similarity(self) -> FloatArray:
        """Return (T, N) similarity at the predicted positions; the last pose is shifted rigidly with its track."""
        table = self._table
        shift = table.mean[:, 0, :2] - table.seen_mean[:, 0, :2]
        if self._settings.observed_boxes:
            boxes = table.boxes + np.concatenate((shift, shift), axis=1)
        else:
            boxes = to_corners(table.mean[:, 0])
        points = table.points.copy()
        points[..., :2] += shift[:, None]
        variance = (table.cov[:, 0, :2] - table.seen_cov[:, 0, :2]).mean(axis=1)
        return self._similarity(boxes, points, np.maximum(variance, 0))

    def _similarity(self, boxes: FloatArray, points: FloatArray, variance: FloatArray) -> FloatArray:
        """Return (T, N) weighted sum of the similarities of poses and boxes; 0 for another class, if that counts."""
        settings = self._settings
        similarity = box_similarity(boxes, self._boxes)
        if settings.pose_weight and points.shape[1]:
            area = np.sqrt(np.outer(_area(boxes), _area(self._boxes)))
            pose, valid = pose_similarity(points, self._points, area, self._tolerance, variance, settings.kpt_conf)
            weighted = settings.pose_weight * pose + (1 - settings.pose_weight) * similarity
            similarity = np.where(valid, weighted, similarity)
        if settings.class_aware:
            similarity = similarity * (self._table.classes[:, None] == self._classes)
        return similarity

    def _direction_bonus(self) -> FloatArray:
        """Return (T, N) weighted agreement of the directions of motion; less for tracks that hardly move."""
        table = self._table
        origin = table.past[:, 0]
        displacement = table.past[:, -1] - origin
        size = np.sqrt(np.maximum(_area(table.boxes), 1.0))
        clear = np.minimum(np.sqrt((displacement**2).sum(axis=1)) / (_CLEAR_DISPLACEMENT * size), 1.0)
        agreement = direction_similarity(origin, displacement, to_measurement(self._boxes)[:, :2])
        return self._settings.inertia * agreement * clear[:, None] * self._scores

    def _proximity(self) -> FloatArray:
        """Return (T, N) closeness of centers: 1 at no distance, 0 where an instance cannot have moved so far."""
        table = self._table
        size = np.sqrt(np.maximum(_area(table.boxes), 1.0))
        reach = size * (_REACH + _REACH_PER_STEP * table.lost)
        offset = to_measurement(table.boxes)[:, None, :2] - to_measurement(self._boxes)[None, :, :2]
        closeness = 1 - np.sqrt((offset**2).sum(axis=2)) / reach[:, None]
        return closeness * (table.classes[:, None] == self._classes) if self._settings.class_aware else closeness


def _area(boxes: FloatArray) -> FloatArray:
    """Return (N,) areas of corner boxes."""
    return np.maximum((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]), 0.0)
