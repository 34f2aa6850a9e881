"""Options: typed dataclasses, one table of flat key names that help, docs and checks come from."""

from yolopose.config.check import collect, resolve
from yolopose.config.options import (
    BenchmarkOptions,
    CompareOptions,
    ConvertOptions,
    ExportOptions,
    PredictOptions,
    ReportOptions,
    TrackOptions,
    TrainOptions,
    ValOptions,
)
from yolopose.config.table import MODES, Key, Options, all_keys, defaults, keys_of

__all__ = [
    "MODES",
    "BenchmarkOptions",
    "CompareOptions",
    "ConvertOptions",
    "ExportOptions",
    "Key",
    "Options",
    "PredictOptions",
    "ReportOptions",
    "TrackOptions",
    "TrainOptions",
    "ValOptions",
    "all_keys",
    "collect",
    "defaults",
    "keys_of",
    "resolve",
]
