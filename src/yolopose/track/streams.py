"""Trackers of all videos and streams of a source, and the track ids of their results."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import numpy.typing as npt

from yolopose.base.errors import UsageError
from yolopose.results import Results
from yolopose.results.arrays import Array, to_numpy
from yolopose.results.instances import Boxes
from yolopose.track.external import PREFIX, ExternalTracker
from yolopose.track.frames import TrackDetections, Tracker, keypoint_rows
from yolopose.track.one_euro import LiveSmoother
from yolopose.track.settings import FRAME_RATE, TrackerSettings, read_tracker_settings
from yolopose.track.tracker import MultiTracker

_STATE_FORMAT = 1
_IMAGES = "images"  # key of the sequence that the single images of a source form


def make_tracker(
    tracker: str | Path = "oks.yaml",
    sigmas: npt.NDArray[np.float64] | None = None,
    fps: float = FRAME_RATE,
    **overrides: Any,
) -> Tracker:
    """Make the tracker of one video or stream.

    Args:
        tracker: a shipped tracker (`oks`, `bytetrack.yaml`, …), the path of a YAML file, or `trackers:NAME`.
        sigmas: (K,) OKS σ of the keypoints (`KeypointSchema.oks_sigmas`).
        fps: frames per second of the sequence; 30 if it is unknown (0).
        **overrides: settings that win over the file, such as `max_instances=2`.

    Raises:
        UsageError: an unknown tracker, an unknown key or an impossible value.
        NotFoundError: the file does not exist.
        DependencyError: scipy, or the package `trackers`, is not installed.

    Examples:
        >>> tracker = make_tracker("oks.yaml", fps=25)
        >>> tracker.update(TrackDetections.of([[10, 10, 50, 90]], [0.9])).ids
        array([1])
    """
    return _make(_read(tracker, overrides), sigmas, fps)


def check_tracker(tracker: str | Path) -> None:
    """Check that a tracker exists, its file is correct, and its packages are installed.

    Raises:
        UsageError, NotFoundError, DependencyError: see `make_tracker`.
    """
    make_tracker(tracker)


def _read(tracker: str | Path, overrides: Mapping[str, Any]) -> TrackerSettings | str:
    """Return the settings of a tracker, or its name in the package `trackers`."""
    text = str(tracker)
    if not text.startswith(PREFIX):
        return read_tracker_settings(tracker, **overrides)
    given = [name for name, value in overrides.items() if value is not None]
    if given:
        raise UsageError(f"{', '.join(given)} is not possible with tracker={text}: use tracker=oks.yaml, for example.")
    return text.removeprefix(PREFIX)


def _make(settings: TrackerSettings | str, sigmas: npt.NDArray[np.float64] | None, fps: float) -> Tracker:
    if isinstance(settings, str):
        return ExternalTracker(settings, fps or FRAME_RATE)
    return MultiTracker(settings, sigmas, fps)


class StreamTrackers:
    """One tracker for each video and stream of a source; the single images of a source form one sequence.

    Args:
        tracker: see `make_tracker`.
        sigmas: (K,) OKS σ of the keypoints.
        fps: frames per second of single images, and of videos and streams that do not state it; 30 by default.
        smooth: whether to smooth the keypoints of each track (`yolopose.track.one_euro`).
        **overrides: settings that win over the file.

    Attributes:
        config: the arguments, without `sigmas`.

    Raises:
        UsageError: an unknown tracker, an unknown key or an impossible value.
        NotFoundError: the file does not exist.
        DependencyError: scipy, or the package `trackers`, is not installed.
    """

    def __init__(
        self,
        tracker: str | Path = "oks.yaml",
        sigmas: npt.NDArray[np.float64] | None = None,
        fps: float | None = None,
        smooth: bool = False,
        **overrides: Any,
    ) -> None:
        self.config = {"tracker": str(tracker), "fps": fps, "smooth": smooth, "overrides": overrides}
        self._settings = _read(tracker, overrides)
        self._sigmas = sigmas
        self._fps = fps
        self._smooth = smooth
        self._trackers: dict[str, Tracker] = {}
        self._smoothers: dict[str, LiveSmoother] = {}
        _make(self._settings, sigmas, fps or FRAME_RATE)  # report a missing package now, not at the first frame

    @property
    def has_state(self) -> bool:
        """Whether the state can be saved; that of the package `trackers` cannot."""
        return not isinstance(self._settings, str)

    @property
    def min_score(self) -> float:
        """Smallest score of a detection that the trackers use."""
        return 0.1 if isinstance(self._settings, str) else self._settings.track_low_thresh

    def track(
        self, result: Results, to_array: Callable[[npt.NDArray[np.float32]], Array], time: float | None = None
    ) -> None:
        """Keep the tracked instances of a result, with their ids.

        Args:
            result: the next result of the source; boxes and keypoints are replaced.
            to_array: converts to the kind of array of the results.
            time: seconds since the start of the sequence; by default that of the frame of a video or stream.
        """
        start = perf_counter()
        boxes = to_numpy(result.boxes.data)
        if boxes.shape[1] == 7:
            boxes = np.delete(boxes, 4, axis=1)
        points = keypoint_rows(result.keypoints) if result.keypoints.shape[1] else None
        tracker = self._tracker_of(result)
        detections = TrackDetections.of(
            boxes[:, :4],
            boxes[:, 4],
            boxes[:, 5],
            points,
            time=self._time_of(result) if time is None else time,
            image=result.orig_img if self._needs_image and result.error is None else None,
            shape=result.orig_shape if result.error is None else None,
        )
        ids = tracker.update(detections).ids
        rows = np.flatnonzero(ids)
        data = np.insert(boxes[rows].astype(np.float32), 4, ids[rows], axis=1)
        result.boxes = Boxes(to_array(data), result.orig_shape)
        result.keypoints = result.keypoints[rows]
        if self._smooth and points is not None:
            self._smooth_points(result, ids[rows], boxes[rows, :4], detections.time, to_array)
        result.speed["track"] = 1000 * (perf_counter() - start)

    def _smooth_points(
        self,
        result: Results,
        ids: npt.NDArray[np.int64],
        boxes: npt.NDArray[np.float32],
        time: float | None,
        to_array: Callable[[npt.NDArray[np.float32]], Array],
    ) -> None:
        """Replace the keypoints by smoothed ones; the measured ones become `raw_keypoints`."""
        measured = result.keypoints
        assert measured is not None  # noqa: S101  # checked by the caller
        smoother = self._smoothers.setdefault(self._key_of(result), LiveSmoother(fps=self._fps_of(result)))
        points = smoother.update(ids, boxes, to_numpy(measured.data), time).astype(np.float32)
        result.raw_keypoints = measured
        if measured.mask is not None:  # the smoother moves points without confidence with the others
            points = np.where(to_numpy(measured.mask)[..., None], points, 0)
        result.keypoints = measured.with_data(to_array(points))

    @property
    def _needs_image(self) -> bool:
        return isinstance(self._settings, str) or self._settings.gmc_method != "none"

    def _tracker_of(self, result: Results) -> Tracker:
        """Return the tracker of the video or stream of a result; a new one for the first frame of a video."""
        key = self._key_of(result)
        if key not in self._trackers:
            if key.startswith("video"):  # videos follow each other: the previous one has ended
                self.start_call()
            self._trackers[key] = _make(self._settings, self._sigmas, self._fps_of(result))
        return self._trackers[key]

    def _key_of(self, result: Results) -> str:
        frame = result.frame
        return _IMAGES if frame is None else f"{'stream' if frame.live else 'video'} {frame.video}"

    def _fps_of(self, result: Results) -> float:
        stated = 0.0 if result.frame is None else result.frame.fps
        return stated or self._fps or FRAME_RATE

    def _time_of(self, result: Results) -> float | None:
        """Return the time of the frame in its video or stream; None for an image."""
        frame = result.frame
        if frame is None or frame.live or frame.seconds is not None:
            return None if frame is None else frame.seconds
        return (frame.number - 1) / self._fps_of(result)

    def start_call(self) -> None:
        """Forget the videos of earlier calls, since each video starts with id 1; streams and images continue."""
        for states in (self._trackers, self._smoothers):
            for key in [key for key in states if key.startswith("video")]:
                del states[key]

    def reset(self) -> None:
        """Remove all tracks; ids start at 1 again."""
        self._trackers.clear()
        self._smoothers.clear()

    # -- state ---------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return the state of all trackers as plain values, which JSON can store without loss.

        Raises:
            UsageError: trackers of the package `trackers` cannot save their state.
        """
        trackers = {key: tracker.state_dict() for key, tracker in self._trackers.items()}
        smoothers = {key: smoother.state_dict() for key, smoother in self._smoothers.items()}
        return {"format": _STATE_FORMAT, "config": self.config, "trackers": trackers, "smoothers": smoothers}

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Any], sigmas: npt.NDArray[np.float64] | None = None) -> StreamTrackers:
        """Make the trackers of a state, with its arguments.

        Raises:
            UsageError: it is not such a state.
        """
        config = state.get("config") if isinstance(state, Mapping) else None
        if not isinstance(config, Mapping) or not {"tracker", "fps", "smooth", "overrides"} <= set(config):
            raise _wrong_state()
        trackers = cls(config["tracker"], sigmas, config["fps"], config["smooth"], **config["overrides"])
        trackers.load_state_dict(state)
        return trackers

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the trackers; nothing changes if the state cannot be used.

        Raises:
            UsageError: it is not such a state.
        """
        trackers = state.get("trackers") if isinstance(state, Mapping) else None
        smoothers = state.get("smoothers") if isinstance(state, Mapping) else None
        if not isinstance(trackers, Mapping) or not isinstance(smoothers, Mapping):
            raise _wrong_state()
        if state.get("format") != _STATE_FORMAT:
            raise _wrong_state()
        restored: dict[str, Tracker] = {
            str(key): MultiTracker.from_state_dict(value) for key, value in trackers.items()
        }
        restored_smoothers = {str(key): LiveSmoother() for key in smoothers}
        for key, smoother in restored_smoothers.items():
            smoother.load_state_dict(smoothers[key])
        self._trackers = restored
        self._smoothers = restored_smoothers


def _wrong_state() -> UsageError:
    return UsageError(
        f"This is not the state of trackers of format {_STATE_FORMAT}: pass what `model.tracker.state_dict()` returned."
    )
