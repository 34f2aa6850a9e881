"""Resolved settings of each mode: validated options, completed with the facts of the network and the machine.

A settings object is its options dataclass with `imgsz` a multiple of the stride, `classes` checked against the network
and the defaults of the mode. Code below the methods of `YOLO` reads settings, never raw options. Each decision has one
function here, except for those of a training that need its device or a measurement (`device`, `amp`, `channels_last`,
`workers=None`, `batch=-1`): `yolopose.train` makes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar, cast

from yolopose.base.cpu import available_cpus
from yolopose.base.errors import UsageError
from yolopose.base.files import make_run_folder
from yolopose.base.log import warn_once
from yolopose.base.settings import load_settings
from yolopose.config.options import (
    BenchmarkOptions,
    DeviceSpec,
    ExportOptions,
    ImageSize,
    PredictOptions,
    RunFolderOptions,
    TrackOptions,
    ValOptions,
)
from yolopose.config.train_options import TrainOptions
from yolopose.schema import ModelMetadata

S = TypeVar("S")

PREDICT_CONF = 0.25
"""Default confidence threshold of what is shown to users: predict, export with nms=True, the confusion matrix."""
VAL_CONF = 0.001
"""Default confidence threshold of validation, where average precision needs the whole curve."""
DEFAULT_WORKERS = 8

_DEVICE_NAMES = {"intel:cpu": "cpu", "cpu:0": "cpu"}
_BITS = {"32": 32, "fp32": 32, "16": 16, "fp16": 16, "w16a16": 16, "8": 8, "int8": 8, "w8a8": 8}


# -- one function per decision ---------------------------------------------------------------------------------------


def round_imgsz(imgsz: ImageSize, stride: int) -> tuple[int, int]:
    """Return (height, width) rounded up to multiples of the stride, with a warning where that changes it."""
    sides = (imgsz,) if isinstance(imgsz, int) else tuple(imgsz)
    height, width = (-(-side // stride) * stride for side in (sides[0], sides[-1]))
    if (height, width) != (sides[0], sides[-1]):
        warn_once(f"imgsz={imgsz} is not a multiple of the stride {stride}: rounded up to {[height, width]}.")
    return height, width


def resolve_imgsz(imgsz: ImageSize, metadata: ModelMetadata) -> tuple[int, int]:
    """Return the input size (height, width) of a network; a file exported for one size keeps that size."""
    if metadata.dynamic:
        return round_imgsz(imgsz, metadata.stride)
    sides = (imgsz,) if isinstance(imgsz, int) else tuple(imgsz)
    if (sides[0], sides[-1]) != metadata.imgsz:
        warn_once(f"imgsz={imgsz} is ignored: this network was exported only for {list(metadata.imgsz)}.")
    return metadata.imgsz


def parse_classes(classes: int | Sequence[int] | None, names: dict[int, str]) -> tuple[int, ...] | None:
    """Return the class indices to keep, None for all.

    Args:
        classes: one index, several, or None.
        names: class names of the network by index.

    Raises:
        UsageError: the network does not have the class, or no class is given.
    """
    if classes is None:
        return None
    indices = (classes,) if isinstance(classes, int) else tuple(classes)
    if not indices:
        raise UsageError("classes=[] selects no class: give at least one class index, or omit classes to use all.")
    for index in indices:
        if index not in names:
            known = ", ".join(f"{number} ({name})" for number, name in names.items())
            raise UsageError(f"classes={classes}: unknown class {index}; this network has {known}.")
    return indices


def parse_devices(device: DeviceSpec) -> tuple[str, ...]:
    """Return the devices by name, lower case (`cpu`, `0`, `cuda:1`, `mps`); empty for the best available one.

    Args:
        device: one device or several in any spelling: `"cpu"`, `0`, `"0,1"`, `[0, 1]`, `"cpu,cpu"`, a `torch.device`,
            `"intel:cpu"` (OpenVINO's CPU, in the reference package).
    """
    if isinstance(device, (list, tuple)):
        parts = [str(part) for part in device]
    else:
        parts = ("" if device is None else str(device)).strip().strip("[]()").split(",")
    names = (part.strip().lower() for part in parts)
    return tuple(_DEVICE_NAMES.get(name, name) for name in names if name not in ("", "none"))


def limit_workers(workers: int | None) -> int:
    """Return the number of loading threads or processes: at most one per CPU; 8 where none is given."""
    return min(DEFAULT_WORKERS if workers is None else workers, available_cpus())


def precision_bits(options: ExportOptions) -> int:
    """Return the bits of the exported values, 8, 16 or 32, from `quantize`, or else `int8` and `half`.

    Raises:
        UsageError: weights and activations of different precision are requested, which no format supports.
    """
    if options.quantize is None:
        return 8 if options.int8 else 16 if options.half else 32
    kind = str(options.quantize).lower()
    if kind not in _BITS:
        raise UsageError(
            f"quantize={options.quantize} (weights and activations of different precision) is not supported by any "
            f"format; supported are quantize={', '.join(_BITS)}."
        )
    return _BITS[kind]


def train_batch(batch: float) -> int | float:
    """Return the checked `batch` of a training: images, -1 for as many as fit, or the share of memory to fill.

    Raises:
        UsageError: it is none of these.
    """
    if batch >= 1 and int(batch) == batch:
        return int(batch)
    if batch == -1 or 0 < batch < 1:
        return batch
    raise UsageError(
        f"batch={batch:g} is not a number of images: give an integer from 1, -1 for as many as fit the memory, or "
        "the share of the free memory to fill, between 0 and 1."
    )


@dataclass(frozen=True, slots=True)
class RunLocation:
    """Where the folder of a run is created: `project/name`, numbered if that exists and `exist_ok` is False.

    Attributes:
        project: parent folder; None for `pose` in the runs folder of the user's settings.
        name: name of the folder.
        exist_ok: whether an existing folder is used.
    """

    project: Path | None
    name: str
    exist_ok: bool

    @property
    def parent(self) -> Path:
        """Parent folder of the run; the user's settings are only read if it is needed."""
        return self.project or Path(load_settings().runs_dir) / "pose"

    def create(self) -> Path:
        """Create the run folder.

        Raises:
            OutputError: it cannot be created.
        """
        return make_run_folder(self.parent, self.name, self.exist_ok)


def run_location(options: RunFolderOptions, mode: str) -> RunLocation:
    """Return where a run of this mode is stored: `project/name`, `runs/pose/MODE` by default."""
    project = Path(options.project) if options.project else None
    return RunLocation(project, options.name or mode, options.exist_ok)


# -- one settings object per mode ------------------------------------------------------------------------------------

# `= field()` makes a field required: without it the dataclass would inherit the default of the option.


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class PredictSettings(PredictOptions):
    """Resolved settings of `predict`.

    Attributes:
        imgsz: (height, width) into which images are fitted, multiples of `stride`.
        rect: whether the input is the smallest rectangle around an image instead of the whole `imgsz`.
        batch: most images per call; a fixed batch of an exported file wins.
        stride: sides of an input are multiples of it.
        native_size: whether the engine takes images at their own size; `imgsz` and `rect` have no effect then.
        device: names of the devices; empty for the best one.
        run: where files are stored.
    """

    imgsz: tuple[int, int] = field()
    conf: float = field()
    classes: tuple[int, ...] | None = field()
    device: tuple[str, ...] = field()
    fast_decode: bool = field()
    rect: bool
    stride: int
    native_size: bool
    run: RunLocation


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class TrackSettings(PredictSettings, TrackOptions):
    """Resolved settings of `track`: those of `predict`, and the options of the tracker.

    Attributes:
        save_jsonl: also with `smooth="offline"`, which smooths that file.
    """


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class ValSettings(ValOptions):
    """Resolved settings of `val`.

    Attributes:
        imgsz: (height, width), multiples of `stride`. With `rect`, both are the longer side of an image.
        rect: whether each batch has the smallest shape that fits; False where the network or `imgsz` fixes the shape.
        batch: images per batch, a multiple of a fixed batch of an exported file.
        class_conf: thresholds of the classes where a calibration makes them different; None for `conf` in all.
        matrix_conf: confidence threshold of the confusion matrix.
        workers: threads that load images.
        stride: sides of an input are multiples of it.
        native_size: whether the engine takes images at their own size; a batch then holds images of one size.
        device: names of the devices; empty for the best one.
        run: where files are stored.
    """

    imgsz: tuple[int, int] = field()
    conf: float = field()
    class_conf: tuple[float, ...] | None = None
    matrix_conf: float
    classes: tuple[int, ...] | None = field()
    device: tuple[str, ...] = field()
    workers: int = field()
    stride: int
    native_size: bool
    run: RunLocation


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class TrainSettings(TrainOptions):
    """Resolved settings of `train`.

    Attributes:
        imgsz: side of the square input, a multiple of `stride`.
        workers: processes that make batches, at most one per CPU; None where none is given.
        stride: largest stride of the network.
        run: where the run is stored.
    """

    imgsz: int = field()
    workers: int | None = field()
    stride: int
    run: RunLocation

    @property
    def devices(self) -> tuple[str, ...]:
        """Names of the devices; empty for the best one."""
        return parse_devices(self.device)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class ExportSettings(ExportOptions):
    """Resolved settings of `export`.

    Attributes:
        imgsz: (height, width) of the input, multiples of the stride.
        conf: confidence threshold of suppression inside the file.
        bits: bits of the stored values: 8, 16 or 32.
    """

    imgsz: tuple[int, int] = field()
    conf: float = field()
    classes: tuple[int, ...] | None = field()
    bits: int


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class BenchmarkSettings(BenchmarkOptions):
    """Resolved settings of `benchmark`.

    Attributes:
        imgsz: (height, width) of the input, multiples of the stride.
        run: where files and table are stored.
    """

    imgsz: tuple[int, int] = field()
    run: RunLocation


def predict_settings(options: PredictOptions, metadata: ModelMetadata) -> PredictSettings:
    """Resolve the options of `predict` for a network.

    Raises:
        UsageError: the options do not fit the network.
    """
    return _inference_settings(PredictSettings, options, metadata, PREDICT_CONF, "predict")


def track_settings(options: TrackOptions, metadata: ModelMetadata, min_score: float) -> TrackSettings:
    """Resolve the options of `track` for a network.

    Args:
        options: the options.
        metadata: metadata of the network.
        min_score: smallest score that the tracker uses, the default confidence threshold.

    Raises:
        UsageError: the options do not fit the network.
    """
    if options.embed is not None:
        raise UsageError("embed= returns vectors, which cannot be tracked: use model.embed(source) beside track.")
    if options.smooth == "offline":
        options = replace(options, save_jsonl=True)
    return _inference_settings(TrackSettings, options, metadata, min_score, "track")


P = TypeVar("P", bound=PredictSettings)


def _inference_settings(kind: type[P], options: PredictOptions, metadata: ModelMetadata, conf: float, mode: str) -> P:
    return _complete(
        kind,
        options,
        imgsz=resolve_imgsz(options.imgsz, metadata),
        conf=conf if options.conf is None else options.conf,
        classes=parse_classes(options.classes, metadata.spec.names),
        device=parse_devices(options.device),
        batch=metadata.batch or options.batch,
        fast_decode=options.fast_decode and not metadata.native_size,
        rect=metadata.dynamic,
        stride=metadata.stride,
        native_size=metadata.native_size,
        run=run_location(options, mode),
    )


def val_settings(options: ValOptions, metadata: ModelMetadata) -> ValSettings:
    """Resolve the options of `val` for a network.

    Raises:
        UsageError: the options do not fit the network.
    """
    imgsz = resolve_imgsz(options.imgsz, metadata)
    conf = VAL_CONF if options.conf is None else options.conf
    class_conf = None
    if options.conf is None and metadata.calibration:  # the same detections as before the calibration
        class_conf = metadata.calibration.of_classes(VAL_CONF)
        conf = min(class_conf)
    classes = None if options.single_cls else parse_classes(options.classes, metadata.spec.names)
    fixed_batch = metadata.batch or 1
    return _complete(
        ValSettings,
        options,
        imgsz=imgsz,
        conf=conf,
        class_conf=class_conf,
        matrix_conf=PREDICT_CONF if options.conf is None else options.conf,
        classes=classes,
        device=parse_devices(options.device),
        batch=max(options.batch // fixed_batch, 1) * fixed_batch,
        rect=options.rect and metadata.dynamic and imgsz[0] == imgsz[1],
        workers=limit_workers(options.workers),
        stride=metadata.stride,
        native_size=metadata.native_size,
        run=run_location(options, "val"),
    )


def train_settings(options: TrainOptions, stride: int) -> TrainSettings:
    """Resolve the options of `train` for a network of this stride.

    Raises:
        UsageError: an option is impossible.
    """
    side = max(round_imgsz(options.imgsz, stride))
    if not isinstance(options.imgsz, int) and len(set(options.imgsz)) > 1:
        warn_once(f"imgsz={list(options.imgsz)}: training uses square inputs, here {side} pixels.")
    return _complete(
        TrainSettings,
        options,
        imgsz=side,
        batch=train_batch(options.batch),
        workers=None if options.workers is None else limit_workers(options.workers),
        stride=stride,
        run=run_location(options, "train"),
    )


def export_settings(options: ExportOptions, metadata: ModelMetadata) -> ExportSettings:
    """Resolve the options of `export` for a network.

    Raises:
        UsageError: the options do not fit the network, or contradict each other.
    """
    return _complete(
        ExportSettings,
        options,
        imgsz=round_imgsz(options.imgsz, metadata.stride),
        conf=PREDICT_CONF if options.conf is None else options.conf,
        classes=parse_classes(options.classes, metadata.spec.names),
        bits=precision_bits(options),
    )


def benchmark_settings(options: BenchmarkOptions, metadata: ModelMetadata) -> BenchmarkSettings:
    """Resolve the options of `benchmark` for a network."""
    imgsz = round_imgsz(options.imgsz, metadata.stride)
    return _complete(BenchmarkSettings, options, imgsz=imgsz, run=run_location(options, "benchmark"))


def adjustable(settings: S) -> S:
    """Return a copy of options or settings that callbacks may change during a run: `trainer.args.val = False`."""
    kind = type(settings)
    # a subclass may lift the protection of a frozen dataclass; fields(), replace() and isinstance() still work
    unlocked = type(f"Adjustable{kind.__name__}", (kind,), {"__setattr__": object.__setattr__})
    return _complete(cast("type[S]", unlocked), settings)


def _complete(kind: type[S], options: object, **resolved: Any) -> S:
    """Make settings of the given options with some values resolved."""
    values = {field.name: getattr(options, field.name) for field in fields(cast(Any, options))}
    return kind(**{**values, **resolved})
