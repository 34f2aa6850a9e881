"""Output files of prediction: images, videos, labels and tables, written by `RunFiles`."""

from yolopose.predict.sinks.run_files import RunFiles

__all__ = ["RunFiles"]
