"""Trackers of the package `trackers` (Apache-2.0), where it is installed: `tracker="trackers:botsort"`."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

import numpy as np

from yolopose.base.errors import DependencyError, UsageError, did_you_mean
from yolopose.track.frames import TrackDetections, TrackedFrame, Tracker

PREFIX = "trackers:"


class ExternalTracker(Tracker):
    """A tracker of the package `trackers`, which compares boxes only.

    The ids of that package continue over all trackers of a process; here they are numbered from 1 for each sequence.

    Args:
        name: name of the tracker in that package, such as `bytetrack`.
        fps: frames per second of the sequence.

    Raises:
        DependencyError: the package is not installed.
        UsageError: the tracker is unknown.
    """

    def __init__(self, name: str, fps: float) -> None:
        self._supervision: Any = _import("supervision")
        self._class = _tracker_classes().get(name)
        if self._class is None:
            known = sorted(_tracker_classes())
            raise UsageError(
                f"Unknown tracker {name!r} of the package trackers.{did_you_mean(name, known)} The trackers are "
                f"{', '.join(known)}."
            )
        self._fps = fps
        self.reset()

    def reset(self) -> None:
        """Remove all tracks; the next track has id 1."""
        assert self._class is not None  # noqa: S101  # checked by the constructor
        parameters = inspect.signature(self._class).parameters
        self._tracker: Any = self._class(**({"frame_rate": self._fps} if "frame_rate" in parameters else {}))
        self._accepts = frozenset(inspect.signature(self._tracker.update).parameters)
        self._ids: dict[int, int] = {}
        self._last_time: float | None = None
        self._shift = 0.0

    def update(self, detections: TrackDetections) -> TrackedFrame:
        """Process the next frame; call it for frames without detections, too."""
        given = self._supervision.Detections(
            xyxy=detections.boxes.astype(np.float32),
            confidence=detections.scores.astype(np.float32),
            class_id=detections.classes.astype(int),
            data={"index": np.arange(len(detections))},
        )
        extra = {"frame": detections.image, "timestamp": self._increasing(detections.time)}
        tracked = self._tracker.update(
            given, **{name: value for name, value in extra.items() if name in self._accepts and value is not None}
        )
        ids = np.zeros(len(detections), np.int64)
        if tracked.tracker_id is not None and len(tracked):
            for index, external in zip(tracked.data["index"], tracked.tracker_id, strict=True):
                if external >= 0:
                    ids[int(index)] = self._ids.setdefault(int(external), len(self._ids) + 1)
        return TrackedFrame(ids)

    def _increasing(self, time: float | None) -> float | None:
        """Return a time after the previous one: the package skips frames with an earlier time."""
        if time is None:
            return None
        if self._last_time is not None and time + self._shift <= self._last_time:
            self._shift = self._last_time + 1 / self._fps - time
        self._last_time = time + self._shift
        return self._last_time

    def state_dict(self) -> dict[str, Any]:
        """Raise an error: trackers of this package have no state that can be saved.

        Raises:
            UsageError: always.
        """
        raise UsageError(
            "The trackers of the package `trackers` cannot save their state. Use tracker=oks.yaml, bytetrack.yaml, "
            "ocsort.yaml or botsort.yaml."
        )

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Raise an error, as `state_dict`.

        Raises:
            UsageError: always.
        """
        self.state_dict()


def _tracker_classes() -> dict[str, type[Any]]:
    """Return the trackers of the package by name."""
    module = _import("trackers")
    classes = [value for value in vars(module).values() if isinstance(value, type)]
    return {str(name): value for value in classes if (name := getattr(value, "tracker_id", None))}


def _import(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise DependencyError(
            f"A tracker trackers:NAME needs the package {name}, which is not installed: `pip install trackers`. The "
            "trackers oks.yaml, bytetrack.yaml, ocsort.yaml and botsort.yaml do not need it."
        ) from error
