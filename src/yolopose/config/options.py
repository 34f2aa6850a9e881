"""Options as typed dataclasses: each field declares its default, its range and one line of help, once.

A mode's options are composed from small groups. Help, checks, `yolo cfg` and the reading of old `args.yaml`
files all come from these declarations (see `table.py`). The key names are the public ones. Groups are listed from
right to left, as dataclasses order fields: the rightmost group stands first in help.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

ImageSize = int | Sequence[int]
DeviceSpec = str | int | Sequence[int | str] | None


def option(
    default: Any,
    help: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[Any, ...] | None = None,
    unread: bool = False,
) -> Any:
    """Declare a field.

    Args:
        default: value when the key is not given.
        help: one line for `yolo help`.
        low: smallest number allowed.
        high: largest number allowed.
        choices: the only values allowed.
        unread: it is taken, so that scripts and old option files run, but nothing in this version reads it: help and
            docs say so, and another value than the default is named in a note.
    """
    about = {"help": help, "low": low, "high": high, "choices": choices, "unread": unread}
    return field(default=default, metadata=about)


@dataclass(frozen=True, kw_only=True)
class CommonOptions:
    """Keys of every mode."""

    model: str | None = option(None, "model YAML or weights file")
    device: DeviceSpec = option(None, "where to compute: cpu, 0, 0,1, mps; the best there is when left out")
    imgsz: ImageSize = option(640, "side of the network's input in pixels, or [height, width]", low=1, high=100_000)
    verbose: bool = option(True, "print what is done")


@dataclass(frozen=True, kw_only=True)
class RunFolderOptions:
    """Where a run's files go."""

    project: str | None = option(None, "folder of the run folders; runs/pose when left out")
    name: str | None = option(None, "name of the run folder; the mode's own when left out")
    exist_ok: bool = option(False, "write into an existing run folder instead of a new, numbered one")


@dataclass(frozen=True, kw_only=True)
class DetectionOptions:
    """What counts as a detection."""

    conf: float | None = option(None, "smallest confidence; 0.25 in predict, 0.001 in val", low=0, high=1)
    iou: float = option(0.7, "boxes of a class that overlap more than this are one object", low=0, high=1)
    max_det: int = option(300, "most detections in an image", low=1, high=30_000)
    classes: int | Sequence[int] | None = option(None, "keep these class indices alone", low=0)
    agnostic_nms: bool = option(False, "suppress overlapping boxes of different classes too")
    half: bool = option(False, "compute in 16 bits where the device gains from it")
    runtime: str | None = option(
        None,
        "engine for weights: auto converts them once for the fastest that is installed; torch when left out",
        choices=(None, "auto", "openvino", "onnx", "torch"),
    )
    augment: bool = option(False, "average over flips and scales at test time")
    end2end: bool | None = option(
        None, "True: the detections that a YOLO26 network gives without suppression; otherwise all of its cells"
    )
    nms: bool | None = option(None, "False: the same as end2end=True")


@dataclass(frozen=True, kw_only=True)
class LabelFileOptions:
    """Text files of detections."""

    save_txt: bool = option(False, "write detections as label files")
    save_conf: bool = option(False, "add the confidence to label files")


@dataclass(frozen=True, kw_only=True)
class DrawingOptions:
    """What drawings show."""

    show: bool = option(False, "open a window with the result")
    show_labels: bool = option(True, "draw class names")
    show_conf: bool = option(True, "draw confidences")
    show_boxes: bool = option(True, "draw boxes")
    line_width: int | None = option(None, "width of lines in pixels; by the image's size when left out", low=1)


