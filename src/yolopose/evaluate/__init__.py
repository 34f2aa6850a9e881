"""Validation: one record per run, and the metrics, diagnostics, plots and report computed from it."""

from yolopose.evaluate.bootstrap import Comparison, compare_runs
from yolopose.evaluate.coco import score_coco
from yolopose.evaluate.confusion import ConfusionMatrix
from yolopose.evaluate.matching import THRESHOLDS, match_detections
from yolopose.evaluate.metric import Metric, average_precision
from yolopose.evaluate.metrics import PoseMetrics
from yolopose.evaluate.pixels import PIXEL_KEYS, PixelErrors
from yolopose.evaluate.record import RunRecord, load_record
from yolopose.evaluate.record_builder import RecordBuilder
from yolopose.evaluate.validator import Validation, validate
from yolopose.evaluate.visibility import VISIBILITY_KEYS, VisibilityScores

__all__ = [
    "PIXEL_KEYS",
    "THRESHOLDS",
    "VISIBILITY_KEYS",
    "Comparison",
    "ConfusionMatrix",
    "Metric",
    "PixelErrors",
    "PoseMetrics",
    "RecordBuilder",
    "RunRecord",
    "Validation",
    "VisibilityScores",
    "average_precision",
    "compare_runs",
    "load_record",
    "match_detections",
    "score_coco",
    "validate",
]
