"""Options of `yolo data …` and `yolo label`; see `options.py`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from yolopose.config.options import CommonOptions, OptionValues, option

_SPLITS = ("train", "val", "test")
_GROUPING = (
    "what stays together: image (nothing), group (frames of one video, copies of one image), or auto (groups where "
    "there are enough of them, else runs of consecutive frames)"
)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class LabelOptions(CommonOptions):
    """Options of `label`."""

    source: Any = option(None, "images or videos to label: a file, folder, glob or list")
    to: str = option("yolo", "annotation format to write, such as yolo, coco, cvat, labelstudio or labelme")
    output: str | None = option(None, "folder or file to write; a new folder under runs/pose/label by default")
    min_conf: float = option(0.25, "confidence from which instances are written", low=0, high=1)
    kpt_conf: float = option(0.5, "confidence below which keypoints are marked as hidden", low=0, high=1)
    min_kpt_conf: float = option(0.1, "confidence below which keypoints are marked as absent", low=0, high=1)
    suggest: int | None = option(
        None, "label only this number of images, those most worth labeling, and write the list with reasons", low=1
    )
    labeled: str | None = option(None, "data YAML of labeled images, from which suggestions should differ")
    copy: bool | None = option(None, "copy the images into the output; by default where the format needs it")
    url: str = option("", "text in front of image names, for tools that load images from a server")
    batch: int = option(1, "images per batch", low=1)
    vid_stride: int = option(1, "use every n-th frame of a video", low=1)
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
    detector: str | None = option(
        None,
        "for a top-down network (rtmpose-m): model that finds the instances, or image if one instance fills each image",
    )
    given_boxes: Any = option(
        None, "for a top-down network: COCO JSON or folder of label files with the boxes; in Python also lists"
    )


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class DataSplitOptions(OptionValues):
    """Options of `data split`: divide the images of a data set into train, val and test."""

    data: str | None = option(None, "data YAML")
    val: float = option(0.2, "share of the images for validation", low=0, high=1)
    test: float = option(0.0, "share of the images for testing; 0 keeps an existing test split", low=0, high=1)
    by: str = option("auto", _GROUPING, choices=("auto", "image", "group"))
    group: str | None = option(
        None, "regular expression on the path of an image; images with the same match (or first group) stay together"
    )
    seed: int = option(0, "random seed", low=0)
    copy: bool = option(False, "copy images and labels into a folder per split instead of writing lists")
    output: str | None = option(None, "new folder for data.yaml and the splits; NAME-split by default")


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class DataMergeOptions(OptionValues):
    """Options of `data merge`: join data sets, with classes and keypoints matched by name."""

    data: str | None = option(None, "data YAMLs or annotations of other formats, joined by commas: a.yaml,b.yaml")
    output: str | None = option(None, "new folder for the merged data set; merged by default")


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class DataSampleOptions(OptionValues):
    """Options of `data sample`: a smaller data set with the same proportions."""

    data: str | None = option(None, "data YAML")
    n: int = option(100, "number of images", low=1)
    split: str | None = option(
        None, "sample only this split and keep the others; all in proportion by default", choices=(None, *_SPLITS)
    )
    seed: int = option(0, "random seed", low=0)
    copy: bool = option(False, "copy images and labels into a folder per split instead of writing lists")
    output: str | None = option(None, "new folder for data.yaml and the splits; NAME-sample by default")


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class DataShowOptions(OptionValues):
    """Options of `data show`: an image of a grid of images with their labels."""

    data: str | None = option(None, "data YAML")
    split: str = option("train", "split to show", choices=_SPLITS)
    images: int = option(24, "number of images, spread evenly over the split", low=1, high=400)
    columns: int = option(6, "images per row", low=1, high=40)
    tile: int = option(320, "side of an image in the grid, pixels", low=64, high=2000)
    seed: int | None = option(None, "choose the images randomly with this seed instead", low=0)
    output: str | None = option(None, "image file to write; NAME-SPLIT.png by default")


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class DataListOptions(OptionValues):
    """Options of `data list`: the known data sets."""

    name: str | None = option(None, "show all that is known of this data set")
    find: str | None = option(None, "list only data sets with this text in their name, title, classes or keypoints")


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class DataGetOptions(OptionValues):
    """Options of `data get`: download a known data set."""

    name: str | None = option(None, "name of a data set of `yolo data list`, or a data YAML with `download:`")
    source: str | None = option(
        None, "annotations that you downloaded, joined by commas, of a data set that cannot be downloaded directly"
    )
    images: str | None = option(None, "folder of their images; by default searched beside the annotations")
    split: str | None = option(
        None, "download only the images of this split, or the split of `source`", choices=(None, *_SPLITS)
    )
