"""The one table of keys: read from the option dataclasses; help, checks and YAML files are made from it."""

from __future__ import annotations

from dataclasses import Field, dataclass, fields
from functools import cache
from typing import Any

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

Options = (
    PredictOptions
    | ValOptions
    | TrainOptions
    | ExportOptions
    | TrackOptions
    | BenchmarkOptions
    | ConvertOptions
    | CompareOptions
    | ReportOptions
)

MODES: dict[str, type[Options]] = {
    "train": TrainOptions,
    "val": ValOptions,
    "predict": PredictOptions,
    "export": ExportOptions,
    "track": TrackOptions,
    "benchmark": BenchmarkOptions,
    "convert": ConvertOptions,
    "compare": CompareOptions,
    "report": ReportOptions,
}
# What an options file says about itself; no value of these is worth a note.
BOOKKEEPING = ("mode", "cfg", "save_dir")
# Keys that the reference package knows, now or in older versions, and that nothing here reads: taken at any mode, so
# that an old args.yaml loads; at another value than this default they are named in a note.
WITHOUT_MEANING: dict[str, Any] = {
    "task": "pose",
    "overlap_mask": True,
    "mask_ratio": 4,
    "retina_masks": False,
    "dropout": 0.0,
    "copy_paste": 0.0,
    "copy_paste_mode": "flip",
    "auto_augment": "randaugment",
    "erasing": 0.4,
    "crop_fraction": 1.0,
    "label_smoothing": 0.0,
    "visualize": False,
    "embed": None,
    "dnn": False,
    "save_hybrid": False,
    "distill_model": None,
    "dis": 6.0,
    "dlog": 1.0,
    "dgrad": 0.5,
    "dlam": 1.0,
    "nms": None,
    "quantize": None,
    "angle": 1.0,
    "show_masks": True,
    "int8": False,
    "boxes": True,
    "fl_gamma": 0.0,
    "hide_conf": False,
    "hide_labels": False,
    "line_thickness": 3,
    "min_memory": False,
    "v5loader": False,
    "eps": 1e-3,
}
# What people write who come from other tools, and what it is called here: the first that the mode has is proposed.
_MEANT = {
    "model": "weights weight checkpoint ckpt network net model_path pretrained_model",
    "source": "input inputs image images img_path image_path image images file files path folder video src data",
    "data": "dataset datasets data_yaml data_path yaml source",
    "conf": "confidence threshold thresh conf_thres conf_threshold confidence_threshold score score_thr min_conf",
    "iou": "iou_thres iou_threshold nms nms_thres nms_threshold overlap",
    "imgsz": "image_size img_size imgsize size img input_size input_shape resolution res shape imgs width height",
    "epochs": "epoch num_epochs n_epochs max_epochs iterations",
    "batch": "batch_size batchsize bs",
    "lr0": "lr learning_rate learningrate initial_lr",
    "lrf": "final_lr min_lr",
    "weight_decay": "wd decay",
    "optimizer": "optimizer optim opt",
    "patience": "early_stop early_stopping",
    "workers": "num_workers n_workers threads",
    "device": "gpu gpus cuda cpu device_id",
    "project": "output out output_dir out_dir outdir save_path output_path runs_dir",
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


def synonyms(word: str, mode: str) -> list[str]:
    """Return the keys of a mode that go by another name elsewhere: `confidence` → `conf`."""
    word = word.lower()
    return [key for key, names in _MEANT.items() if word in names.split() and key in option_specs(mode)]


@dataclass(frozen=True, slots=True)
class OptionSpec:
    """One key of the table.

    Attributes:
        name: the flat name, `conf`.
        type: its type as text, `float | None`.
        default: value when it is not given.
        help: one line.
        low: smallest number allowed, or None.
        high: largest number allowed, or None.
        choices: the only values allowed, or None.
        unread: whether nothing in this version reads it.
    """

    name: str
    type: str
    default: Any
    help: str
    low: float | None
    high: float | None
    choices: tuple[Any, ...] | None
    unread: bool

    @property
    def words(self) -> str:
        """The line of help, with what there is to say about this version."""
        return f"{self.help} (not read in this version yet)" if self.unread else self.help


@cache
def option_specs(mode: str) -> dict[str, OptionSpec]:
    """Return the keys of a mode by name, in the order in which help shows them."""
    return {item.name: _key(item) for item in fields(MODES[mode])}


@cache
def modes_by_option() -> dict[str, tuple[str, ...]]:
    """Return every supported key with the modes that have it."""
    found: dict[str, tuple[str, ...]] = {}
    for mode in MODES:
        for name in option_specs(mode):
            found[name] = (*found.get(name, ()), mode)
    return found


def defaults(mode: str) -> dict[str, Any]:
    """Return the default of each key of a mode."""
    return {name: key.default for name, key in option_specs(mode).items()}


def _key(item: Field[Any]) -> OptionSpec:
    about = item.metadata
    return OptionSpec(
        name=item.name,
        type=str(item.type),
        default=item.default,
        help=about["help"],
        low=about["low"],
        high=about["high"],
        choices=about["choices"],
        unread=about["unread"],
    )