@dataclass(frozen=True, kw_only=True)
class PredictOptions(DrawingOptions, LabelFileOptions, RunFolderOptions, DetectionOptions, CommonOptions):
    """Options of `predict`."""

    source: Any = option(None, "image, folder, glob, list of images")
    batch: int = option(1, "images that go through the network together", low=1)
    stream: bool = option(False, "give results one by one (Python alone)")
    save: bool = option(False, "write annotated images and videos (the command line does so by default)")
    save_crop: bool = option(False, "write each detection's part of the image")
    save_frames: bool = option(False, "write the frames of a video as images, nothing drawn in")
    save_json: bool = option(False, "write detections as COCO results, predictions.json")
    save_jsonl: bool = option(False, "write predictions.jsonl: a line per image or frame, readable while it runs")
    save_csv: bool = option(False, "write predictions.csv: a row a detection")
    vid_stride: int = option(1, "use every n-th frame of a video", low=1)
    stream_buffer: bool = option(False, "keep all frames of a live stream instead of the newest")
    fast_decode: bool = option(False, "decode large JPEGs at a smaller scale: quicker, and a little other numbers")
    compile: bool | str = option(False, "compile the network: half a minute first, quicker images after it")
    uncertainty: bool = option(False, "tell σ of each point too, keypoints.sigma (YOLO26)")


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """Which data set, and how it is read."""

    data: str | None = option(None, "data YAML")
    single_cls: bool = option(False, "treat all classes as one")
    workers: int | None = option(
        None, "threads or processes that load images; 8 by default, at most one per CPU", low=0
    )
    strict: bool = option(False, "stop at a refused label file or image instead of leaving it out")
    download: bool | None = option(
        None, "fetch a data set that is not here: up to 1 GB when left out; True any size; False none"
    )
    fraction: float | int | Sequence[Any] = option(
        1.0,
        "training images to use: a share up to 1, a number above 1, or a list with one of these per entry of train:",
    )


@dataclass(frozen=True, kw_only=True)
class ValOptions(LabelFileOptions, RunFolderOptions, DetectionOptions, DataOptions, CommonOptions):
    """Options of `val`."""

    split: str = option("val", "split to measure on", choices=("train", "val", "test"))
    batch: int = option(16, "images that go through the network together", low=1)
    rect: bool = option(True, "batches of similar shapes with as little padding as goes")
    save_json: bool = option(False, "write detections as COCO results")
    protocol: str = option(
        "reference",
        "coco: AP and AR as the COCO evaluation counts them too, from the detections that save_json writes",
        choices=("reference", "coco"),
    )
    annotations: str | None = option(
        None, "COCO JSON of the split for protocol=coco; looked for with the data set, or made of the labels"
    )
    plots: bool = option(True, "draw curves, confusion matrix and sample batches")


@dataclass(frozen=True, kw_only=True)
class ScheduleOptions:
    """Optimizer, learning rate and its course."""

    epochs: int = option(100, "passes over the training images", low=1)
    time: float | None = option(None, "hours to train for; overrides epochs", low=0)
    patience: int = option(100, "stop after so many epochs without gain", low=0)
    optimizer: str = option(
        "auto",
        "optimiser",
        choices=("auto", "SGD", "MuSGD", "Adam", "Adamax", "AdamW", "NAdam", "RAdam", "RMSProp"),
    )
    lr0: float = option(0.01, "learning rate at the start", low=0)
    lrf: float = option(0.01, "learning rate at the end, as a share of lr0", low=0)
    momentum: float = option(0.937, "momentum, or β₁ of the Adam kinds", low=0, high=1)
    weight_decay: float = option(0.0005, "weight decay", low=0, high=1)
    warmup_epochs: float = option(3.0, "epochs of warm-up", low=0)
    warmup_momentum: float = option(0.8, "momentum at the start of warm-up", low=0, high=1)
    warmup_bias_lr: float = option(0.1, "learning rate of biases at the start of warm-up", low=0, high=1)
    nbs: int = option(64, "nominal batch: gradients are accumulated up to it", low=1)
    cos_lr: bool = option(False, "cosine course of the learning rate instead of a line")
    close_mosaic: int = option(10, "last epochs without mosaic", low=0)


@dataclass(frozen=True, kw_only=True)
class LossOptions:
    """Gains of the losses."""

    box: float = option(7.5, "gain of the box loss", low=0)
    cls: float = option(0.5, "gain of the class loss", low=0)
    cls_pw: float = option(0.0, "power of class weights by their rarity", low=0, high=1)
    dfl: float = option(1.5, "gain of the box distribution loss; of the distance loss (l1) of YOLO26", low=0)
    pose: float = option(12.0, "gain of the keypoint loss", low=0)
    kobj: float = option(1.0, "gain of the keypoint visibility loss", low=0)
    rle: float = option(1.0, "gain of the residual log-likelihood loss (YOLO26)", low=0)
    assigner: str | None = option(
        None,
        "what gives cells to objects: box (overlap) or oks (keypoints); oks for YOLO26, else box, when left out",
        choices=(None, "box", "oks"),
    )


