"""Prediction: sources, letterbox, suppression, and the pipeline that joins them."""

from yolopose.predict.letterboxing import letterbox_batch, letterbox_into
from yolopose.predict.nms import Detections, suppress
from yolopose.predict.pipeline import predict
from yolopose.predict.sources import open_source

__all__ = ["Detections", "letterbox_batch", "letterbox_into", "open_source", "predict", "suppress"]
