"""`YOLO.tune`: search of training options with Optuna, and the test of the best ones on images of their own."""

from yolopose.model.tuning.result import TuneResult
from yolopose.model.tuning.search import tune

__all__ = ["TuneResult", "tune"]