@dataclass(frozen=True, kw_only=True)
class AugmentOptions:
    """Augmentation of training images."""

    hsv_h: float = option(0.015, "hue gain", low=0, high=1)
    hsv_s: float = option(0.7, "saturation gain", low=0, high=1)
    hsv_v: float = option(0.4, "value gain", low=0, high=1)
    degrees: float = option(0.0, "rotation, ± degrees", low=0, high=180)
    translate: float = option(0.1, "shift, ± share of the side", low=0, high=1)
    scale: float = option(0.5, "scale, ± gain", low=0, high=1)
    shear: float = option(0.0, "shear, ± degrees", low=0, high=180)
    perspective: float = option(0.0, "perspective, ± share", low=0, high=0.001)
    flipud: float = option(0.0, "probability of a vertical flip", low=0, high=1)
    fliplr: float = option(0.5, "probability of a horizontal flip", low=0, high=1)
    bgr: float = option(0.0, "probability of swapped channels", low=0, high=1)
    mosaic: float = option(1.0, "probability of a mosaic of four images", low=0, high=1)
    mixup: float = option(0.0, "probability of blending with another sample", low=0, high=1)
    cutmix: float = option(0.0, "probability of pasting a part of another sample", low=0, high=1)


@dataclass(frozen=True, kw_only=True)
class TrainOptions(AugmentOptions, LossOptions, ScheduleOptions, RunFolderOptions, DataOptions, CommonOptions):
    """Options of `train`."""

    batch: int | float = option(16, "images a step; -1: as many as fit; 0…1: share of the memory", low=-1)
    save: bool = option(True, "write checkpoints")
    save_period: int = option(-1, "write a checkpoint every n epochs", low=-1)
    cache: bool | str = option(
        False, "keep images in memory (True, ram) or decoded on disk", choices=(False, True, "ram", "disk")
    )
    pretrained: bool | str = option(True, "start from these weights")
    cls_remap: bool = option(True, "move class weights by class name")
    seed: int = option(0, "seed of all random numbers", low=0)
    deterministic: bool = option(True, "same numbers for the same seed; on the CPU always so")
    rect: bool = option(False, "batches of similar shapes instead of squares")
    resume: bool | str = option(False, "go on with an interrupted run")
    amp: bool | str = option(True, "mixed precision", choices=(True, False, "fp16", "bf16", "fp32"))
    profile: bool = option(False, "time the exported formats during training", unread=True)
    freeze: int | Sequence[int] | None = option(
        None, "first n layers, or a list of layers, that are not trained", low=0
    )
    multi_scale: bool | float = option(0.0, "vary the input size by ± this share; True: by half", low=0, high=1)
    compile: bool | str = option(False, "compile the network")
    channels_last: bool | None = option(None, "memory format; chosen by measurement when left out")
    loggers: str | Sequence[Any] | None = option(
        None, "write there too: tensorboard, wandb, mlflow, trackio; what the settings say when left out"
    )
    val: bool = option(True, "validate after each epoch")
    plots: bool = option(True, "draw curves and sample batches")
    split: str = option("val", "split to validate on", choices=("train", "val", "test"))
    conf: float | None = option(None, "smallest confidence in validation", low=0, high=1)
    iou: float = option(0.7, "suppression threshold in validation", low=0, high=1)
    max_det: int = option(300, "most detections in an image in validation", low=1, high=30_000)
    save_json: bool = option(False, "write validation detections as COCO results")
    half: bool = option(False, "validate in 16 bits")


