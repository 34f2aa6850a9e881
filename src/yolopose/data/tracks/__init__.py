"""Tracks of a video as flat arrays, and the files that hold them."""

from yolopose.data.tracks.files import TRACK_FORMATS, open_track_writer, read_tracks, track_format, write_tracks
from yolopose.data.tracks.tracks import TrackFrame, Tracks, TrackWriter

__all__ = [
    "TRACK_FORMATS",
    "TrackFrame",
    "TrackWriter",
    "Tracks",
    "open_track_writer",
    "read_tracks",
    "track_format",
    "write_tracks",
]
