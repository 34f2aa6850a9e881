"""Where results go: one small file for each kind of output, joined by `RunFiles`."""

from yolopose.predict.sinks.run_files import RunFiles

__all__ = ["RunFiles"]
