"""The command line: `yolo [pose] MODE key=value …`."""

from yolopose.cli.main import main

__all__ = ["main"]
