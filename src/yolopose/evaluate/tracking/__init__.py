"""Evaluation of tracks: HOTA, CLEAR and IDF1 on boxes or poses, jitter and position error of points."""

from yolopose.evaluate.tracking.association import Association, associate
from yolopose.evaluate.tracking.evaluation import TrackingMetrics, VideoMetrics, evaluate_tracks
from yolopose.evaluate.tracking.motion import jitter, point_error
from yolopose.evaluate.tracking.scores import (
    ALPHAS,
    ClearScores,
    HotaScores,
    IdentityScores,
    clear_scores,
    hota_scores,
    identity_scores,
)

__all__ = [
    "ALPHAS",
    "Association",
    "ClearScores",
    "HotaScores",
    "IdentityScores",
    "TrackingMetrics",
    "VideoMetrics",
    "associate",
    "clear_scores",
    "evaluate_tracks",
    "hota_scores",
    "identity_scores",
    "jitter",
    "point_error",
]
