"""Keyword arguments of the methods of `YOLO`, for editors and type checkers (PEP 692).

They repeat the option dataclasses without the parameters that a method declares itself (`source`, `data`, `stream`). A
path may also be a `Path` object. A test compares names and types.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypedDict

from yolopose.config.options import DeviceSpec, ImageSize


class CommonKwargs(TypedDict, total=False):
    """Options of every mode."""

    model: str | Path | None
    device: DeviceSpec
    imgsz: ImageSize
    verbose: bool
    cfg: str | Path | None


class RunFolderKwargs(TypedDict, total=False):
    """Folder of a run."""

    project: str | Path | None
    name: str | None
    exist_ok: bool


class DetectionKwargs(TypedDict, total=False):
    """Thresholds and engine of inference."""

    conf: float | None
    iou: float
    max_det: int
    classes: int | Sequence[int] | None
    agnostic_nms: bool
    half: bool
    runtime: str | None
    augment: bool
    end2end: bool | None
    nms: bool | None
    detector: str | Path | None
    given_boxes: Any


class LabelFileKwargs(TypedDict, total=False):
    """Label files of detections."""

    save_txt: bool
    save_conf: bool


class DrawingKwargs(TypedDict, total=False):
    """Content of drawings."""

    show: bool
    show_labels: bool
    show_conf: bool
    show_boxes: bool
    line_width: int | None


class PredictKwargs(DrawingKwargs, LabelFileKwargs, RunFolderKwargs, DetectionKwargs, CommonKwargs, total=False):
    """Options of `YOLO.predict`."""

    batch: int
    save: bool
    save_crop: bool
    save_frames: bool
    save_json: bool
    save_jsonl: bool
    save_csv: bool
    vid_stride: int
    stream_buffer: bool
    fast_decode: bool
    compile: bool | str
    uncertainty: bool
    embed: int | Sequence[int] | None


class EmbedKwargs(RunFolderKwargs, CommonKwargs, total=False):
    """Options of `YOLO.embed`."""

    output: str | Path | None
    index: str | Path | None
    nearest: int
    batch: int
    half: bool
    vid_stride: int
    stream_buffer: bool
    fast_decode: bool


class TrackKwargs(PredictKwargs, total=False):
    """Options of `YOLO.track`."""

    tracker: str | Path
    max_instances: int | None
    fps: float | None
    timestamp: float | None
    smooth: bool | str
    save_tracks: str | None
    save_period: int
    resume: str | Path | None


class LabelKwargs(CommonKwargs, total=False):
    """Options of `YOLO.label`."""

    min_conf: float
    kpt_conf: float
    min_kpt_conf: float
    suggest: int | None
    labeled: str | Path | None
    copy: bool | None
    url: str
    batch: int
    vid_stride: int
    iou: float
    max_det: int
    classes: int | Sequence[int] | None
    agnostic_nms: bool
    half: bool
    runtime: str | None
    augment: bool
    detector: str | Path | None
    given_boxes: Any


class DataKwargs(TypedDict, total=False):
    """Data set and loading."""

    single_cls: bool
    workers: int | None
    strict: bool
    download: bool | None
    fraction: float | int | Sequence[Any]


class ValKwargs(LabelFileKwargs, RunFolderKwargs, DetectionKwargs, DataKwargs, CommonKwargs, total=False):
    """Options of `YOLO.val`."""

    split: str
    batch: int
    rect: bool
    save_json: bool
    protocol: str
    annotations: str | Path | None
    plots: bool


class ScheduleKwargs(TypedDict, total=False):
    """Optimizer and learning-rate schedule."""

    recipe: str
    epochs: int
    time: float | None
    patience: int
    optimizer: str
    lr0: float
    lr_backbone: float
    lr_keypoints: float
    lrf: float
    momentum: float
    weight_decay: float
    warmup_epochs: float
    warmup_momentum: float
    warmup_bias_lr: float
    nbs: int
    cos_lr: bool
    close_mosaic: int
    ema_decay: float
    ema_tau: float


class LossKwargs(TypedDict, total=False):
    """Loss gains and anchor assignment."""

    box: float
    cls: float
    cls_pw: float
    dfl: float
    pose: float
    kpt_l1: float
    kobj: float
    rle: float
    assigner: str | None


class AugmentKwargs(TypedDict, total=False):
    """Augmentation of training images."""

    hsv_h: float
    hsv_s: float
    hsv_v: float
    degrees: float
    translate: float
    scale: float
    shear: float
    perspective: float
    flipud: float
    fliplr: float
    bgr: float
    mosaic: float
    mixup: float
    cutmix: float
    augmentations: Sequence[Any] | None


class DistillKwargs(TypedDict, total=False):
    """Teacher of the training, and images without labels."""

    distill_model: str | Path | None
    dis: float
    dis_output: float
    unlabeled: str | Path | None
    unlabeled_conf: float
    unlabeled_ratio: float
    unlabeled_weight: float


class TrainKwargs(
    DistillKwargs, AugmentKwargs, LossKwargs, ScheduleKwargs, RunFolderKwargs, DataKwargs, CommonKwargs, total=False
):
    """Options of `YOLO.train`."""

    batch: int | float
    save: bool
    save_period: int
    cache: bool | str
    fast_decode: bool
    pretrained: bool | str | Path
    head_steps: int
    kpt_prior: bool
    visibility: int | None
    cls_remap: bool
    seed: int
    deterministic: bool
    rect: bool
    resume: bool | str | Path
    keep_state: bool
    amp: bool | str
    profile: bool
    freeze: int | Sequence[int] | None
    multi_scale: bool | float
    compile: bool | str
    channels_last: bool | None
    autotune: bool
    loggers: str | Sequence[Any] | None
    val: bool
    val_initial: bool
    plots: bool
    split: str
    conf: float | None
    iou: float
    max_det: int
    save_json: bool
    half: bool
    folds: int | None
    repeats: int


class TuneKwargs(TrainKwargs, total=False):
    """Options of `YOLO.tune`."""

    metric: str
    minutes: float | None
    space: Any
    parallel: int
    prune: bool
    grace_period: int
    gpu_per_trial: float | None


class CalibrateKwargs(RunFolderKwargs, CommonKwargs, total=False):
    """Options of `YOLO.calibrate`."""

    split: str
    run: str | Path | None
    method: str
    min_conf: float
    batch: int
    iou: float
    end2end: bool | None
    workers: int | None
    download: bool | None
    output: str | Path | None
    plots: bool


class ExportKwargs(CommonKwargs, total=False):
    """Options of `YOLO.export`."""

    format: str
    data: str | Path | None
    split: str
    fraction: float
    batch: int
    half: bool
    int8: bool
    quantize: int | str | None
    dynamic: bool
    simplify: bool
    opset: int | None
    workspace: float | None
    nms: bool | None
    end2end: bool | None
    uncertainty: bool
    optimize: bool
    web_runtime: str | Path | None
    name: str | None
    keras: bool
    conf: float | None
    iou: float
    max_det: int
    agnostic_nms: bool
    classes: int | Sequence[int] | None


class BenchmarkKwargs(RunFolderKwargs, total=False):
    """Options of `YOLO.benchmark`."""

    model: str | Path | None
    device: DeviceSpec
    imgsz: ImageSize
    split: str
    format: str
    half: bool
    int8: bool
    nms: bool
    fraction: float
    plots: bool
    detector: str | Path | None
    verbose: bool | float
    cfg: str | Path | None


class BatchKwargs(DetectionKwargs, CommonKwargs, total=False):
    """Options of `yolopose.jobs.run_job`."""

    engine: str
    batch: int
    vid_stride: int
    fast_decode: bool
    track: bool
    tracker: str
    max_instances: int | None
    fps: float | None
    shard: int
    workers: int | None
    threads: int | None
    gpus: float | None
    address: str | None
    task: str | None
    update: bool
    retry_errors: bool
    verify: bool
