"""Loggers besides results.csv: TensorBoard, Weights & Biases, MLflow, Trackio."""

from yolopose.train.loggers.backends import LOGGERS, RunLogger
from yolopose.train.loggers.callbacks import LoggerCallbacks, open_loggers, select_loggers

__all__ = ["LOGGERS", "LoggerCallbacks", "RunLogger", "open_loggers", "select_loggers"]
