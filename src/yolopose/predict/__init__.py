"""Prediction: sources, parallel execution, and output files."""

from yolopose.predict.pipeline import Predictor, predict
from yolopose.predict.sources import open_source

__all__ = ["Predictor", "open_source", "predict"]
