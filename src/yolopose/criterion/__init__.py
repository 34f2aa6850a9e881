"""The criterion: which cells answer for which objects, and the five losses."""

# it loads torch in the way that is wanted, so it comes first
import yolopose.nn  # noqa: F401  # pyright: ignore[reportUnusedImport]

# isort: split
from yolopose.criterion.assign import Assignment, assign
from yolopose.criterion.losses import COUNTS, TERMS, Gains, LossTerms, PoseCriterion
from yolopose.criterion.overlap import ciou
from yolopose.criterion.targets import Targets

__all__ = ["COUNTS", "TERMS", "Assignment", "Gains", "LossTerms", "PoseCriterion", "Targets", "assign", "ciou"]
