"""Prediction: sources, suppression, and the pipeline that joins them."""

from yolopose.predict.nms import Detections, suppress
from yolopose.predict.pipeline import predict
from yolopose.predict.sources import open_source

__all__ = ["Detections", "open_source", "predict", "suppress"]
