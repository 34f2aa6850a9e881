"""The criterion: which cells answer for which objects, and the losses."""

# it loads torch in the way that is wanted, so it comes first
import yolopose.nn  # noqa: F401  # pyright: ignore[reportUnusedImport]

# isort: split
from yolopose.criterion.assign import Assignment, Rule, assign
from yolopose.criterion.base import Criterion
from yolopose.criterion.choose import build_criterion
from yolopose.criterion.dual import MANY, SINGLE, TERMS26, DualCriterion
from yolopose.criterion.overlap import ciou
from yolopose.criterion.pose import COUNTS, TERMS, PoseCriterion
from yolopose.criterion.targets import Targets
from yolopose.criterion.terms import Gains, LossTerms

__all__ = [
    "COUNTS", "MANY", "SINGLE", "TERMS", "TERMS26", "Assignment", "Criterion", "DualCriterion", "Gains", "LossTerms",
    "PoseCriterion", "Rule", "Targets", "assign", "ciou", "build_criterion",
]  # fmt: skip
