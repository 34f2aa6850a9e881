"""Prediction: sources, sinks, and the pipeline that joins them."""

from yolopose.predict.pipeline import predict
from yolopose.predict.sources import open_source

__all__ = ["open_source", "predict"]
