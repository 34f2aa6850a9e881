"""Sources of images: files, folders, lists, videos, URLs, cameras, streams, screens and arrays in memory."""

from yolopose.predict.sources.base import VIDEO_SUFFIXES
from yolopose.predict.sources.dispatch import open_source

__all__ = ["VIDEO_SUFFIXES", "open_source"]
