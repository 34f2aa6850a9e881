"""The criterion: which cells answer for which objects, and the five losses."""

from yolopose.criterion.assign import Assignment, assign
from yolopose.criterion.losses import TERMS, Gains, LossTerms, PoseCriterion
from yolopose.criterion.overlap import ciou
from yolopose.criterion.targets import Targets

__all__ = ["TERMS", "Assignment", "Gains", "LossTerms", "PoseCriterion", "Targets", "assign", "ciou"]