@dataclass(frozen=True, kw_only=True)
class ExportOptions(CommonOptions):
    """Options of `export`."""

    format: str = option("torchscript", "file format")
    data: str | None = option(None, "data YAML; int8 is fitted to its images, and the file is tried on one")
    split: str = option("val", "split of these images", choices=("train", "val", "test"))
    fraction: float = option(1.0, "share of these images", low=0, high=1)
    batch: int = option(1, "batch of the exported network", low=1)
    half: bool = option(False, "16-bit floats")
    int8: bool = option(False, "8-bit integers, fitted to images of data=")
    quantize: int | str | None = option(
        None,
        "bits of the numbers: 8 is int8=True, 16 is half=True, 32 is neither",
        choices=(None, 8, 16, 32, "int8", "fp16", "fp32", "w8a8", "w16a16", "w8a16", "w8a32"),
    )
    dynamic: bool = option(False, "any input size")
    simplify: bool = option(True, "simplify the graph")
    opset: int | None = option(None, "ONNX operator set", low=1)
    workspace: float | None = option(None, "TensorRT workspace in GiB", low=0)
    nms: bool | None = option(None, "put suppression of duplicates into the graph; False: the same as end2end=True")
    end2end: bool | None = option(None, "write the detections that a YOLO26 network gives without suppression")
    uncertainty: bool = option(False, "write σ of each point too: 2·K more numbers a detection (YOLO26)")
    optimize: bool = option(False, "optimize for mobile processors")
    web_runtime: str | None = option(
        None, "format=web: fetch (once, from npm) what computes in the page, or the folder or .tgz of that package"
    )
    name: str | None = option(None, "chip that format=rknn is for; rk3588 when left out")
    keras: bool = option(False, "write the Keras form", unread=True)
    conf: float | None = option(None, "smallest confidence of nms=True; 0.25 when left out", low=0, high=1)
    iou: float = option(0.7, "overlap above which nms=True takes two boxes for one object", low=0, high=1)
    max_det: int = option(300, "rows that nms=True gives for each image", low=1, high=30_000)
    agnostic_nms: bool = option(False, "nms=True suppresses overlapping boxes of different classes too")
    classes: int | Sequence[int] | None = option(None, "nms=True keeps these class indices alone", low=0)


@dataclass(frozen=True, kw_only=True)
class BenchmarkOptions(RunFolderOptions, CommonOptions):
    """Options of `benchmark`."""

    data: str | None = option(None, "data YAML to measure on; that of the weights when left out")
    split: str = option("val", "split to measure on", choices=("train", "val", "test"))
    format: str = option("", "this format alone; all that can be written when left out")
    half: bool = option(False, "16-bit floats")
    int8: bool = option(False, "8-bit integers, fitted to images of the train split")
    nms: bool = option(False, "suppression of duplicates inside the files")
    fraction: float = option(1.0, "share of the images that int8 is fitted to", low=0, high=1)
    plots: bool = option(True, "draw accuracy over time")
    verbose: bool | float = option(  # pyright: ignore[reportIncompatibleVariableOverride]  # the public interface has it
        True, "print what is done; a number: an error where pose mAP50-95 falls below it", low=0, high=1
    )


@dataclass(frozen=True, kw_only=True)
class TrackOptions(PredictOptions):
    """Options of `track`."""

    tracker: str = option("bytetrack.yaml", "tracker YAML")
    persist: bool = option(False, "keep tracks between calls (Python alone)")


@dataclass(frozen=True, kw_only=True)
class ConvertOptions:
    """Options of `convert`: COCO annotations to labels (`source`), or labels to COCO annotations (`data`)."""

    source: str | None = option(None, "COCO keypoint JSON file, or folder of such files, to make labels of")
    images: str | None = option(None, "folder of its images; looked for beside the annotations when left out")
    data: str | None = option(None, "data YAML to make a COCO JSON file of")
    split: str = option("val", "split of that data set", choices=("train", "val", "test"))
    output: str | None = option(None, "folder of the labels (coco_converted), or JSON file (SPLIT.json)")


@dataclass(frozen=True, kw_only=True)
class CompareOptions:
    """Options of `compare`: two runs of `val` on the same images."""

    a: str | None = option(None, "folder of the first run, such as runs/pose/val")
    b: str | None = option(None, "folder of the second run")


@dataclass(frozen=True, kw_only=True)
class ReportOptions:
    """Options of `report`: the page of a run, made again from what its folder keeps."""

    run: str | None = option(None, "folder of a run of val, or of a training, such as runs/pose/val3")
    images: int = option(24, "how many images the page shows at most", low=0)
