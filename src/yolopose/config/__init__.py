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
from yolopose.config.table import MODES, Options, OptionSpec, defaults, modes_by_option, option_specs

__all__ = [
    "MODES",
    "BenchmarkOptions",
    "CompareOptions",
    "ConvertOptions",
    "ExportOptions",
    "OptionSpec",
    "Options",
    "PredictOptions",
    "ReportOptions",
    "TrackOptions",
    "TrainOptions",
    "ValOptions",
    "modes_by_option",
    "collect",
    "defaults",
    "option_specs",
    "resolve",
]
