"""Validation: matching, average precision, the metrics object, what is wrong with poses, plots."""

from yolopose.evaluate.average_precision import ClassScores, score_classes
from yolopose.evaluate.coco import score_coco
from yolopose.evaluate.comparison import Comparison, compare_runs
from yolopose.evaluate.confusion import ConfusionMatrix
from yolopose.evaluate.matching import THRESHOLDS, match_detections
from yolopose.evaluate.metric import Metric
from yolopose.evaluate.metrics import PoseMetrics
from yolopose.evaluate.record import Record, load_record
from yolopose.evaluate.validator import Validation, validate

__all__ = [
    "THRESHOLDS",
    "ClassScores",
    "Comparison",
    "ConfusionMatrix",
    "Metric",
    "PoseMetrics",
    "Record",
    "Validation",
    "compare_runs",
    "load_record",
    "match_detections",
    "score_classes",
    "score_coco",
    "validate",
]
