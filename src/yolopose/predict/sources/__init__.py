"""Sources: one file for each kind of thing that can be given to predict."""

from yolopose.predict.sources.opening import open_source
from yolopose.predict.sources.parts import VIDEO_SUFFIXES

__all__ = ["VIDEO_SUFFIXES", "open_source"]
