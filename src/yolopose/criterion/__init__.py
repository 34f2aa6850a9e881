"""Training criterion: anchor-to-ground-truth assignment and losses."""

# imports torch with the OpenMP settings of nn/openmp.py, so it comes first
import yolopose.nn  # noqa: F401  # pyright: ignore[reportUnusedImport]

# isort: split
from yolopose.criterion.assign import AssignerConfig, Assignment, assign
from yolopose.criterion.base import Criterion, LossTerms, PreparedTargets
from yolopose.criterion.losses import ONE_TO_MANY, ONE_TO_ONE, DualCriterion, PoseCriterion, build_criterion
from yolopose.criterion.similarity import ciou
from yolopose.criterion.targets import Targets

__all__ = [
    "ONE_TO_MANY", "ONE_TO_ONE", "AssignerConfig", "Assignment", "Criterion", "DualCriterion", "PreparedTargets",
    "LossTerms", "PoseCriterion", "Targets", "assign", "build_criterion", "ciou",
]  # fmt: skip
