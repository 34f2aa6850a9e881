"""Logs beside results.csv, by name; each kind has a file of its own, and its library is loaded when it is asked for."""

from yolopose.train.loggers.registry import NAMES, Log, Logs, open_loggers, select_loggers

__all__ = ["NAMES", "Log", "Logs", "open_loggers", "select_loggers"]
