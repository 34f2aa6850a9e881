"""The old place of `RunFiles`."""

from yolopose.predict.sinks import RunFiles

__all__ = ["RunFiles"]
