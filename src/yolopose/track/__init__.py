"""Tracking of instances over frames with numpy and scipy: association, motion, smoothing."""

from yolopose.track.frames import TrackDetections, TrackedFrame, Tracker
from yolopose.track.settings import TrackerSettings, read_tracker_settings
from yolopose.track.streams import StreamTrackers, check_tracker, make_tracker

__all__ = [
    "StreamTrackers",
    "TrackDetections",
    "TrackedFrame",
    "Tracker",
    "TrackerSettings",
    "check_tracker",
    "make_tracker",
    "read_tracker_settings",
]
