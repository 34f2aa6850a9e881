"""Validation: matching, average precision, the metrics object, plots."""

from yolopose.evaluate.average_precision import ClassScores, score_classes
from yolopose.evaluate.confusion import ConfusionMatrix
from yolopose.evaluate.matching import THRESHOLDS, match_detections
from yolopose.evaluate.metric import Metric
from yolopose.evaluate.metrics import PoseMetrics
from yolopose.evaluate.validator import Validation, validate

__all__ = [
    "THRESHOLDS",
    "ClassScores",
    "ConfusionMatrix",
    "Metric",
    "PoseMetrics",
    "Validation",
    "match_detections",
    "score_classes",
    "validate",
]
