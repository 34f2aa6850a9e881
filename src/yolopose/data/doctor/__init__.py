"""Examine a data set: checks of images, labels, keypoints and data YAML, and a fixed copy."""

from yolopose.data.doctor.advice import Advice
from yolopose.data.doctor.disputes import MIN_CONF, Detections, Dispute, find_disputes
from yolopose.data.doctor.findings import CHECKS, SEVERITIES, Check, Edit, Example, Finding
from yolopose.data.doctor.fix import FixedCopy, write_fixed_copy
from yolopose.data.doctor.report import Report, examine, log_short_report, run_checks
from yolopose.data.doctor.similar_images import add_vectors
from yolopose.data.doctor.survey import SplitSurvey, Survey, survey_dataset

__all__ = [
    "CHECKS", "SEVERITIES", "Check", "Edit", "Example", "Finding",
    "Advice", "Report", "examine", "log_short_report", "run_checks",
    "SplitSurvey", "Survey", "survey_dataset",
    "MIN_CONF", "Detections", "Dispute", "find_disputes", "add_vectors",
    "FixedCopy", "write_fixed_copy",
]  # fmt: skip
