"""Options as typed dataclasses: each field declares its default, range and one line of help.

The options of a mode are composed of groups. Help, checks, `yolo cfg` and the reading of old `args.yaml` files use
these declarations (see `table.py`). Dataclasses order fields by base class from right to left, so the rightmost group
comes first in the help.

Every start of the program creates these classes. Methods that `dataclass` would generate for each of them, which
takes longer than the rest, are omitted: `eq` and `repr` are inherited, and groups, which have no instances, need no
`init`.
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
    """Declare an option.

    Args:
        default: value when the option is not given.
        help: one line for `yolo help`.
        low: smallest value allowed.
        high: largest value allowed.
        choices: the only values allowed.
        unread: accepted so that scripts and old option files run, but without effect in this version; the help says
            so, and a value other than the default causes a warning.
    """
    metadata = {"help": help, "low": low, "high": high, "choices": choices, "unread": unread}
    return field(default=default, metadata=metadata)


class OptionValues:
    """Comparison and representation of options, instead of a generated pair of methods per class."""

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and vars(other) == vars(self)

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={value!r}" for name, value in vars(self).items())
        return f"{type(self).__name__}({values})"

    __hash__ = None  # type: ignore[assignment]  # values may be lists


@dataclass(frozen=True, kw_only=True, eq=False, repr=False, init=False)
class CommonOptions(OptionValues):
    """Options of every mode."""

    model: str | None = option(None, "model YAML or weights file")
    device: DeviceSpec = option(None, "device: cpu, 0, 0,1, mps; the best available one by default")
    imgsz: ImageSize = option(640, "side of the network input in pixels, or [height, width]", low=1, high=100_000)
    verbose: bool = option(True, "print progress and results")


@dataclass(frozen=True, kw_only=True, eq=False, repr=False, init=False)
class RunFolderOptions(OptionValues):
    """Folder of a run."""

    project: str | None = option(None, "parent of the run folder; runs/pose by default")
    name: str | None = option(None, "name of the run folder; the name of the mode by default")
    exist_ok: bool = option(False, "use an existing run folder instead of a new, numbered one")


@dataclass(frozen=True, kw_only=True, eq=False, repr=False, init=False)
class DetectionOptions(OptionValues):
    """Thresholds and engine of inference."""

    conf: float | None = option(
        None,
        "confidence threshold; 0.25 in predict, 0.001 in val and that of the tracker in track by default",
        low=0,
        high=1,
    )
    iou: float = option(0.7, "IoU threshold of NMS", low=0, high=1)
    max_det: int = option(300, "maximum number of detections per image", low=1, high=30_000)
    classes: int | Sequence[int] | None = option(None, "keep only these class indices", low=0)
    agnostic_nms: bool = option(False, "NMS across classes")
    half: bool = option(False, "compute in 16 bits where the device is faster with it")
    runtime: str | None = option(
        None,
        "runtime for weights: auto converts them once to the fastest installed one; torch by default",
        choices=(None, "auto", "openvino", "onnx", "torch"),
    )
    augment: bool = option(False, "test-time augmentation with flips and scales")
    end2end: bool | None = option(
        None, "True: use the NMS-free output of a YOLO26 network instead of NMS over all anchors"
    )
    nms: bool | None = option(None, "False: same as end2end=True")
    detector: str | None = option(
        None,
        "for a top-down network (rtmpose-m): model that finds the instances, or image if one instance fills each image",
    )
    given_boxes: Any = option(
        None,
        "for a top-down network: COCO JSON or folder of label files with the boxes; in Python also a list of x1, y1, "
        "x2, y2 or a dictionary of lists by file name; labels in val: the boxes of the data set",
    )


@dataclass(frozen=True, kw_only=True, eq=False, repr=False, init=False)
class LabelFileOptions(OptionValues):
    """Label files of detections."""

    save_txt: bool = option(False, "write detections as label files")
    save_conf: bool = option(False, "add the confidence to label files")


@dataclass(frozen=True, kw_only=True, eq=False, repr=False, init=False)
class DrawingOptions(OptionValues):
    """Content of drawings."""

    show: bool = option(False, "open a window with the result")
    show_labels: bool = option(True, "draw class names")
    show_conf: bool = option(True, "draw confidences")
    show_boxes: bool = option(True, "draw boxes")
    line_width: int | None = option(None, "line width in pixels; depends on the image size by default", low=1)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class PredictOptions(DrawingOptions, LabelFileOptions, RunFolderOptions, DetectionOptions, CommonOptions):
    """Options of `predict`."""

    source: Any = option(None, "image, folder, glob, video, stream or list of images")
    batch: int = option(1, "images per batch", low=1)
    stream: bool = option(False, "return results one by one (only in Python)")
    save: bool = option(False, "write annotated images and videos (default on the command line)")
    save_crop: bool = option(False, "write the crop of each detection")
    save_frames: bool = option(False, "write the frames of a video as images, without drawings")
    save_json: bool = option(False, "write detections as COCO results, predictions.json")
    save_jsonl: bool = option(False, "write predictions.jsonl: one line per image or frame, written as it is predicted")
    save_csv: bool = option(False, "write predictions.csv: one row per detection")
    vid_stride: int = option(1, "use every n-th frame of a video", low=1)
    stream_buffer: bool = option(False, "buffer all frames of a live stream instead of using the newest")
    fast_decode: bool = option(False, "decode large JPEGs at a reduced scale: faster, with slightly different results")
    compile: bool | str = option(False, "compile the network: takes half a minute once, then images are faster")
    uncertainty: bool = option(False, "output σ of each keypoint, keypoints.sigma (YOLO26)")
    embed: int | Sequence[int] | None = option(
        None, "return vectors (means of the maps of these layers) instead of results, as model.embed (only in Python)"
    )


@dataclass(frozen=True, kw_only=True, eq=False, repr=False, init=False)
class DataOptions(OptionValues):
    """Data set and loading."""

    data: str | None = option(None, "data YAML")
    single_cls: bool = option(False, "treat all classes as one")
    workers: int | None = option(
        None, "threads or processes that load images; 8 by default, at most one per CPU", low=0
    )
    strict: bool = option(False, "raise an error for an invalid label file or image instead of skipping it")
    download: bool | None = option(
        None, "download a missing data set: up to 1 GB by default; True any size; False never"
    )
    fraction: float | int | Sequence[Any] = option(
        1.0,
        "training images to use: a share up to 1, a number above 1, or a list with one of these per entry of train:",
    )


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class ValOptions(LabelFileOptions, RunFolderOptions, DetectionOptions, DataOptions, CommonOptions):
    """Options of `val`."""

    split: str = option("val", "split to evaluate", choices=("train", "val", "test"))
    batch: int = option(16, "images per batch", low=1)
    rect: bool = option(True, "batches of similar aspect ratios with minimal padding")
    save_json: bool = option(False, "write detections as COCO results")
    protocol: str = option(
        "reference",
        "coco: additionally AP and AR of the COCO evaluation, on the detections that save_json writes",
        choices=("reference", "coco"),
    )
    annotations: str | None = option(
        None, "COCO JSON of the split for protocol=coco; by default that of the data set, or made from the labels"
    )
    plots: bool = option(True, "draw curves, confusion matrix and sample batches")


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class ExportOptions(CommonOptions):
    """Options of `export`."""

    format: str = option("torchscript", "file format")
    data: str | None = option(None, "data YAML: its images calibrate int8, and one of them tests the file")
    split: str = option("val", "split of these images", choices=("train", "val", "test"))
    fraction: float = option(1.0, "share of these images", low=0, high=1)
    batch: int = option(1, "batch of the exported network", low=1)
    half: bool = option(False, "16-bit floats")
    int8: bool = option(False, "8-bit integers, calibrated on images of data=")
    quantize: int | str | None = option(
        None,
        "precision: 8 is int8=True, 16 is half=True, 32 is neither",
        choices=(None, 8, 16, 32, "int8", "fp16", "fp32", "w8a8", "w16a16", "w8a16", "w8a32"),
    )
    dynamic: bool = option(False, "any input size")
    simplify: bool = option(True, "simplify the graph")
    opset: int | None = option(None, "ONNX operator set", low=1)
    workspace: float | None = option(None, "TensorRT workspace in GiB", low=0)
    nms: bool | None = option(None, "include NMS in the graph; False: same as end2end=True")
    end2end: bool | None = option(None, "export the NMS-free output of a YOLO26 network")
    uncertainty: bool = option(False, "output σ of each keypoint: 2·K more values per detection (YOLO26)")
    optimize: bool = option(False, "optimize for mobile processors")
    web_runtime: str | None = option(
        None,
        "format=web: fetch (download the runtime of the page from npm once), or the folder or .tgz of that package",
    )
    name: str | None = option(None, "target chip of format=rknn; rk3588 by default")
    keras: bool = option(False, "write a Keras model", unread=True)
    conf: float | None = option(None, "confidence threshold of nms=True; 0.25 by default", low=0, high=1)
    iou: float = option(0.7, "IoU threshold of nms=True", low=0, high=1)
    max_det: int = option(300, "rows per image in the output of nms=True", low=1, high=30_000)
    agnostic_nms: bool = option(False, "NMS across classes with nms=True")
    classes: int | Sequence[int] | None = option(None, "keep only these class indices with nms=True", low=0)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class BenchmarkOptions(RunFolderOptions, CommonOptions):
    """Options of `benchmark`."""

    data: str | None = option(None, "data YAML to evaluate on; by default the one that the weights were trained on")
    split: str = option("val", "split to evaluate", choices=("train", "val", "test"))
    format: str = option("", "only this format; every available one by default")
    half: bool = option(False, "16-bit floats")
    int8: bool = option(False, "8-bit integers, calibrated on images of the train split")
    nms: bool = option(False, "include NMS in the files")
    fraction: float = option(1.0, "share of the images that calibrate int8", low=0, high=1)
    plots: bool = option(True, "plot accuracy over speed")
    detector: str | None = option(
        None, "for a top-down network (rtmpose-m): model that finds the instances, or image for the whole image"
    )
    verbose: bool | float = option(  # pyright: ignore[reportIncompatibleVariableOverride]  # public interface
        True, "print progress and results; a number: raise an error where pose mAP50-95 is below it", low=0, high=1
    )


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class TrackOptions(PredictOptions):
    """Options of `track`."""

    tracker: str = option(
        "oks.yaml",
        "oks.yaml, bytetrack.yaml, ocsort.yaml, botsort.yaml, your own YAML, or trackers:NAME of the package trackers",
    )
    persist: bool = option(False, "keep tracks between calls (only in Python)")
    max_instances: int | None = option(None, "number of instances in the scene: never more ids than that", low=1)
    fps: float | None = option(
        None, "frames per second of images, and of a video that does not state it; 30 by default", low=0.001
    )
    timestamp: float | None = option(None, "time of the image in seconds, with persist (only in Python)")
    smooth: bool | str = option(
        False,
        "smooth keypoints: True while tracking, with a small lag; offline: afterwards, in predictions-smooth.jsonl",
        choices=(False, True, "offline"),
    )
    save_tracks: str | None = option(
        None,
        "write tracks/NAME in this format, a file for each video",
        choices=(None, "mot", "parquet", "deeplabcut", "csv", "jsonl"),
    )
    save_period: int = option(
        100, "save the state of a run that writes files every n frames, for resume; 0 never does", low=0
    )
    resume: str | None = option(None, "folder of an interrupted run to continue, such as runs/pose/track2")


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class EmbedOptions(RunFolderOptions, CommonOptions):
    """Options of `embed`: vectors of images, and the search of the nearest ones."""

    source: Any = option(None, "images or videos: a file, folder, glob or list")
    layers: int | Sequence[int] | None = option(
        None, "layers whose maps are averaged, in this order; the one before the head by default"
    )
    output: str | None = option(None, "file of vectors to write (.npz); by default in a new folder runs/pose/embed")
    index: str | None = option(None, "file of vectors in which the images nearest to those of source are searched")
    nearest: int = option(5, "number of nearest images to list for each image, with index=", low=1)
    batch: int = option(1, "images per batch", low=1)
    stream: bool = option(False, "return vectors one by one (only in Python)")
    half: bool = option(False, "compute in 16 bits where the device is faster with it")
    vid_stride: int = option(1, "use every n-th frame of a video", low=1)
    stream_buffer: bool = option(False, "process all frames of a stream instead of only the newest")
    fast_decode: bool = option(False, "decode large JPEGs at a reduced scale: faster, with slightly different results")


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class ConvertOptions(OptionValues):
    """Options of `convert`: annotations (`source`) or a data set (`data`) to another format (`to`)."""

    source: str | None = option(None, "file or folder of the annotations")
    data: str | None = option(None, "data YAML to convert; by default to a COCO JSON file")
    to: str | None = option(None, "format to write: yolo, coco, cvat, labelstudio, …; by default yolo")
    source_format: str | None = option(None, "format of the source (from=); by default it is detected")
    output: str | None = option(None, "output folder (TO_converted), or file where the format is one file")
    images: str | None = option(None, "folder of the images; by default searched beside the annotations")
    split: str | None = option(None, "convert only this split; also the name of the split of images without one")
    copy_images: bool | None = option(None, "copy images into the output; by default as the format needs")
    kpt_dims: int | None = option(None, "values for each keypoint in rows: 2 (x y) or 3 (x y v)", low=2, high=3)
    kpt_names: str | None = option(None, "keypoint names, separated by commas, for formats that do not store them")
    class_names: str | None = option(None, "class names, separated by commas, for formats that do not store them")
    url: str | None = option(None, "text in front of image names, for tools that load images from a server")
    min_conf: float = option(0.0, "keypoints predicted below this confidence are absent", low=0, high=1)
    hidden: bool = option(False, "SLEAP: read points that are not visible as hidden instead of absent")
    predicted: bool = option(True, "SLEAP: read instances that a model predicted")
    class_key: str | None = option(None, "VIA: name of the attribute with the class")
    keypoint_key: str | None = option(None, "VIA: name of the attribute with the keypoint")
    instance_key: str | None = option(None, "VIA: name of the attribute that regions of one instance share")
    visibility_key: str | None = option(None, "VIA: name of the attribute with 2 (visible) or 1 (hidden)")


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class CompareOptions(OptionValues):
    """Options of `compare`: two runs of `val` on the same images."""

    a: str | None = option(None, "folder of the first run, such as runs/pose/val")
    b: str | None = option(None, "folder of the second run")


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class ReportOptions(OptionValues):
    """Options of `report`: write the report of a run again from its folder."""

    run: str | None = option(None, "folder of a validation run or training, such as runs/pose/val3")
    images: int = option(24, "maximum number of images in the report", low=0)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class EvaluateOptions(OptionValues):
    """Options of `evaluate`: tracks against a ground truth."""

    tracks: str | None = option(
        None, "track file (.jsonl, .csv, .parquet, MOTChallenge .txt), or folder with a file per video"
    )
    truth: str | None = option(None, "ground truth in the same forms; a folder may hold NAME/gt/gt.txt")
    similarity: str | None = option(
        None, "box (IoU) or oks (poses); both where the ground truth has keypoints", choices=(None, "box", "oks")
    )
    threshold: float = option(0.5, "least similarity of a match in CLEAR and IDF1", low=0, high=1)
    vid_stride: int = option(1, "evaluate every n-th frame, for tracks with vid_stride=n", low=1)
    data: str | None = option(None, "data YAML whose kpt_oks_sigmas are used; σ of a COCO person or 1/K by default")
    output: str | None = option(None, "JSON file of all scores")


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class SmoothOptions(OptionValues):
    """Options of `smooth`: smooth the keypoints of a track file and fill gaps."""

    source: str | None = option(None, "track file, such as runs/pose/track/predictions.jsonl")
    output: str | None = option(None, "new file; SOURCE-smooth with the same suffix by default")
    method: str = option(
        "rts",
        "rts: Kalman smoother that estimates the noise; savgol: moving polynomial; one_euro: the live filter",
        choices=("rts", "savgol", "one_euro"),
    )
    max_gap: int = option(5, "fill gaps of up to n frames within a track (rts, savgol)", low=0)
    min_conf: float = option(0.3, "points with a lower confidence are treated as missing", low=0, high=1)
    strength: float = option(1.0, "rts: above 1 smooths more, below 1 less", low=0.001, high=1000)
    window: int = option(7, "savgol: length of the window in frames, odd", low=3)
    order: int = option(2, "savgol: degree of the polynomial", low=0)
    min_cutoff: float = option(2.0, "one_euro: cutoff frequency of a point at rest, Hz; lower is smoother", low=0.001)
    beta: float = option(8.0, "one_euro: increase of the cutoff frequency per speed; higher has less lag", low=0)
    format: str | None = option(
        None,
        "format of the new file; by its suffix by default",
        choices=(None, "jsonl", "csv", "parquet", "mot", "deeplabcut"),
    )


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class DoctorOptions(RunFolderOptions):
    """Options of `doctor`: examine a data set (`data`), or report on the environment."""

    data: str | None = option(None, "data YAML to examine; without it, the environment is reported, as by yolo checks")
    model: str | None = option(None, "weights or exported file whose predictions are compared with the labels")
    fix: str | None = option(None, "new folder for a fixed copy of the data set")
    format: str = option("table", "what is printed: table, or json for programs", choices=("table", "json"))
    html: bool = option(True, "write doctor.html with images, and doctor.json, to the run folder")
    images: int = option(60, "maximum number of images in doctor.html", low=0)
    strict: bool = option(False, "exit with an error if there is a finding of severity error")
    imgsz: ImageSize = option(
        640, "side of the network input in pixels: for box sizes and for model=", low=1, high=100_000
    )
    device: DeviceSpec = option(None, "device of model=: cpu, 0, mps; the best available one by default")
    workers: int | None = option(None, "threads that read images; at most one per CPU", low=0)
    download: bool | None = option(
        None, "download a missing data set: up to 1 GB by default; True any size; False never"
    )
