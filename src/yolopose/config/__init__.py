"""Options of each mode as typed dataclasses, their checks, and the settings resolved from them."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from yolopose.config.check import CheckedOptions, check_options, check_overrides, make_options
from yolopose.config.data_options import (
    DataGetOptions,
    DataListOptions,
    DataMergeOptions,
    DataSampleOptions,
    DataShowOptions,
    DataSplitOptions,
    LabelOptions,
)
from yolopose.config.job_options import BatchOptions
from yolopose.config.options import (
    BenchmarkOptions,
    CompareOptions,
    ConvertOptions,
    DoctorOptions,
    EmbedOptions,
    EvaluateOptions,
    ExportOptions,
    PredictOptions,
    ReportOptions,
    SmoothOptions,
    TrackOptions,
    ValOptions,
)
from yolopose.config.serve_options import ServeOptions, TritonOptions
from yolopose.config.table import MODES, Options, OptionSpec, default_options, modes_by_option, option_specs
from yolopose.config.train_options import LossOptions, TrainOptions
from yolopose.config.tune_options import CalibrateOptions, TuneOptions

if TYPE_CHECKING:
    from yolopose.config.settings import (
        DEFAULT_WORKERS,
        PREDICT_CONF,
        VAL_CONF,
        BenchmarkSettings,
        ExportSettings,
        PredictSettings,
        RunLocation,
        TrackSettings,
        TrainSettings,
        ValSettings,
        adjustable,
        benchmark_settings,
        export_settings,
        limit_workers,
        parse_classes,
        parse_devices,
        precision_bits,
        predict_settings,
        resolve_imgsz,
        round_imgsz,
        run_location,
        track_settings,
        train_settings,
        val_settings,
    )

__all__ = [
    "DEFAULT_WORKERS",
    "PREDICT_CONF",
    "VAL_CONF",
    "BenchmarkSettings",
    "ExportSettings",
    "PredictSettings",
    "RunLocation",
    "TrackSettings",
    "TrainSettings",
    "ValSettings",
    "adjustable",
    "benchmark_settings",
    "export_settings",
    "limit_workers",
    "parse_classes",
    "parse_devices",
    "precision_bits",
    "predict_settings",
    "resolve_imgsz",
    "round_imgsz",
    "run_location",
    "track_settings",
    "train_settings",
    "val_settings",
    "MODES",
    "BatchOptions",
    "BenchmarkOptions",
    "CalibrateOptions",
    "CheckedOptions",
    "CompareOptions",
    "ConvertOptions",
    "DataGetOptions",
    "DataListOptions",
    "DataMergeOptions",
    "DataSampleOptions",
    "DataShowOptions",
    "DataSplitOptions",
    "EvaluateOptions",
    "DoctorOptions",
    "EmbedOptions",
    "ExportOptions",
    "LabelOptions",
    "LossOptions",
    "OptionSpec",
    "Options",
    "PredictOptions",
    "ReportOptions",
    "ServeOptions",
    "SmoothOptions",
    "TrackOptions",
    "TrainOptions",
    "TritonOptions",
    "TuneOptions",
    "ValOptions",
    "modes_by_option",
    "check_options",
    "check_overrides",
    "default_options",
    "option_specs",
    "make_options",
]


def __getattr__(name: str) -> Any:
    """Load a name of `settings` when it is first used: its dataclasses cost more than the rest of the package."""
    if name in __all__:
        return getattr(import_module("yolopose.config.settings"), name)
    raise AttributeError(f"module 'yolopose.config' has no attribute {name!r}")
