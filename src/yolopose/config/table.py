"""The one table of keys: read from the option dataclasses; help, checks and YAML files are made from it."""

from __future__ import annotations

from dataclasses import Field, dataclass, fields
from functools import cache
from typing import Any

from yolopose.config.options import (
    ConvertOptions,
    ExportOptions,
    PredictOptions,
    TrackOptions,
    TrainOptions,
    ValOptions,
)

Options = PredictOptions | ValOptions | TrainOptions | ExportOptions | TrackOptions | ConvertOptions

MODES: dict[str, type[Options]] = {
    "train": TrainOptions,
    "val": ValOptions,
    "predict": PredictOptions,
    "export": ExportOptions,
    "track": TrackOptions,
    "convert": ConvertOptions,
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
}


@dataclass(frozen=True, slots=True)
class Key:
    """One key of the table.

    Attributes:
        name: the flat name, `conf`.
        type: its type as text, `float | None`.
        default: value when it is not given.
        help: one line.
        low: smallest number allowed, or None.
        high: largest number allowed, or None.
        choices: the only values allowed, or None.
    """

    name: str
    type: str
    default: Any
    help: str
    low: float | None
    high: float | None
    choices: tuple[Any, ...] | None


@cache
def keys_of(mode: str) -> dict[str, Key]:
    """Returns the keys of a mode by name, in the order in which help shows them."""
    return {item.name: _key(item) for item in fields(MODES[mode])}


@cache
def all_keys() -> dict[str, tuple[str, ...]]:
    """Returns every supported key with the modes that have it."""
    found: dict[str, tuple[str, ...]] = {}
    for mode in MODES:
        for name in keys_of(mode):
            found[name] = (*found.get(name, ()), mode)
    return found


def defaults(mode: str) -> dict[str, Any]:
    """Returns the default of each key of a mode."""
    return {name: key.default for name, key in keys_of(mode).items()}


def _key(item: Field[Any]) -> Key:
    about = item.metadata
    return Key(
        name=item.name,
        type=str(item.type),
        default=item.default,
        help=about["help"],
        low=about["low"],
        high=about["high"],
        choices=about["choices"],
    )
