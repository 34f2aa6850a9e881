"""Tracking of instances over frames with numpy and scipy: association, motion, smoothing."""

from yolopose.track.frames import TrackDetections, TrackedFrame, Tracker

__all__ = ["TrackDetections", "TrackedFrame", "Tracker"]
