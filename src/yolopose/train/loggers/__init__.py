"""Logs beside results.csv, by name; each kind has a file of its own, and its library is loaded when it is asked for."""

from yolopose.train.loggers.choose import NAMES, Log, Logs, chosen_names, open_logs

__all__ = ["NAMES", "Log", "Logs", "chosen_names", "open_logs"]
