"""Table of all options, read from the option dataclasses; checks, help and option files are made from it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cache
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

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
from yolopose.config.train_options import TrainOptions
from yolopose.config.tune_options import CalibrateOptions, TuneOptions

Options = (
    PredictOptions
    | ValOptions
    | TrainOptions
    | ExportOptions
    | TrackOptions
    | EmbedOptions
    | BenchmarkOptions
    | ConvertOptions
    | CompareOptions
    | ReportOptions
    | LabelOptions
    | DataSplitOptions
    | DataMergeOptions
    | DataSampleOptions
    | DataShowOptions
    | DataListOptions
    | DataGetOptions
    | EvaluateOptions
    | SmoothOptions
    | DoctorOptions
    | BatchOptions
    | ServeOptions
    | TritonOptions
    | TuneOptions
    | CalibrateOptions
)

MODES: dict[str, type[Options]] = {
    "train": TrainOptions,
    "val": ValOptions,
    "predict": PredictOptions,
    "export": ExportOptions,
    "track": TrackOptions,
    "embed": EmbedOptions,
    "benchmark": BenchmarkOptions,
    "convert": ConvertOptions,
    "compare": CompareOptions,
    "report": ReportOptions,
    "label": LabelOptions,
    "data split": DataSplitOptions,
    "data merge": DataMergeOptions,
    "data sample": DataSampleOptions,
    "data show": DataShowOptions,
    "data list": DataListOptions,
    "data get": DataGetOptions,
    "evaluate": EvaluateOptions,
    "smooth": SmoothOptions,
    "doctor": DoctorOptions,
    "batch": BatchOptions,
    "serve": ServeOptions,
    "triton": TritonOptions,
    "tune": TuneOptions,
    "calibrate": CalibrateOptions,
}
# Keys with which an options file describes itself; ignored without a warning.
FILE_KEYS = ("mode", "cfg", "save_dir")
# Options whose natural name is a keyword of Python.
ALIASES = {"from": "source_format"}
# Names of options in other tools. The first option that the mode has is suggested.
_SYNONYMS = {
    "model": "weights weight checkpoint ckpt network net model_path pretrained_model",
    "source": "input inputs image images img_path image_path image images file files path folder video src data",
    "data": "dataset datasets data_yaml data_path yaml source",
    "min_conf": "conf confidence threshold thresh score",
    "kpt_conf": "point_conf keypoint_conf kpt_threshold point_threshold",
    "val": "val_fraction val_ratio val_size ratio fraction",
    "test": "test_fraction test_ratio test_size",
    "group": "groups group_by regex pattern",
    "n": "count num number images size",
    "conf": "confidence threshold thresh conf_thres conf_threshold confidence_threshold score score_thr min_conf",
    "iou": "iou_thres iou_threshold nms nms_thres nms_threshold overlap",
    "imgsz": "image_size img_size imgsize size img input_size input_shape resolution res shape imgs width height",
    "epochs": "epoch num_epochs n_epochs max_epochs iterations",
    "batch": "batch_size batchsize bs",
    "lr0": "lr learning_rate learningrate initial_lr",
    "lrf": "final_lr min_lr",
    "weight_decay": "wd decay",
    "optimizer": "optim opt",
    "iterations": "n_trials trials num_samples max_trials",
    "minutes": "timeout budget time_budget",
    "patience": "early_stop early_stopping",
    "workers": "num_workers n_workers threads",
    "shard": "shard_size chunk chunk_size",
    "address": "ray_address cluster",
    "device": "gpu gpus cuda cpu device_id",
    "project": "output out output_dir out_dir outdir save_path output_path runs_dir",
    "truth": "gt ground_truth",
    "output": "out output_dir out_dir outdir save_dir project target",
    "format": "fmt type to export_format",
    "half": "fp16 float16",
    "amp": "mixed_precision fp16",
    "max_det": "max_detections max_objects topk",
    "classes": "class cls_ids class_ids",
    "fliplr": "flip mirror hflip horizontal_flip",
    "flipud": "vflip vertical_flip",
    "degrees": "rotate rotation angle",
    "resume": "continue restore",
    "save_txt": "txt labels save_labels",
    "line_width": "line_thickness thickness",
    "download": "fetch",
    "annotations": "annotation ann_file anno gt anno_json",
}


def find_synonyms(name: str, mode: str) -> list[str]:
    """Return the options of a mode that have this name in other tools: `confidence` → `conf`."""
    name = name.lower()
    return [option for option, names in _SYNONYMS.items() if name in names.split() and option in option_specs(mode)]


@dataclass(frozen=True, slots=True)
class OptionSpec:
    """Declaration of one option.

    Attributes:
        name: flat name, such as `conf`.
        types: members of its type: `float`, `NoneType`, `Sequence[int]`, ….
        default: value when it is not given.
        help: one line.
        low: smallest value allowed, or None.
        high: largest value allowed, or None.
        choices: the only values allowed, or None.
        unread: whether this version accepts it without using it.
    """

    name: str
    types: tuple[Any, ...]
    default: Any
    help: str
    low: float | None
    high: float | None
    choices: tuple[Any, ...] | None
    unread: bool

    @property
    def description(self) -> str:
        """Line of help, with a note where this version does not use the option."""
        return f"{self.help} (not used in this version yet)" if self.unread else self.help

    @property
    def is_switch(self) -> bool:
        """Whether the name without a value means True."""
        return self.types[0] is bool

    @property
    def is_text(self) -> bool:
        """Whether a value on the command line is text, even if it looks like a number."""
        return set(self.types) <= {str, NoneType} or Any in self.types


@cache
def option_specs(mode: str) -> dict[str, OptionSpec]:
    """Return the options of a mode by name, in the order of the help."""
    hints = get_type_hints(MODES[mode])
    return {
        field.name: OptionSpec(
            name=field.name, types=_union_members(hints[field.name]), default=field.default, **field.metadata
        )
        for field in fields(MODES[mode])
    }


@cache
def modes_by_option() -> dict[str, tuple[str, ...]]:
    """Return every option with the modes that have it."""
    modes: dict[str, tuple[str, ...]] = {}
    for mode in MODES:
        for name in option_specs(mode):
            modes[name] = (*modes.get(name, ()), mode)
    return modes


def default_options(mode: str) -> dict[str, Any]:
    """Return the default of each option of a mode."""
    return {name: spec.default for name, spec in option_specs(mode).items()}


def _union_members(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
