"""Output files of prediction: images, videos, labels and tables, written by `RunFiles`."""

from yolopose.predict.sinks.run_files import OUTPUT_OPTIONS, RunFiles

__all__ = ["OUTPUT_OPTIONS", "RunFiles"]
