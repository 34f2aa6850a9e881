"""The tracker: motion, association and the life of tracks, composed by `TrackerSettings`."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from yolopose.base.errors import UsageError
from yolopose.track.association import box_similarity, linear_sum_assignment
from yolopose.track.camera import CameraMotion
from yolopose.track.frames import FloatArray, IntArray, TrackDetections, TrackedFrame, Tracker
from yolopose.track.motion import correct, predict, recover, to_corners, to_measurement
from yolopose.track.settings import FRAME_RATE, TrackerSettings, make_tracker_settings
from yolopose.track.stages import Stages
from yolopose.track.table import TrackTable

_STATE_FORMAT = 3
_DUPLICATE_IOU = 0.85
_EPS = 1e-6
# Of a keypoint: a larger σ is a nominal one (1/K), with which all poses of an animal would be similar.
_MAX_TOLERANCE = 0.25
# Factor of `tentative_frames` for tracks that lack only evidence, not observations.
_PATIENCE = 2


class MultiTracker(Tracker):
    """Tracks the instances of one video or stream.

    Args:
        settings: the settings.
        sigmas: (K,) OKS σ of the keypoints; by default the tolerance of each is `kpt_tolerance`.
        fps: frames per second of the sequence; 30 if it is unknown (0).

    Raises:
        DependencyError: scipy is not installed.
    """

    def __init__(
        self, settings: TrackerSettings, sigmas: npt.NDArray[np.float64] | None = None, fps: float = FRAME_RATE
    ) -> None:
        linear_sum_assignment()
        self.settings = settings
        self.fps = fps or FRAME_RATE
        self._sigmas = None if sigmas is None else np.asarray(sigmas, np.float64)
        self._camera = CameraMotion() if settings.gmc_method != "none" else None
        self.reset()

    def reset(self) -> None:
        """Remove all tracks; the next track has id 1."""
        self._table = TrackTable.empty(0, self.settings.delta_t + 1)
        self._next_id = 1
        self._is_first = True
        self._time = 0.0
        self._smallest_step = np.inf
        self._shape: tuple[int, int] | None = None
        if self._camera is not None:
            self._camera.reset()

    # -- one frame -----------------------------------------------------------------------------------------------

    def update(self, detections: TrackDetections) -> TrackedFrame:
        """Process the next frame; call it for frames without detections, too.

        A frame that is not later than the previous one counts as one frame interval after it. Detections with boxes
        that are empty or not finite get no track.

        Raises:
            UsageError: the number of keypoints differs from that of the previous frames.
        """
        points = self._points_of(detections)
        finite = np.isfinite(detections.boxes).all(axis=1) & np.isfinite(detections.scores)
        boxes = np.where(finite[:, None], detections.boxes, 0.0)
        valid = (boxes[:, 2:] - boxes[:, :2]).min(axis=1, initial=np.inf) > 0
        scores = np.where(valid, detections.scores, -1.0)
        self._follow_image(detections, boxes)
        step = self._advance_clock(detections.time)
        self._predict(step)
        stages = Stages(self._table, boxes, points, scores, detections.classes, self.settings, self._tolerance(points))
        stages.run()
        ids = self._continue_tracks(stages.rows, boxes, points, detections.classes, scores)
        self._end_tracks(step)
        starting = stages.unassigned & (scores >= self.settings.new_track_thresh)
        if starting.any():
            starting &= ~stages.duplicates
        self._start_tracks(starting, boxes, points, detections.classes, scores, ids)
        self._is_first = False
        return TrackedFrame(ids)

    def _points_of(self, detections: TrackDetections) -> FloatArray:
        """Return (N, K, 3) keypoints, with confidence 0 where there are none or they are not finite."""
        known = self._table.points.shape[1]
        points = detections.keypoints
        if points is None:
            return np.zeros((len(detections), known, 3))
        count = points.shape[1]
        if not known and count:
            self._table.points = np.zeros((len(self._table), count, 3))
        elif count != known:
            raise UsageError(
                f"The detections have {count} keypoints, but those of the previous frames have {known}: use one "
                "tracker for each network, or reset it (`model.reset_tracker()`)."
            )
        return np.where(np.isfinite(points).all(axis=2, keepdims=True), points, 0.0)

    def _tolerance(self, points: FloatArray) -> FloatArray:
        """Return (K,) tolerance of the keypoints."""
        smallest = self.settings.kpt_tolerance
        if self._sigmas is None or len(self._sigmas) != points.shape[1]:
            return np.full(points.shape[1], smallest)
        return np.clip(2 * self._sigmas, smallest, max(smallest, _MAX_TOLERANCE))

    def _follow_image(self, detections: TrackDetections, boxes: FloatArray) -> None:
        """Rescale the tracks if the size of the image changes, and move them with the camera."""
        shape = detections.shape
        if shape is not None and self._shape is not None and shape != self._shape and min(*shape, *self._shape) > 0:
            scale_y, scale_x = shape[0] / self._shape[0], shape[1] / self._shape[1]
            self._table.move(np.array([[scale_x, 0.0, 0.0], [0.0, scale_y, 0.0]]))
        self._shape = shape or self._shape
        image = detections.image
        if self._camera is not None and image is not None and image.size:
            self._table.move(self._camera.update(image, boxes))

    def _advance_clock(self, time: float | None) -> float:
        """Return the time since the previous frame, in steps of 1/30 second."""
        interval = 1 / self.fps
        if self._is_first:
            self._time = 0.0 if time is None else time
            return interval * FRAME_RATE
        passed = interval if time is None else time - self._time
        self._time = self._time + interval if time is None else time
        step = (passed if passed > 0 else interval) * FRAME_RATE
        self._smallest_step = min(self._smallest_step, step)
        return step

    def _predict(self, step: float) -> None:
        """Remove tracks that were lost for too long, and move the others to the time of the frame."""
        table = self._table
        table.lost += step
        if self.settings.max_instances is None:
            # where frames are further apart than the buffer, tracks continue from one frame to the next
            longest = max(self.settings.buffer * FRAME_RATE, 1.5 * self._smallest_step)
            expired = table.lost > longest + _EPS
            table = self._table = table.select(~expired) if expired.any() else table
        lost = ~table.active
        if lost.any():
            table.mean[lost, 1, 2:] = 0.0
            if self.settings.coast_frames:
                table.mean[lost, 1, :2] *= np.exp(-step / self.settings.coast_frames)
        states = predict(table.states, step)
        table.mean, table.cov = states.mean, states.cov

    def _continue_tracks(
        self, rows: IntArray, boxes: FloatArray, points: FloatArray, classes: IntArray, scores: FloatArray
    ) -> IntArray:
        """Update the tracks that are observed, and return the id of each detection, 0 without one."""
        table = self._table
        observed = np.flatnonzero(rows >= 0)
        index = rows[observed]
        measurement = to_measurement(boxes[observed])
        states = correct(table.states[index], measurement)
        returning = ~table.active[index]
        if self.settings.recovery and returning.any():
            again = recover(table.seen_states[index[returning]], table.lost[index[returning]], measurement[returning])
            states.mean[returning], states.cov[returning] = again.mean, again.cov
        table.mean[index] = table.seen_mean[index] = states.mean
        table.cov[index] = table.seen_cov[index] = states.cov
        table.boxes[index] = boxes[observed]
        table.points[index] = points[observed]
        table.classes[index] = classes[observed]
        table.past[index] = np.concatenate((table.past[index, 1:], measurement[:, None, :2]), axis=1)
        table.hits[index] += 1
        table.evidence[index] += scores[observed] ** 2
        table.lost[index] = 0.0
        table.active[:] = False
        table.active[index] = True
        enough = (table.hits >= self.settings.min_hits) & (table.evidence >= self.settings.min_evidence)
        for row in index[(table.ids[index] == 0) & enough[index]]:
            table.ids[row] = self._take_id()
        ids = np.zeros(len(rows), np.int64)
        ids[observed] = table.ids[index]
        return ids

    def _end_tracks(self, step: float) -> None:
        """Remove tentative tracks that are not confirmed, and duplicates of active tracks."""
        table = self._table
        patience = self.settings.tentative_frames * np.where(table.hits >= self.settings.min_hits, _PATIENCE, 1)
        keep = table.active | table.confirmed | (table.lost < patience * step)
        limit = self.settings.max_instances
        if limit is not None and np.count_nonzero(table.confirmed) >= limit:
            keep &= table.confirmed
        if self.settings.remove_duplicates:
            active = np.flatnonzero(table.active & table.confirmed)
            lost = np.flatnonzero(~table.active & table.confirmed)
            if len(active) and len(lost):
                corners = to_corners(table.mean[:, 0])
                same = np.argwhere(box_similarity(corners[active], corners[lost]) > _DUPLICATE_IOU)
                for first, second in zip(active[same[:, 0]], lost[same[:, 1]], strict=True):
                    keep[second if table.hits[first] >= table.hits[second] else first] = False
        if not keep.all():
            self._table = table.select(keep)

    def _start_tracks(
        self,
        starting: npt.NDArray[np.bool_],
        boxes: FloatArray,
        points: FloatArray,
        classes: IntArray,
        scores: FloatArray,
        ids: IntArray,
    ) -> None:
        """Start tracks, and write their ids to `ids` if they are confirmed immediately."""
        index = np.flatnonzero(starting)
        limit = self.settings.max_instances
        if limit is not None:
            number = max(limit - int(np.count_nonzero(self._table.confirmed)), 0)
            index = np.sort(index[np.argsort(-scores[index], kind="stable")][:number])
        if not len(index):
            return
        past = self.settings.delta_t + 1
        tracks = TrackTable.of_detections(boxes[index], scores[index], classes[index], points[index], past)
        reliable = (tracks.hits >= self.settings.min_hits) & (tracks.evidence >= self.settings.min_evidence)
        confirmed = np.flatnonzero(reliable | self._is_first)
        tracks.ids[confirmed] = [self._take_id() for _ in confirmed]
        ids[index] = tracks.ids
        self._table = self._table.append(tracks)

    def _take_id(self) -> int:
        self._next_id += 1
        return self._next_id - 1

    # -- state ---------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return the whole state as plain values, which JSON can store without loss."""
        return {
            "format": _STATE_FORMAT,
            "settings": self.settings.to_dict(),
            "sigmas": None if self._sigmas is None else self._sigmas.tolist(),
            "fps": self.fps,
            "next_id": self._next_id,
            "is_first": self._is_first,
            "time": self._time,
            "smallest_step": self._smallest_step if np.isfinite(self._smallest_step) else None,
            "shape": None if self._shape is None else list(self._shape),
            "camera": None if self._camera is None else self._camera.state_dict(),
            "tracks": self._table.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state with its settings; the tracker is unchanged if the state cannot be used.

        Raises:
            UsageError: it is not the state of such a tracker.
        """
        restored = MultiTracker.from_state_dict(state)
        vars(self).update(vars(restored))

    @classmethod
    def from_state_dict(cls, state: dict[str, Any]) -> MultiTracker:
        """Make a tracker from a state.

        Raises:
            UsageError: it is not the state of such a tracker.
        """
        if not isinstance(state, dict) or state.get("format") != _STATE_FORMAT:
            raise UsageError(
                f"This is not the state of a tracker of format {_STATE_FORMAT}: pass what `state_dict()` returned."
            )
        try:
            sigmas = None if state["sigmas"] is None else np.asarray(state["sigmas"], np.float64)
            tracker = cls(make_tracker_settings(state["settings"], "state of the tracker"), sigmas, state["fps"])
            tracker._next_id = int(state["next_id"])
            tracker._is_first = bool(state["is_first"])
            tracker._time = float(state["time"])
            smallest = state["smallest_step"]
            tracker._smallest_step = np.inf if smallest is None else float(smallest)
            tracker._shape = None if state["shape"] is None else (int(state["shape"][0]), int(state["shape"][1]))
            if tracker._camera is not None and state["camera"] is not None:
                tracker._camera.load_state_dict(state["camera"])
            tracker._table = TrackTable.from_state_dict(state["tracks"], tracker.settings.delta_t + 1)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            if isinstance(error, UsageError):
                raise
            raise UsageError(
                f"The state of the tracker is damaged ({type(error).__name__}: {error}): pass what `state_dict()` "
                "returned."
            ) from error
        return tracker
